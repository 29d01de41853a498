"""The search cell against its definition: value and every gradient, in float64.

Shape suffixes: B batch, C channels, H height, W width, E edges, O operations.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from supernet import operations
from supernet.cell import SearchCell
from supernet.mixed_op import MixedOp, ReferenceCell
from supernet.norm import NormFactory, held_statistics, norm_factory
from supernet.operations import AvgPool3x3, ReLUConvBN, Zero, build_operation, register_operation
from supernet.spaces.cells import NAS_BENCH_201, CellSpace
from supernet.wiring import Cell

pytestmark = pytest.mark.usefixtures("fast_forms")

Active = tuple[tuple[bool, ...], ...]
CHANNELS = 3
CONVOLUTIONS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
SUBLISTS = [
    ("none", "skip_connect"),
    ("none", "avg_pool_3x3", "skip_connect"),
    ("nor_conv_3x3", "none"),
    ("nor_conv_1x1", "nor_conv_3x3"),
    ("avg_pool_3x3", "nor_conv_3x3", "nor_conv_1x1", "skip_connect", "none"),  # another order
]


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def complete(num_nodes: int = 4, names: Sequence[str] = NAS_BENCH_201) -> Cell:
    """The wiring of NAS-Bench-201's cell, of other sizes and operations too."""
    return CellSpace(num_nodes, names).cells["cell"]


def filled(wiring: Cell, mode: str, training: bool, channels: int = CHANNELS, seed: int = 0) -> SearchCell:
    """A search cell with drawn weights and drawn running statistics."""
    cell = SearchCell(wiring, channels, norm_factory(mode, affine=False))
    generator = torch.Generator().manual_seed(seed)
    for parameter in cell.parameters():
        parameter.data.normal_(generator=generator)
    for name, buffer in cell.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(generator=generator)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0, generator=generator)
    return cell.train(training)


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def everything(wiring: Cell) -> Active:
    return ((True,) * len(wiring.candidates),) * len(wiring.edges)


def edges_from(wiring: Cell, source: int) -> list[int]:
    """Positions of the edges that leave a node, nearest target first."""
    leaving = [(target, edge) for edge, (start, target) in enumerate(wiring.edges) if start == source]
    return [edge for _, edge in sorted(leaving)]


@dataclass
class Pair:
    """A tensor of the search cell and its counterpart in the reference."""

    name: str
    position: int
    edge: int
    mine: Tensor | None
    theirs: Tensor | None


def operation_of(reference: ReferenceCell, edge: int, position: int) -> nn.Module:
    mixed = reference.edges[edge]
    assert isinstance(mixed, MixedOp)
    return mixed.candidates[position]


def pairs_of(cell: SearchCell, reference: ReferenceCell, gradients: bool = False) -> Iterator[Pair]:
    """Every weight and running statistic of the search cell beside the reference's, edge by edge."""

    def of(tensor: Tensor | None) -> Tensor | None:
        return tensor.grad if gradients and tensor is not None else tensor

    for (key, module), name in itertools.product(cell.stacked.items(), ("weight", "running_mean", "running_var")):
        source, position = map(int, key.split(":"))
        stacked = of(getattr(module, name))
        for place, edge in enumerate(edges_from(cell.cell, source)):
            rows = None if stacked is None else stacked[place * cell.channels : (place + 1) * cell.channels]
            operation = operation_of(reference, edge, position)
            assert isinstance(operation, ReLUConvBN)
            theirs = operation.convolution.weight if name == "weight" else getattr(operation.norm, name)
            yield Pair(f"{key} {name}", position, edge, rows, of(theirs))
    for key, module in cell.single.items():
        edge, position = map(int, key.split(":"))
        theirs = dict(operation_of(reference, edge, position).state_dict(keep_vars=True))
        for name, tensor in module.state_dict(keep_vars=True).items():
            yield Pair(f"{key} {name}", position, edge, of(tensor), of(theirs.pop(name)))
        assert not theirs


def like(value: Tensor, other: Tensor) -> Tensor:
    """The first entries of a tensor in every dimension, as many as another one has."""
    return value[tuple(slice(size) for size in other.shape)]


def same(pair: Pair) -> bool:
    """Equal within 1e-10 in the channels that the reference has; what is missing counts as zero."""
    mine, theirs = (torch.zeros(()) if tensor is None else tensor.detach() for tensor in (pair.mine, pair.theirs))
    if pair.theirs is not None and pair.mine is not None:
        mine = like(mine, theirs)
    return torch.allclose(mine.double(), theirs.double(), rtol=1e-10, atol=1e-10)


def narrowed(cell: SearchCell, partial: int) -> ReferenceCell:
    """The reference with C / partial channels, and the weights of the first channels."""
    whole = cell.reference()
    if partial == 1:
        return whole
    reference = ReferenceCell(cell.cell, cell.channels // partial, cell.norm).train(cell.training)
    states = whole.state_dict()
    reference.load_state_dict({name: like(states[name], value) for name, value in reference.state_dict().items()})
    return reference


def numbers(module: nn.Module) -> int:
    """How many trained numbers a module has."""
    return sum(parameter.numel() for parameter in module.parameters())


def with_gradients(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.clone().requires_grad_()


def assert_equal_in_value_and_every_gradient(
    cell: SearchCell,
    x_BCHW: Tensor | Sequence[Tensor],
    weights_EO: Tensor,
    active_EO: Active,
    extra_skip_E: Tensor | None = None,
    partial: int = 1,
    bypass_E: Tensor | None = None,
) -> None:
    """Compare with the reference, where an operation that is not active has weight zero."""
    reference = narrowed(cell, partial)
    assert partial > 1 or numbers(cell) == numbers(reference)
    images = [x_BCHW] if isinstance(x_BCHW, Tensor) else x_BCHW
    given = [*images, weights_EO, extra_skip_E, bypass_E]
    mine, theirs = ([with_gradients(value) for value in given] for _ in range(2))
    mask_EO = torch.tensor(active_EO, dtype=weights_EO.dtype)
    inputs = [values[0] if isinstance(x_BCHW, Tensor) else values[:-3] for values in (mine, theirs)]
    out = cell(inputs[0], mine[-3], active_EO, mine[-2], partial, mine[-1])
    expected = reference(inputs[1], theirs[-3] * mask_EO, theirs[-2], partial, theirs[-1])
    close(out, expected)
    direction = drawn(*expected.shape, seed=7)
    for value, values in ((out, mine), (expected, theirs)):
        nothing = sum(0 * leaf.sum() for leaf in values if leaf is not None)  # a gradient even where all is dead
        ((value * direction).sum() + nothing).backward()
    for leaf, other in zip(mine, theirs, strict=True):
        if leaf is not None and other is not None:
            assert leaf.grad is not None
            assert other.grad is not None
            close(leaf.grad, other.grad)
    pairs = list(pairs_of(cell, reference, gradients=True))
    assert not [pair.name for pair in pairs if not same(pair)]
    covered = sum(pair.mine.numel() for pair in pairs if pair.mine is not None)
    assert covered == sum(parameter.numel() for parameter in cell.parameters() if parameter.grad is not None)
    for pair in pairs:  # weights of the other channels
        if pair.mine is not None and pair.theirs is not None:
            assert pair.mine.count_nonzero() == like(pair.mine, pair.theirs).count_nonzero(), pair.name
    tracked = [pair for pair in pairs_of(cell, reference) if active_EO[pair.edge][pair.position]]
    assert not [pair.name for pair in tracked if not same(pair)]  # running statistics after the pass


# --- The definition


def normalised(value_BCHW: Tensor) -> Tensor:
    mean = value_BCHW.mean((0, 2, 3), keepdim=True)
    return (value_BCHW - mean) / ((value_BCHW - mean).square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()


def test_the_reference_is_the_published_mixture() -> None:
    """DARTS eq. 2 with NAS-Bench-201's operations, written out; the pool is a mean over the pixels there are."""
    wiring = complete()
    reference = filled(wiring, "batch", training=True).reference()
    x_BCHW, weights_EO = drawn(2, CHANNELS, 4, 5), drawn(6, 5, seed=2)
    nodes = [x_BCHW]
    for target, incoming in enumerate(([0], [1, 2], [3, 4, 5]), start=1):
        total = torch.zeros_like(x_BCHW)
        for source, edge in enumerate(incoming):
            value = nodes[source]
            kernels = [operation_of(reference, edge, position)[1].weight for position in (2, 3)]  # type: ignore[index]
            ones = torch.ones(CHANNELS, 1, 3, 3)
            sums, counts = (
                F.conv2d(tensor, ones, padding=1, groups=CHANNELS) for tensor in (value, torch.ones_like(value))
            )
            total = total + weights_EO[edge, 1] * value
            total = total + weights_EO[edge, 2] * normalised(F.conv2d(value.clamp(min=0), kernels[0]))
            total = total + weights_EO[edge, 3] * normalised(F.conv2d(value.clamp(min=0), kernels[1], padding=1))
            total = total + weights_EO[edge, 4] * sums / counts
        assert len(nodes) == target
        nodes.append(total)
    close(reference(x_BCHW, weights_EO), nodes[3])


@pytest.mark.parametrize("kind", ["search", "reference"])
def test_a_cell_without_convolutions_is_a_polynomial_on_a_constant_image(kind: str) -> None:
    """On constants skip and pool are the identity; with a_e = skip + pool the output is x times
    a3 + a0 a4 + (a1 + a0 a2) a5 for the edges 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2."""
    wiring = complete(4, ["none", "skip_connect", "avg_pool_3x3"])
    cell = SearchCell(wiring, 1, norm_factory("batch", affine=False))
    weights_EO = torch.tensor([[9.0, e + 1.0, -0.5] for e in range(6)], requires_grad=True)
    x = torch.full((1, 1, 3, 4), 2.0)
    out = cell(x, weights_EO, everything(wiring)) if kind == "search" else cell.reference()(x, weights_EO)
    a = [e + 0.5 for e in range(6)]
    polynomial = a[3] + a[0] * a[4] + (a[1] + a[0] * a[2]) * a[5]
    close(out, x * polynomial)
    out[0, 0, 1, 1].backward()
    slopes = [a[4] + a[2] * a[5], a[5], a[0] * a[5], 1.0, a[0], a[1] + a[0] * a[2]]
    close(weights_EO.grad, torch.tensor([[0.0, 2.0 * s, 2.0 * s] for s in slopes]))  # type: ignore[arg-type]


@pytest.mark.parametrize("num_nodes", range(2, 6))
def test_weights_of_all_edges_that_leave_a_node_are_stored_together(num_nodes: int) -> None:
    """One tensor a source node and kernel size, C output channels for each of its edges, and nothing else."""
    cell = SearchCell(complete(num_nodes), CHANNELS, norm_factory("batch", affine=False))
    shapes = sorted(tuple(parameter.shape) for parameter in cell.parameters())
    expected = [(targets * CHANNELS, CHANNELS, k, k) for targets in range(1, num_nodes) for k in (1, 3)]
    assert shapes == sorted(expected)


def test_the_reference_holds_a_copy_of_the_weights_edge_by_edge() -> None:
    cell = filled(complete(), "running", training=True)
    reference = cell.reference()
    pairs = list(pairs_of(cell, reference))
    assert len(pairs) == 6 * 2 * 3
    for pair in pairs:
        assert pair.mine is not None
        assert pair.theirs is not None
        assert torch.equal(pair.mine, pair.theirs)
        assert pair.mine.untyped_storage().data_ptr() != pair.theirs.untyped_storage().data_ptr()


# --- Equality


@pytest.mark.parametrize(("batch", "size"), [(1, (3, 3)), (2, (5, 2))])
@pytest.mark.parametrize("num_nodes", range(2, 6))
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("mode", ["batch", "running"])
def test_dense_cells_equal_the_reference(
    mode: str, training: bool, num_nodes: int, batch: int, size: tuple[int, int]
) -> None:
    wiring = complete(num_nodes)
    weights_EO = drawn(len(wiring.edges), 5, seed=num_nodes)
    x_BCHW = drawn(batch, CHANNELS, *size)
    assert_equal_in_value_and_every_gradient(filled(wiring, mode, training), x_BCHW, weights_EO, everything(wiring))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("mode", ["batch", "running"])
@pytest.mark.parametrize("names", SUBLISTS, ids="-".join)
def test_cells_over_other_operations_equal_the_reference(names: tuple[str, ...], mode: str, training: bool) -> None:
    wiring = complete(4, names)
    weights_EO = drawn(6, len(names), seed=5)
    cell = filled(wiring, mode, training)
    assert_equal_in_value_and_every_gradient(cell, drawn(2, CHANNELS, 1, 3), weights_EO, everything(wiring))


ZEROED = {
    "into-node-1": [0],
    "into-node-2": [1, 2],
    "out-of-node-0": [0, 1, 3],
    "into-the-output": [3, 4, 5],
    "all": [0, 1, 2, 3, 4, 5],
}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("mode", ["batch", "running"])
@pytest.mark.parametrize("edges", ZEROED.values(), ids=ZEROED.keys())
@pytest.mark.parametrize("drop", [False, True], ids=["weight-zero", "inactive"])
def test_cells_with_dead_edges_equal_the_reference(drop: bool, edges: list[int], mode: str, training: bool) -> None:
    """Edges of weight zero, computed or left out: a dead node is zero, yet running means still shift what leaves it."""
    wiring = complete()
    weights_EO = drawn(6, 5, seed=6)
    weights_EO[edges] = 0.0
    active = tuple((not (drop and edge in edges),) * 5 for edge in range(6))
    assert_equal_in_value_and_every_gradient(
        filled(wiring, mode, training), drawn(2, CHANNELS, 4, 4), weights_EO, active
    )


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("mode", ["batch", "running"])
@pytest.mark.parametrize("share", [0.2, 0.6])
@pytest.mark.parametrize("num_nodes", [2, 3, 4, 5])
def test_sparse_cells_equal_the_reference(num_nodes: int, share: float, mode: str, training: bool) -> None:
    wiring = complete(num_nodes)
    generator = torch.Generator().manual_seed(num_nodes)
    for draw in range(2):
        mask_EO = torch.rand(len(wiring.edges), 5, generator=generator) < share
        active = tuple(tuple(row) for row in mask_EO.tolist())
        weights_EO = drawn(len(wiring.edges), 5, seed=draw)
        cell = filled(wiring, mode, training, seed=draw)
        assert_equal_in_value_and_every_gradient(cell, drawn(1 + draw % 2, CHANNELS, 5, 3), weights_EO, active)


@pytest.mark.parametrize("mode", ["batch", "running"])
def test_one_operation_an_edge_equals_the_reference(mode: str) -> None:
    """Single paths, weighted by other numbers than one; one draw holds all kinds of operations, two are uniform."""
    wiring = complete()
    for draw, choices in enumerate([(0, 1, 2, 3, 4, 3), (3, 3, 2, 4, 1, 0), (3,) * 6, (0,) * 6, (2, 0, 0, 3, 2, 1)]):
        active = tuple(tuple(position == choice for position in range(5)) for choice in choices)
        cell = filled(wiring, mode, training=bool(draw % 2), seed=draw)
        weights_EO = drawn(6, 5, seed=draw)
        assert_equal_in_value_and_every_gradient(cell, drawn(2, CHANNELS, 3, 3), weights_EO, active)


def test_channels_last_images_give_the_same() -> None:
    wiring = complete()
    cell = filled(wiring, "batch", training=True)
    x_BCHW, weights_EO = drawn(2, CHANNELS, 4, 4), drawn(6, 5)
    expected = cell.reference()(x_BCHW, weights_EO)
    close(cell(x_BCHW.to(memory_format=torch.channels_last), weights_EO, everything(wiring)), expected)


def test_running_statistics_follow_the_reference_over_passes() -> None:
    """Three training passes, sparse ones among them, then evaluation with what they tracked."""
    wiring = complete()
    cell = filled(wiring, "running", training=True)
    references = [cell.reference()]
    masks = [everything(wiring), ((True, True, False, True, True),) * 6, everything(wiring)]
    for step, active in enumerate(masks):
        x_BCHW, weights_EO = drawn(2, CHANNELS, 4, 4, seed=step), drawn(6, 5, seed=step)
        cell(x_BCHW, weights_EO, active)
        weights_EO[:, 2] *= active[0][2]
        kept = [operation_of(references[0], edge, 2).state_dict() for edge in range(6)]
        kept = [{name: value.clone() for name, value in state.items()} for state in kept]
        references[0](x_BCHW, weights_EO)
        if not active[0][2]:  # the reference computes all; put back what the cell leaves alone
            for edge in range(6):
                operation_of(references[0], edge, 2).load_state_dict(kept[edge])
    for pair in pairs_of(cell, references[0]):
        assert pair.mine is not None
        assert pair.theirs is not None
        close(pair.mine, pair.theirs)
    x_BCHW, weights_EO = drawn(1, CHANNELS, 3, 3, seed=9), drawn(6, 5, seed=9)
    close(cell.eval()(x_BCHW, weights_EO, everything(wiring)), references[0].eval()(x_BCHW, weights_EO))


# --- Finite differences


@pytest.mark.parametrize("mode", ["batch", "running"])
@pytest.mark.parametrize("num_nodes", [2, 3])
def test_gradients_agree_with_finite_differences(num_nodes: int, mode: str) -> None:
    """With respect to the image, the edge weights and every stacked weight; evaluation uses running statistics."""
    wiring = complete(num_nodes)
    cell = filled(wiring, mode, training=mode == "batch", channels=2)
    names, weights = zip(*cell.named_parameters(), strict=True)

    def value(x_BCHW: Tensor, weights_EO: Tensor, *tensors: Tensor) -> Tensor:
        arguments = (x_BCHW, weights_EO, everything(wiring))
        return functional_call(cell, dict(zip(names, tensors, strict=True)), arguments)

    x_BCHW, weights_EO = drawn(2, 2, 3, 2), drawn(len(wiring.edges), 5)
    inputs = [tensor.detach().requires_grad_() for tensor in (x_BCHW, weights_EO, *weights)]
    assert torch.autograd.gradcheck(value, inputs)
    if num_nodes == 3 and mode == "batch":  # exact differentiation through a training step needs second derivatives
        assert torch.autograd.gradgradcheck(value, inputs, fast_mode=True)


# --- What is not active


class Untouchable(nn.Module):
    """Fails when it is computed."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        raise AssertionError("an inactive operation was computed")


@pytest.fixture
def registry() -> Iterator[None]:
    """The registry, put back afterwards."""
    before = dict(operations.OPERATIONS)
    yield
    operations.OPERATIONS.clear()
    operations.OPERATIONS.update(before)


def test_inactive_operations_are_not_computed(registry: None) -> None:
    register_operation("untouchable", lambda channels, stride, norm: Untouchable())
    wiring = complete(4, ["skip_connect", "untouchable"])
    cell = SearchCell(wiring, CHANNELS, norm_factory("batch", affine=False))
    x_BCHW = drawn(1, CHANNELS, 2, 2)
    close(cell(x_BCHW, torch.ones(6, 2), ((True, False),) * 6), 4 * x_BCHW)  # 1 + 1 + (1 + 1), see the polynomial
    with pytest.raises(AssertionError, match="inactive"):
        cell(x_BCHW, torch.ones(6, 2), ((True, False),) * 5 + ((True, True),))


def test_inactive_convolutions_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's own counter sees the active convolutions alone: 3x3 on 3<-0 and 2<-0, 1x1 on 3<-2.

    The 1x1 convolution is a product with its input, whose covariance is another one as large.
    """
    monkeypatch.setattr(SearchCell, "native", False)  # compiled kernels are not seen
    wiring = complete()
    cell = filled(wiring, "batch", training=True)
    active = [[True, True, False, False, False] for _ in range(6)]
    active[3][3] = active[1][3] = active[5][2] = True
    with FlopCounterMode(display=False) as counter:
        cell(drawn(2, CHANNELS, 3, 5), drawn(6, 5), tuple(map(tuple, active)))
    counts = counter.get_flop_counts()["Global"]
    one = 2 * (2 * 3 * 5) * CHANNELS**2  # of a 1x1 convolution: two a multiply-add, two images
    assert counts.pop(torch.ops.aten.convolution) == one * (9 + 9)
    assert one <= sum(counts.values()) < 2.5 * one


@pytest.mark.parametrize("mode", ["batch", "running"])
def test_inactive_operations_get_no_gradient_and_keep_their_statistics(mode: str) -> None:
    """Active: the 3x3 convolution on 1<-0 and 3<-0 and on 3<-2, skip connections elsewhere."""
    wiring = complete()
    cell = filled(wiring, mode, training=True)
    before = {name: buffer.clone() for name, buffer in cell.named_buffers()}
    choices = (3, 1, 1, 3, 1, 3)
    active = tuple(tuple(position == choice for position in range(5)) for choice in choices)
    weights_EO = drawn(6, 5).requires_grad_()
    (cell(drawn(2, CHANNELS, 4, 4), weights_EO, active) ** 3).sum().backward()
    assert weights_EO.grad is not None
    assert torch.equal(weights_EO.grad != 0, torch.tensor(active))
    touched = set()
    for pair in pairs_of(cell, cell.reference(), gradients=True):
        if pair.name.endswith("weight") and pair.mine is not None and pair.mine.count_nonzero():
            touched.add((pair.edge, pair.position))
    assert touched == {(0, 3), (3, 3), (5, 3)}
    unused = {key for key, module in cell.stacked.items() if module.weight.grad is None}
    assert unused == {"0:2", "1:2", "1:3", "2:2"}  # a stack without an active edge has no gradient at all
    for name, buffer in cell.named_buffers():
        key, place = name.split(".")[1], torch.arange(len(buffer)) // CHANNELS
        active_rows = {"0:3": place != 1, "2:3": place >= 0}.get(key, place < 0)
        assert torch.equal((buffer - before[name]) != 0, active_rows)


def test_a_cell_with_nothing_active_is_zero() -> None:
    wiring = complete()
    out = filled(wiring, "batch", training=True)(drawn(2, CHANNELS, 3, 3), drawn(6, 5), ((False,) * 5,) * 6)
    assert out.shape == (2, CHANNELS, 3, 3)
    assert out.count_nonzero() == 0


# --- Statistics that are held


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_held_statistics_stay_and_the_pass_is_the_same(sparse: bool) -> None:
    wiring = complete()
    cell, twin = filled(wiring, "running", training=True), filled(wiring, "running", training=True)
    before = {name: buffer.clone() for name, buffer in cell.named_buffers()}
    x_BCHW, weights_EO = drawn(2, CHANNELS, 3, 3), drawn(6, 5)
    active = ((True, True, True, False, True), *everything(wiring)[1:]) if sparse else everything(wiring)
    with held_statistics(cell):
        held = cell(x_BCHW, weights_EO, active)
    assert all(torch.equal(buffer, before[name]) for name, buffer in cell.named_buffers())
    assert torch.equal(held, twin(x_BCHW, weights_EO, active))
    assert torch.equal(cell(x_BCHW, weights_EO, active), held)
    for (name, buffer), (_, expected) in zip(cell.named_buffers(), twin.named_buffers(), strict=True):
        assert torch.equal(buffer, expected)  # tracking goes on afterwards as before
        assert not torch.equal(buffer, before[name])


def test_statistics_are_tracked_again_after_an_error_and_after_nesting() -> None:
    cell = filled(complete(2), "running", training=True)
    with pytest.raises(KeyError), held_statistics(cell), held_statistics(cell):
        raise KeyError
    before = {name: buffer.clone() for name, buffer in cell.named_buffers()}
    cell(drawn(2, CHANNELS, 3, 3), drawn(1, 5), everything(cell.cell))
    assert all(not torch.equal(buffer, before[name]) for name, buffer in cell.named_buffers())


# --- Operations of the user's


class DilatedReLUConvBN(ReLUConvBN):
    """A subclass of the built-in convolution whose kernel has holes."""

    def __init__(self, channels: int, norm: NormFactory) -> None:
        super().__init__(channels, 3, norm)
        self[1] = nn.Conv2d(channels, channels, 3, padding=2, dilation=2, bias=False)


class AntiReLUConvBN(ReLUConvBN):
    """A subclass that does something else in its forward pass."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return super().forward(-x_BCHW)


def with_convolution(channels: int, norm: NormFactory, **options: object) -> ReLUConvBN:
    """The built-in class itself with a convolution of the user's put in."""
    module = ReLUConvBN(channels, 3, norm)
    module[1] = nn.Conv2d(channels, channels, 3, bias=False, **options)  # type: ignore[arg-type]
    return module


def with_activation(channels: int, norm: NormFactory) -> ReLUConvBN:
    """The built-in class itself with another activation put in."""
    module = ReLUConvBN(channels, 3, norm)
    module[0] = nn.Softplus()
    return module


CUSTOM = {
    # bias: zero in, bias out
    "scale": lambda channels, stride, norm: nn.Conv2d(channels, channels, 1, groups=channels),
    "separable": lambda channels, stride, norm: nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        norm(channels),
    ),
    "dilated": lambda channels, stride, norm: DilatedReLUConvBN(channels, norm),
    "anti": lambda channels, stride, norm: AntiReLUConvBN(channels, 3, norm),
    "conv_5x5": lambda channels, stride, norm: ReLUConvBN(channels, 5, norm),
    "max_pool": lambda channels, stride, norm: nn.MaxPool2d(3, 1, 1),
    "own_norm": lambda channels, stride, norm: nn.Sequential(
        nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)
    ),
    "put_in_dilation": lambda channels, stride, norm: with_convolution(channels, norm, padding=2, dilation=2),
    "put_in_groups": lambda channels, stride, norm: with_convolution(channels, norm, padding=1, groups=channels),
    "put_in_circular": lambda channels, stride, norm: with_convolution(
        channels, norm, padding=1, padding_mode="circular"
    ),
    "put_in_activation": lambda channels, stride, norm: with_activation(channels, norm),
    "group_norm": lambda channels, stride, norm: ReLUConvBN(channels, 3, lambda width: nn.GroupNorm(1, width)),
    "affine_norm": lambda channels, stride, norm: ReLUConvBN(channels, 3, nn.BatchNorm2d),
    "slow_norm": lambda channels, stride, norm: ReLUConvBN(
        channels, 3, lambda width: nn.BatchNorm2d(width, momentum=0.01, affine=False)
    ),
}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("mode", ["batch", "running"])
@pytest.mark.parametrize("name", CUSTOM)
def test_registered_operations_equal_the_reference(name: str, mode: str, training: bool, registry: None) -> None:
    register_operation(name, CUSTOM[name])
    wiring = complete(4, ["none", "nor_conv_3x3", name, "skip_connect"])
    x_BCHW, weights_EO = drawn(2, CHANNELS, 4, 3), drawn(6, 4)
    rows = ("----", "n-cs", "-3-s", "n3c-", "--c-", "-3c-")  # nothing into node 1, yet something out of it
    sparse = tuple(tuple(letter != "-" for letter in row) for row in rows)
    for active in (everything(wiring), sparse):
        cell = filled(wiring, mode, training)
        assert_equal_in_value_and_every_gradient(cell, x_BCHW, weights_EO, active)


@pytest.mark.parametrize("name", ["separable", "dilated"])
def test_registered_operations_pass_finite_differences(name: str, registry: None) -> None:
    register_operation(name, CUSTOM[name])
    cell = filled(complete(3, [name, "skip_connect"]), "batch", training=True, channels=2)
    x_BCHW, weights_EO = drawn(1, 2, 3, 3).requires_grad_(), drawn(3, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, weights: cell(x, weights, everything(cell.cell)), (x_BCHW, weights_EO))


def test_held_statistics_reach_registered_operations(registry: None) -> None:
    register_operation("separable", CUSTOM["separable"])
    cell = filled(complete(3, ["none", "separable"]), "running", training=True)
    statistics = {name: buffer.clone() for name, buffer in cell.named_buffers() if "running" in name}
    assert len(statistics) == 2 * 3
    with held_statistics(cell):
        cell(drawn(2, CHANNELS, 3, 3), drawn(3, 2), everything(cell.cell))
    assert all(torch.equal(dict(cell.named_buffers())[name], value) for name, value in statistics.items())


# --- Other wirings


WIRINGS: dict[str, tuple[tuple[tuple[int, int], ...], int]] = {
    "one-input": (((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)), 1),
    "two-inputs": (((0, 2), (1, 2), (0, 3), (1, 3), (2, 3)), 2),
    "apart": (((0, 2), (1, 3), (2, 4), (3, 4)), 2),
    "an-input-unread": (((1, 2), (1, 3)), 2),
    "two-edges-of-a-pair": (((0, 1), (0, 1), (1, 2)), 1),
}
MODES = [("batch", True), ("running", True), ("running", False)]


@pytest.fixture
def names(registry: None) -> tuple[str, ...]:
    """Built-in operations under other names beside their own, and one that is nobody's."""
    register_operation("nothing", lambda channels, stride, norm: Zero(stride))
    register_operation("same", lambda channels, stride, norm: build_operation("skip_connect", channels, stride, norm))
    register_operation("mean", lambda channels, stride, norm: AvgPool3x3(stride))
    register_operation("convolution", lambda channels, stride, norm: ReLUConvBN(channels, 3, norm, stride))
    register_operation(
        "depthwise",
        lambda channels, stride, norm: nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            norm(channels),
        ),
    )
    return ("nothing", "same", "depthwise", "convolution", "avg_pool_3x3", "nor_conv_1x1", "skip_connect", "mean")


def masks(wiring: Cell) -> list[Active]:
    """Everything, and a third of it."""
    mask_EO = torch.rand(len(wiring.edges), len(wiring.candidates), generator=torch.Generator().manual_seed(3)) < 0.3
    return [everything(wiring), tuple(map(tuple, mask_EO.tolist()))]


def images(wiring: Cell, channels: int, size: tuple[int, int]) -> Tensor | list[Tensor]:
    """A batch for every input of a cell; alone if there is one."""
    found = [drawn(2, channels, *size, seed=20 + place) for place in range(wiring.inputs)]
    return found[0] if wiring.inputs == 1 else found


@pytest.mark.parametrize(("stride", "mode", "training"), [(1, *MODES[0]), (2, *MODES[0]), (2, *MODES[2])])
@pytest.mark.parametrize("output", ["last", "sum", "concat"])
@pytest.mark.parametrize("kind", WIRINGS)
def test_cells_of_any_wiring_equal_the_reference(
    kind: str, output: str, stride: int, mode: str, training: bool, names: tuple[str, ...]
) -> None:
    edges, inputs = WIRINGS[kind]
    wiring = Cell(names, edges, inputs, output, stride)
    weights_EO, x_BCHW = drawn(len(edges), len(names), seed=8), images(wiring, CHANNELS, (5, 4))
    for active in masks(wiring):
        assert_equal_in_value_and_every_gradient(filled(wiring, mode, training), x_BCHW, weights_EO, active)


@pytest.mark.parametrize("output", ["last", "sum", "concat"])
@pytest.mark.parametrize("kind", WIRINGS)
def test_sparse_cells_of_built_in_operations_equal_the_reference(kind: str, output: str) -> None:
    """With batch statistics and without operations from outside, what leads nowhere is left out."""
    edges, inputs = WIRINGS[kind]
    wiring = Cell(NAS_BENCH_201, edges, inputs, output)
    generator = torch.Generator().manual_seed(0)
    for draw in range(6):
        mask_EO = torch.rand(len(edges), 5, generator=generator) < 0.15 * (1 + draw % 3)
        assert_equal_in_value_and_every_gradient(
            filled(wiring, "batch", training=True),
            images(wiring, CHANNELS, (3, 4)),
            drawn(len(edges), 5, seed=draw),
            tuple(map(tuple, mask_EO.tolist())),
        )


def test_outputs_by_hand() -> None:
    """Nodes 2 = 2 a + 3 b and 3 = 5 a + 7 b + 11 (node 2) of the inputs a and b, by skip connections alone."""
    a, b = drawn(2, CHANNELS, 3, 4, seed=1), drawn(2, CHANNELS, 3, 4, seed=2)
    two, three = 2 * a + 3 * b, 27 * a + 40 * b
    edges, weights_EO = ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3)), torch.tensor([[2.0], [3.0], [5.0], [7.0], [11.0]])
    for output, expected in (("last", three), ("sum", two + three), ("concat", torch.cat([two, three], 1))):
        cell = SearchCell(Cell(("skip_connect",), edges, 2, output), CHANNELS, norm_factory("batch", affine=False))
        close(cell([a, b], weights_EO, everything(cell.cell)), expected)
        close(cell.reference()([a, b], weights_EO), expected)


@pytest.mark.parametrize("output", ["last", "sum", "concat"])
@pytest.mark.parametrize("kind", WIRINGS)
def test_a_strided_cell_halves_the_image_once(kind: str, output: str) -> None:
    """Rounded up, by the edges that leave an input; also where nothing is active."""
    edges, inputs = WIRINGS[kind]
    wiring = Cell(NAS_BENCH_201, edges, inputs, output, 2)
    nodes = wiring.num_nodes - inputs if output == "concat" else 1
    for active in (everything(wiring), ((False,) * 5,) * len(edges)):
        out = filled(wiring, "batch", training=True)(images(wiring, CHANNELS, (5, 4)), drawn(len(edges), 5), active)
        assert out.shape == (2, nodes * CHANNELS, 3, 2)


@pytest.mark.parametrize(
    ("partial", "extra", "bypassed"),
    [(1, True, False), (2, False, False), (2, True, True), (4, True, False), (4, False, True)],
)
@pytest.mark.parametrize(("mode", "training"), [MODES[0], MODES[2]])
@pytest.mark.parametrize(("kind", "output"), [("one-input", "last"), ("two-inputs", "concat"), ("apart", "sum")])
def test_partial_channels_of_any_wiring_equal_the_reference(
    kind: str, output: str, mode: str, training: bool, partial: int, extra: bool, bypassed: bool, names: tuple[str, ...]
) -> None:
    """Operations from outside and renamed ones too; the others of the C channels pass by."""
    edges, inputs = WIRINGS[kind]
    wiring = Cell(names, edges, inputs, output)
    for active in masks(wiring):
        assert_equal_in_value_and_every_gradient(
            filled(wiring, mode, training, channels=4),
            images(wiring, 4, (3, 4)),
            drawn(len(edges), len(names), seed=8),
            active,
            drawn(len(edges), seed=9) if extra else None,
            partial,
            drawn(len(edges), seed=10) if bypassed else None,
        )


@pytest.mark.parametrize("kind", WIRINGS)
def test_extra_skips_are_refused_in_a_strided_cell(kind: str) -> None:
    edges, inputs = WIRINGS[kind]
    cell = filled(Cell(NAS_BENCH_201, edges, inputs, stride=2), "batch", training=True, channels=4)
    arguments = images(cell.cell, 4, (4, 4)), drawn(len(edges), 5), everything(cell.cell)
    with pytest.raises(ValueError, match=r"^extra_skip: .*which a cell of stride 2 cannot$"):
        cell(*arguments, torch.ones(len(edges)))


@pytest.mark.parametrize("kind", WIRINGS)
def test_partial_channels_pass_a_strided_cell_by_their_maximum(kind: str) -> None:
    edges, inputs = WIRINGS[kind]
    cell = filled(Cell(NAS_BENCH_201, edges, inputs, stride=2), "batch", training=True, channels=4)
    given, weights = images(cell.cell, 4, (5, 4)), drawn(len(edges), 5)
    close(cell(given, weights, everything(cell.cell), None, 2), narrowed(cell, 2)(given, weights, None, 2))


def test_renamed_operations_are_as_fast_as_built_in_ones(registry: None) -> None:
    """The same stacks, of the same shapes, and no module of an edge alone."""
    renamed = []
    for place, name in enumerate(NAS_BENCH_201):
        register_operation(f"another_{place}", operations.OPERATIONS[name])
        renamed.append(f"another_{place}")
    shapes = [
        [(name, tuple(value.shape)) for name, value in filled(complete(4, n), "running", True).state_dict().items()]
        for n in (NAS_BENCH_201, renamed)
    ]
    assert shapes[0] == shapes[1]
    assert all(name.startswith("stacked.") for name, _ in shapes[1])


def test_the_names_of_the_benchmark_are_those_of_the_design() -> None:
    assert NAS_BENCH_201 == ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
