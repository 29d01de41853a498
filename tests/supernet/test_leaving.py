"""The hand-written backward pass: other types, second derivatives, large means, partial channels, recomputation."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from supernet.cell import SearchCell
from supernet.fast_leaving import leaving
from supernet.leaving import Conv, ConvInputs, Plan, leaving_plainly
from supernet.mixed_op import ReferenceCell
from supernet.network import SuperNet
from supernet.norm import norm_factory
from supernet.relaxations.base import EdgeWeights
from supernet.spaces.cells import CellSpace

pytestmark = pytest.mark.usefixtures("fast_forms")

CONVOLUTIONS = torch.ops.aten.convolution_backward


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)


def drawn(*shape: int, seed: int = 1, dtype: torch.dtype | None = None) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype or torch.get_default_dtype())


def dense(space: CellSpace) -> tuple[tuple[bool, ...], ...]:
    return ((True,) * len(space.operations),) * len(space.edges)


def cell_of(space: CellSpace, channels: int, mode: str = "batch") -> SearchCell:
    cell = SearchCell(space.cells["cell"], channels, norm_factory(mode, affine=False))
    for place, parameter in enumerate(cell.parameters()):
        parameter.data = 0.5 * drawn(*parameter.shape, seed=place)
    return cell


def gradients(out: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad((out * drawn(*out.shape, seed=7).to(out)).sum(), inputs, materialize_grads=True)


# --- Types and sizes


@pytest.mark.parametrize("channels", [1, 2, 7, 16])
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (2, 3), (7, 5)])
@pytest.mark.parametrize("batch", [2, 3])
def test_every_size_equals_the_reference(channels: int, size: tuple[int, int], batch: int) -> None:
    space = CellSpace()
    cell = cell_of(space, channels)
    x, weights = drawn(batch, channels, *size).requires_grad_(), drawn(6, 5).requires_grad_()
    out, expected = cell(x, weights, dense(space)), cell.reference()(x, weights)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    for mine, theirs in zip(gradients(out, x, weights), gradients(expected, x, weights), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def test_float32_stays_near_float64() -> None:
    space = CellSpace()
    exact = cell_of(space, 8)
    single = copy.deepcopy(exact).float()
    x, weights = drawn(16, 8, 9, 9), drawn(6, 5).softmax(dim=1)
    inputs = [value.clone().requires_grad_() for value in (x, weights)]
    singles = [value.float().requires_grad_() for value in (x, weights)]
    expected, out = exact(*inputs, dense(space)), single(*singles, dense(space))
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-4)
    wanted = gradients(expected, *inputs, *exact.parameters())
    for mine, theirs in zip(gradients(out, *singles, *single.parameters()), wanted, strict=True):
        assert (mine.double() - theirs).norm() < 1e-4 * theirs.norm()


def test_one_value_a_channel_is_refused_as_batch_normalisation_does() -> None:
    space = CellSpace()
    with pytest.raises(ValueError, match="more than one value"):
        cell_of(space, 2)(drawn(1, 2, 1, 1), drawn(6, 5), dense(space))


# --- Statistics


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_statistics_survive_a_mean_a_thousand_times_the_deviation(kernel_size: int, fast_forms: str) -> None:
    """Each output channel is one input channel (the centre of the kernel is 1), so its statistics are known."""
    x = (1e3 + drawn(8, 4, 16, 16)).float()
    weight = torch.zeros(4, 4, kernel_size, kernel_size, dtype=torch.float32)
    weight[range(4), range(4), kernel_size // 2, kernel_size // 2] = 1
    plan = Plan((), (), (Conv((0,), kernel_size, 1e-5),), native=fast_forms == "native")
    one = torch.ones(1, dtype=torch.float32)
    out, mean, var = leaving(plan, x, None, None, [ConvInputs(weight, one, None, None)])
    exact = x.double()
    assert mean.dtype == var.dtype == torch.float32
    torch.testing.assert_close(mean.double(), exact.mean((0, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(var.double(), exact.var((0, 2, 3), correction=0), rtol=1e-3, atol=0)
    normalised = (exact - exact.mean((0, 2, 3), keepdim=True)) / exact.std((0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(out.double(), normalised, rtol=0, atol=2e-3)


def test_a_constant_image_has_variance_zero() -> None:
    x = torch.full((4, 3, 5, 5), 0.7, dtype=torch.float32)
    plan = Plan((), (), (Conv((0, 1), 1, 1e-5),))
    inputs = ConvInputs(drawn(6, 3, 1, 1, dtype=torch.float32), torch.ones(2, dtype=torch.float32), None, None)
    *terms, _, var = leaving(plan, x, None, None, [inputs])
    assert var.abs().max() < 1e-9
    assert all(term.abs().max() < 1e-2 for term in terms)


# --- Second derivatives


def test_gradients_can_be_differentiated_again() -> None:
    """Finite differences of the gradient, through the whole cell; inputs away from the kinks of ReLU."""
    space = CellSpace(3)
    cell = cell_of(space, 2)
    x = (drawn(2, 2, 2, 3) + 0.3 * drawn(2, 2, 2, 3).sign()).requires_grad_()
    weights = drawn(3, 5).requires_grad_()
    names, parameters = zip(*cell.named_parameters(), strict=True)

    def run(x: Tensor, weights: Tensor, *parameters: Tensor) -> Tensor:
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(cell, given, (x, weights, dense(space)))

    assert torch.autograd.gradcheck(run, (x, weights, *parameters))
    assert torch.autograd.gradgradcheck(run, (x, weights, *parameters), atol=1e-4, fast_mode=True)


def test_a_hessian_is_that_of_the_reference() -> None:
    space = CellSpace()
    cell = cell_of(space, 2)
    reference = cell.reference()
    x, weights = drawn(2, 2, 3, 3), drawn(6, 5)
    direction = drawn(2, 2, 3, 3, seed=5)
    mine = torch.autograd.functional.hessian(lambda w: (cell(x, w, dense(space)) * direction).sum(), weights)
    theirs = torch.autograd.functional.hessian(lambda w: (reference(x, w) * direction).sum(), weights)
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
    assert mine.abs().max() > 0.01


# --- What is not needed


def test_no_gradient_that_nobody_uses_is_computed() -> None:
    """Counted by torch: an architecture step needs no gradient of a weight, nor of the first cell's input; a weight
    step needs both of every convolution, but of the stem no input's."""
    space = CellSpace(4, ["none", "skip_connect", "nor_conv_3x3"])  # pooling is a convolution to the counter
    network = SuperNet(space, channels=2, cells=1, num_classes=3)
    images, pixels = drawn(2, 3, 8, 8), 2 * 8 * 8
    stem, edge = 2 * pixels * 9 * 3 * 2, 2 * pixels * 9 * 2 * 2  # two a multiply-add
    weights = EdgeWeights.dense(drawn(6, 3).softmax(dim=1).requires_grad_())

    def counted(part: str) -> tuple[int, int]:
        with FlopCounterMode(display=False) as forward:
            loss = network(images, weights if part == "architecture" else weights.detach()).square().sum()
        wanted = [weights.weights] if part == "architecture" else list(network.parameters())
        with FlopCounterMode(display=False) as backward:
            torch.autograd.grad(loss, wanted)
        return (
            forward.get_flop_counts()["Global"][torch.ops.aten.convolution],
            backward.get_flop_counts()["Global"][CONVOLUTIONS],
        )

    forward, backward = counted("weights")
    assert backward == 2 * forward - stem
    network.requires_grad_(False)
    forward, backward = counted("architecture")
    assert backward == forward - stem - 3 * edge


def test_inactive_parts_of_the_arguments_are_never_read() -> None:
    """NaN where nothing is active does not reach a result."""
    space = CellSpace()
    cell = cell_of(space, 2)
    active = [[False] * 5 for _ in range(6)]
    for edge, position in ((0, 3), (1, 1), (2, 4), (3, 2), (5, 3)):
        active[edge][position] = True
    mask = torch.tensor(active)
    with torch.no_grad():
        for (source, position), stack in ((key.split(":"), stack) for key, stack in cell.stacked.items()):
            for place, edge in enumerate(cell.edges_from[int(source)]):
                if not active[edge][int(position)]:
                    stack.weight[stack.rows(place)] = float("nan")
    weights = torch.where(mask, drawn(6, 5), float("nan")).requires_grad_()
    x = drawn(2, 2, 4, 4).requires_grad_()
    out = cell(x, weights, tuple(map(tuple, active)))
    assert out.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients(out, x, weights))


def test_what_leads_nowhere_or_comes_from_nothing_is_not_computed() -> None:
    """Computed are 1<-0 and 3<-1, since node 2 has no way out; 3<-0, since nodes 1 and 2 have none; 3<-2, since
    nothing reaches node 1."""
    space = CellSpace()
    cell = cell_of(space, 2)
    x, pixels = drawn(2, 2, 4, 4), 2 * 16
    for choices, convolutions in (((3, 0, 3, 0, 3, 0), 2), ((3, 0, 1, 3, 0, 0), 1), ((0, 1, 3, 0, 3, 3), 1)):
        active = tuple(tuple(position == choice for position in range(5)) for choice in choices)
        weights = drawn(6, 5).requires_grad_()
        with FlopCounterMode(display=False) as counter:
            out = cell(x, weights, active)
        assert counter.get_total_flops() == convolutions * 2 * pixels * 9 * 4
        reference = cell.reference()(x, weights * torch.tensor(active))
        torch.testing.assert_close(out, reference, rtol=1e-10, atol=1e-10)
        for mine, theirs in zip(gradients(out, weights), gradients(reference, weights), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


# --- Partial channels and an extra skip


@pytest.mark.parametrize("partial", [1, 2, 4])
@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("bypassed", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_partial_channels_and_extra_skips_equal_the_reference(
    partial: int, extra: bool, bypassed: bool, sparse: bool
) -> None:
    space = CellSpace()
    cell = cell_of(space, 8)
    active = torch.rand(6, 5, generator=torch.Generator().manual_seed(3)) < (0.4 if sparse else 2)
    x, weights = drawn(2, 8, 3, 5).requires_grad_(), drawn(6, 5).requires_grad_()
    skip = drawn(6, seed=2).requires_grad_() if extra else None
    bypass = drawn(6, seed=3).requires_grad_() if bypassed else None
    reference = ReferenceCell(space.cells["cell"], 8 // partial, norm_factory("batch", affine=False))
    for (edge, mixed), (_, whole) in zip(enumerate(reference.edges), enumerate(cell.reference().edges), strict=True):
        for position in (2, 3):
            kept = whole.candidates[position][1].weight[: 8 // partial, : 8 // partial]
            mixed.candidates[position][1].weight.data = kept.detach().clone()
        assert edge < 6
    out = cell(x, weights, tuple(map(tuple, active.tolist())), skip, partial, bypass)
    expected = reference(x, weights * active, skip, partial, bypass)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    inputs = [value for value in (x, weights, skip, bypass) if value is not None]
    for mine, theirs in zip(gradients(out, *inputs), gradients(expected, *inputs), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def test_running_statistics_of_partial_channels_are_those_rows_alone() -> None:
    space = CellSpace(2)
    cell = cell_of(space, 4, "running")
    cell(drawn(4, 4, 3, 3), drawn(1, 5), dense(space), None, 2)
    for stack in cell.stacked.values():
        assert torch.equal(stack.running_mean != 0, torch.tensor([True, True, False, False]))


def test_partial_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="partial: got 3"):
        cell_of(CellSpace(), 4)(drawn(2, 4, 3, 3), drawn(6, 5), dense(CellSpace()), None, 3)


# --- Weights a cell, recomputation, memory


def test_each_cell_gets_its_own_weights_and_extras() -> None:
    space = CellSpace(2, ["none", "skip_connect"])  # a cell is x times (weight + extra skip)
    network = SuperNet(space, channels=2, cells=2)
    weights, skip = drawn(6, 1, 2), drawn(6, 1, seed=2)
    seen: list[tuple[Tensor, Tensor]] = []

    def note(layer: SearchCell, arguments: tuple[Tensor, ...], out: Tensor) -> None:
        seen.append((arguments[0], out))

    for layer in network.layers:
        if isinstance(layer, SearchCell):
            layer.register_forward_hook(note)
    network(drawn(2, 3, 8, 8), EdgeWeights(weights, dense(space), extra_skip=skip))
    assert len(seen) == 6
    for cell, (x, out) in enumerate(seen):
        torch.testing.assert_close(out, x * (weights[cell, 0, 1] + skip[cell, 0]))


def test_weights_of_another_shape_are_refused() -> None:
    network = SuperNet(CellSpace(2), channels=2, cells=1)
    with pytest.raises(ValueError, match="got them for 2 cells; there are 3"):
        network(drawn(2, 3, 8, 8), EdgeWeights.dense(drawn(2, 1, 5)))
    with pytest.raises(ValueError, match="active_EO: got 2 edges"):
        EdgeWeights(drawn(1, 5), ((True,) * 5,) * 2)
    with pytest.raises(ValueError, match="active_EO"):
        EdgeWeights(drawn(1, 5), ((True,) * 4,))


def test_bfloat16_pooling_has_no_bias() -> None:
    """Of the mean over many pixels; a kernel of bfloat16(1 / 9) would be off by 0.2%."""
    plan = Plan((), (0,), ())
    x = torch.rand(8, 4, 16, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    (out,) = leaving(plan, x, None, torch.ones(1, dtype=torch.float32), [])
    assert out.dtype == torch.bfloat16
    exact = torch.nn.functional.avg_pool2d(x.double(), 3, 1, 1, count_include_pad=False)
    assert out.double().mean().item() == pytest.approx(exact.mean().item(), rel=3e-4)


@pytest.mark.parametrize("mode", ["batch", "running"])
def test_recomputation_changes_no_bit(mode: str) -> None:
    space = CellSpace()
    network = SuperNet(space, channels=4, cells=2, batch_norm=mode).float()
    twin = copy.deepcopy(network)
    twin.recompute = True
    images = drawn(4, 3, 8, 8, dtype=torch.float32)
    found = []
    for one in (network, twin):
        weights = drawn(6, 5, dtype=torch.float32).requires_grad_()
        loss = one(images, EdgeWeights.dense(weights)).square().sum()
        found.append([loss, *torch.autograd.grad(loss, [weights, *one.parameters()]), *one.buffers()])
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*found, strict=True))


def alive() -> int:
    gc.collect()
    return sum(type(thing) in (Tensor, nn.Parameter) for thing in gc.get_objects())


def test_a_hundred_passes_leave_nothing_behind() -> None:
    space = CellSpace()
    cell = cell_of(space, 2, "running")
    generator = torch.Generator().manual_seed(0)

    def passes(number: int) -> None:
        for _ in range(number):
            mask = torch.rand(6, 5, generator=generator) < 0.5
            x = drawn(2, 2, 4, 4).requires_grad_()
            out = cell(x, drawn(6, 5), tuple(map(tuple, mask.tolist())))
            (out.square().sum() + 0 * x.sum()).backward()

    passes(60)  # rows of stacks are indexed by tensors that are made once
    before = alive()
    passes(100)
    assert alive() - before <= 8  # a combination of rows that the first passes did not draw


# --- bfloat16


def flat(terms: Sequence[Tensor]) -> Tensor:
    return torch.cat([term.double().flatten() for term in terms])


def test_autocast_computes_in_bfloat16_and_keeps_statistics_and_weights() -> None:
    space = CellSpace()
    cell = cell_of(space, 8, "running").float()
    twin = copy.deepcopy(cell)
    x, weights = drawn(8, 8, 9, 9, dtype=torch.float32), drawn(6, 5, dtype=torch.float32).softmax(1)
    x, weights = x.requires_grad_(), weights.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = cell(x, weights, dense(space))
    expected = twin(x, weights, dense(space))
    assert out.dtype == torch.bfloat16
    assert (out.double() - expected.double()).norm() < 0.02 * expected.double().norm()
    for buffer in cell.buffers():
        assert buffer.dtype == torch.float32
    for mine, theirs in zip(cell.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0.02, atol=0.01)
    found = gradients(out.float(), weights, *cell.parameters())
    wanted = gradients(expected, weights, *twin.parameters())
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.dtype == torch.float32
        assert (mine - theirs).norm() < 0.1 * theirs.norm()


def test_where_backward_is_called_does_not_matter() -> None:
    """Under autocast or not: the sums of the backward pass are float32."""
    space = CellSpace()
    cell = cell_of(space, 8).float()
    x, weights = drawn(8, 8, 9, 9, dtype=torch.float32), drawn(6, 5, dtype=torch.float32).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = cell(x, weights, dense(space)).float().square().sum()
        inside = torch.autograd.grad(out, [weights, *cell.parameters()], retain_graph=True)
    outside = torch.autograd.grad(out, [weights, *cell.parameters()])
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(inside, outside, strict=True))


# --- The plain form


def plans() -> Iterator[Any]:
    everything, some = (0, 1, 2), (0, 2)
    yield pytest.param(Plan(everything, everything, (Conv(everything, 1, 1e-5), Conv(everything, 3, 1e-5))), id="all")
    yield pytest.param(Plan(some, (1,), (Conv((2,), 1, 1e-5), Conv(some, 3, 1e-5))), id="some")
    yield pytest.param(Plan((), (), (Conv((1,), 1, 1e-5),)), id="one matrix")
    yield pytest.param(Plan((), (2,), ()), id="one pooling")
    yield pytest.param(Plan((), (), (Conv(some, 3, 1e-5), Conv(everything, 5, 1e-3))), id="two large")


@pytest.mark.parametrize("given", [False, True], ids=["batch statistics", "given statistics"])
@pytest.mark.parametrize("plan", list(plans()))
def test_the_fast_form_equals_the_plain_one(plan: Plan, given: bool, fast_forms: str) -> None:
    plan = replace(plan, native=fast_forms == "native")
    x, skip, pool = drawn(2, 3, 4, 5).requires_grad_(), drawn(3, seed=2), drawn(3, seed=3)
    convs = []
    for place, conv in enumerate(plan.convs):
        rows = 3 * len(conv.targets)
        statistics = (drawn(rows, seed=8), drawn(rows, seed=9).square() + 0.5) if given else (None, None)
        weight = drawn(rows, 3, conv.kernel_size, conv.kernel_size, seed=4 + place).requires_grad_()
        convs.append(ConvInputs(weight, drawn(3, seed=6 + place).requires_grad_(), *statistics))
    wanted = [x, *(tensor for conv in convs for tensor in conv[:2])]
    mine, theirs = (form(plan, x, skip, pool, convs) for form in (leaving, leaving_plainly))
    torch.testing.assert_close(flat(mine), flat(theirs), rtol=1e-10, atol=1e-10)
    terms = len(plan.reached)
    for one, other in zip(
        gradients(flat(mine[:terms]), *wanted), gradients(flat(theirs[:terms]), *wanted), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_small_nodes_take_the_plain_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supernet.fast_leaving.SMALL", 100_000)
    plan, taken = Plan((0,), (), ()), []
    for size in (100, 400):
        out = leaving(plan, drawn(1, 1, size, size).requires_grad_(), torch.ones(1), None, [])[0]
        taken.append("FastLeaving" in str(out.grad_fn))
    assert taken == [False, True]
