"""The supernet, the discrete network and how weights pass from one to the other.

Shape suffixes: B batch, C channels, H height, W width, L cells, E edges, O operations, K classes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet import operations
from supernet.cell import SearchCell
from supernet.discrete_network import DiscreteNetwork
from supernet.genotype import Genotype
from supernet.network import SuperNet
from supernet.norm import NormFactory, held_statistics
from supernet.operations import register_operation
from supernet.relaxations.base import EdgeWeights
from supernet.spaces.cells import NAS_BENCH_201, CellSpace

pytestmark = pytest.mark.usefixtures("fast_form")

SPACE = CellSpace()


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)


@pytest.fixture
def registry() -> Iterator[None]:
    """The registry, put back afterwards."""
    before = dict(operations.OPERATIONS)
    yield
    operations.OPERATIONS.clear()
    operations.OPERATIONS.update(before)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def supernet(
    space: CellSpace = SPACE, mode: str = "batch", channels: int = 2, cells: int = 1, seed: int = 0
) -> SuperNet:
    """A small supernet whose every weight, scale, shift and statistic is drawn."""
    network = SuperNet(space, channels, cells, num_classes=4, in_channels=2, batch_norm=mode)
    draw_weights(network, seed)
    return network


def draw_weights(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data.normal_(generator=generator)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(generator=generator)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0, generator=generator)


def one_hot(space: CellSpace, genotype: Genotype) -> EdgeWeights:
    return EdgeWeights.one_hot([space.operations.index(name) for name in genotype.operations], len(space.operations))


def statistics_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in network.named_buffers() if "running" in name}


# --- The macro network


@pytest.mark.parametrize("cells", [1, 2, 5])
def test_three_stages_of_n_cells_with_reductions_between(cells: int) -> None:
    """Shapes of an image on its way: N cells at C, 2C, 4C, a reduction before the second and third stage."""
    network = DiscreteNetwork(Genotype(("nor_conv_1x1",) * 6), channels=3, cells=cells)
    shapes: list[tuple[int, ...]] = []
    for layer in network.layers:
        layer.register_forward_hook(lambda module, inputs, out: shapes.append(tuple(out.shape[1:])))
    assert network(drawn(2, 3, 9, 9)).shape == (2, 10)
    stages = [(3, 9, 9)] * cells, [(6, 5, 5)] * (cells + 1), [(12, 3, 3)] * (cells + 1)
    assert shapes == [shape for stage in stages for shape in stage]


def published_logits(network: DiscreteNetwork, x_BCHW: Tensor) -> Tensor:
    """NAS-Bench-201's network written out with functions, batch statistics, weights taken in order of construction."""
    weights = iter(network.parameters())

    def norm(value: Tensor, affine: bool = True) -> Tensor:
        mean, var = value.mean((0, 2, 3), keepdim=True), value.var((0, 2, 3), correction=0, keepdim=True)
        value = (value - mean) / (var + 1e-5) ** 0.5
        if not affine:
            return value
        scale, shift = next(weights), next(weights)
        return value * scale[:, None, None] + shift[:, None, None]

    def operation(name: str, value: Tensor) -> Tensor:
        match name:
            case "none":
                return 0 * value
            case "skip_connect":
                return value
            case "avg_pool_3x3":
                return F.avg_pool2d(value, 3, 1, 1) / F.avg_pool2d(torch.ones_like(value), 3, 1, 1)
        size = int(name[-1])
        return norm(F.conv2d(value.clamp(min=0), next(weights), padding=size // 2))

    def cell(x: Tensor) -> Tensor:
        one, two, three, four, five, six = network.genotype.operations
        node_1 = operation(one, x)
        node_2 = operation(two, x) + operation(three, node_1)
        return operation(four, x) + operation(five, node_1) + operation(six, node_2)

    def reduction(x: Tensor) -> Tensor:
        out = norm(F.conv2d(x.clamp(min=0), next(weights), stride=2, padding=1))
        out = norm(F.conv2d(out.clamp(min=0), next(weights), padding=1))
        return out + F.conv2d(F.avg_pool2d(x, 2, 2), next(weights))

    value = norm(F.conv2d(x_BCHW, next(weights), padding=1))
    for stage in range(3):
        value = reduction(value) if stage else value
        for _ in range(network.cells):
            value = cell(value)
    features_BC = norm(value).clamp(min=0).mean((2, 3))
    logits_BK = features_BC @ next(weights).T + next(weights)
    assert next(weights, None) is None
    return logits_BK


@pytest.mark.parametrize("index", [0, 3906, 11718, 7812, 2593, 8447, 13531, 15624])
def test_discrete_networks_equal_the_published_one_written_out(index: int) -> None:
    network = DiscreteNetwork(SPACE.genotype(index), 3, 2, num_classes=4, in_channels=2, batch_norm="batch")
    draw_weights(network, seed=index)
    x_BCHW = drawn(2, 2, 8, 8, seed=index)
    close(network(x_BCHW), published_logits(network, x_BCHW))


def test_the_last_layers_by_hand() -> None:
    """With dead cells the last norm sees 0 and gives (0 - 1) / 2 * scale + shift; ReLU, mean, linear follow."""
    network = DiscreteNetwork(Genotype(("none",)), channels=1, cells=1, num_classes=2, in_channels=1)
    last = network.last_norm
    assert isinstance(last, nn.BatchNorm2d)
    assert last.running_mean is not None
    assert last.running_var is not None
    last.running_mean.fill_(1.0)
    last.running_var.fill_(4.0 - last.eps)
    last.weight.data.copy_(torch.tensor([2.0, -2.0, -6.0, 4.0]))
    last.bias.data.copy_(torch.tensor([4.0, -3.0, 1.0, 1.0]))  # 3, -2, 4, -1: after ReLU 3, 0, 4, 0
    network.classifier.weight.data.copy_(torch.tensor([[1.0, 100.0, 2.0, 100.0], [0.0, 7.0, -1.0, 7.0]]))
    network.classifier.bias.data.copy_(torch.tensor([0.5, 0.0]))
    assert torch.equal(network.eval()(drawn(2, 1, 4, 4)), torch.tensor([[11.5, -4.0]] * 2))


def test_parameters_of_a_supernet_by_hand() -> None:
    """No scale or shift inside cells; stem, reductions and last norm keep theirs; nothing of the architecture's."""
    channels, cells, classes = 3, 2, 7
    network = SuperNet(SPACE, channels, cells, num_classes=classes, in_channels=1)
    widths = (channels, 2 * channels, 4 * channels)
    in_cells = sum(cells * 6 * (9 + 1) * width**2 for width in widths)
    stem = 9 * channels + 2 * channels
    reductions = sum(9 * w * 2 * w + 2 * 2 * w + 9 * 4 * w * w + 2 * 2 * w + 2 * w * w for w in widths[:2])
    head = 2 * 4 * channels + 4 * channels * classes + classes
    assert sum(parameter.numel() for parameter in network.parameters()) == in_cells + stem + reductions + head


@pytest.mark.parametrize("space", [SPACE, CellSpace(3, ["none", "nor_conv_1x1"]), CellSpace(5)])
def test_alphas_are_not_the_supernets(space: CellSpace) -> None:
    network = supernet(space)
    shape = (space.num_nodes * (space.num_nodes - 1) // 2, len(space.operations))
    assert space.architecture_shapes == {"alpha_EO": shape}
    weights_EO = drawn(*shape).requires_grad_()
    network(drawn(2, 2, 8, 8), EdgeWeights.dense(weights_EO)).sum().backward()
    assert weights_EO.grad is not None
    assert all(tensor is not weights_EO for tensor in (*network.parameters(), *network.buffers()))
    assert not [name for name in network.state_dict() if "alpha" in name]
    assert not [name for name, tensor in network.state_dict().items() if tuple(tensor.shape) == shape]


def test_initial_weights_are_the_published_ones() -> None:
    """Convolutions N(0, 2 / fan-out of one edge), classifier N(0, 0.01^2) without bias, norms at identity."""
    network = SuperNet(SPACE, channels=16, cells=1, generator=torch.Generator().manual_seed(0))
    seen = 0
    for name, parameter in network.named_parameters():
        if parameter.dim() == 4:
            width = parameter.shape[1] if "stacked" in name else len(parameter)
            fan_out = width * parameter.shape[2] * parameter.shape[3]
            spread = 5 / math.sqrt(2 * parameter.numel())  # five standard errors of a standard deviation
            assert parameter.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=spread), name
            seen += 1
        elif parameter.dim() == 1:
            assert torch.equal(parameter, torch.full_like(parameter, float("bias" not in name))), name
    assert seen == 1 + 3 * 6 + 2 * 3
    assert network.classifier.weight.std().item() == pytest.approx(0.01, rel=0.15)


def with_bias(channels: int, stride: int, norm: NormFactory) -> nn.Module:
    """A convolution whose bias torch would draw from its global generator."""
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), norm(channels))


@pytest.mark.parametrize("operation", ["avg_pool_3x3", "with_bias"])
def test_initial_weights_come_from_the_generator_alone(operation: str, registry: None) -> None:
    register_operation("with_bias", with_bias)
    space = CellSpace(3, ["none", "nor_conv_3x3", "nor_conv_1x1", operation])
    states = []
    for seed, noise in ((0, 1), (0, 2), (3, 2)):
        torch.manual_seed(noise)
        network = SuperNet(space, 2, 1, generator=torch.Generator().manual_seed(seed))
        states.append(network.state_dict())
    assert not [name for name, value in states[0].items() if not torch.equal(value, states[1][name])]
    assert any(not torch.equal(value, states[2][name]) for name, value in states[0].items())


@pytest.mark.parametrize("key", ["channels", "cells", "num_classes", "in_channels"])
@pytest.mark.parametrize("size", [0, -3])
def test_sizes_that_are_not_positive_are_refused(key: str, size: int) -> None:
    with pytest.raises(ValueError, match=f"{key}: got {size}"):
        SuperNet(SPACE, **{"channels": 2, "cells": 1, key: size})
    with pytest.raises(ValueError, match=f"{key}: got {size}"):
        DiscreteNetwork(SPACE.genotype(0), **{"channels": 2, "cells": 1, key: size})


def test_an_unknown_norm_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_norm: got 'layer'; allowed are batch, running"):
        SuperNet(SPACE, 2, 1, batch_norm="layer")


# --- The supernet against its definition


def reference_logits(network: SuperNet, x_BCHW: Tensor, weights_LEO: Tensor) -> Tensor:
    """The same network with the reference in place of every search cell."""
    value, cells = network.stem(x_BCHW), iter(weights_LEO)
    for layer in network.layers:
        value = layer.reference()(value, next(cells)) if isinstance(layer, SearchCell) else layer(value)
    assert next(cells, None) is None
    return network.classifier(network.last_norm(value).relu().mean((2, 3)))


@pytest.mark.parametrize("cells", [1, 2])
@pytest.mark.parametrize("mode", ["batch", "running"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_weights_of_each_cell_reach_that_cell(mode: str, cells: int, training: bool) -> None:
    """Value and gradient of (L, E, O) weights, and of the image, against reference cells."""
    network = supernet(mode=mode, cells=cells).train(training)
    weights_LEO, x_BCHW = drawn(3 * cells, 6, 5).requires_grad_(), drawn(2, 2, 9, 7).requires_grad_()
    with held_statistics(network):
        logits = network(x_BCHW, EdgeWeights.dense(weights_LEO))
        expected = reference_logits(network, x_BCHW, weights_LEO)
    close(logits, expected)
    direction = drawn(2, 4, seed=5)
    inputs = (weights_LEO, x_BCHW, *network.stem.parameters(), *network.classifier.parameters())
    actual = torch.autograd.grad((logits * direction).sum(), inputs)
    for mine, theirs in zip(actual, torch.autograd.grad((expected * direction).sum(), inputs), strict=True):
        close(mine, theirs)


def test_shared_weights_are_the_same_weights_for_every_cell() -> None:
    network, x_BCHW = supernet(cells=2), drawn(2, 2, 8, 8)
    shared_EO = drawn(6, 5).requires_grad_()
    own_LEO = shared_EO.detach().repeat(6, 1, 1).requires_grad_()
    logits = [network(x_BCHW, EdgeWeights.dense(weights)) for weights in (shared_EO, own_LEO)]
    assert torch.equal(*logits)
    for value in logits:
        value.square().sum().backward()
    assert own_LEO.grad is not None
    assert shared_EO.grad is not None
    close(own_LEO.grad.sum(0), shared_EO.grad)


@pytest.mark.parametrize("mode", ["batch", "running"])
def test_supernet_gradients_agree_with_finite_differences(mode: str) -> None:
    network = supernet(mode=mode).train(mode == "batch")
    x_BCHW, weights_EO = drawn(2, 2, 5, 5), drawn(6, 5).requires_grad_()
    fast = {"fast_mode": True, "check_undefined_grad": False, "check_batched_grad": False}
    assert torch.autograd.gradcheck(
        lambda x, weights: network(x, EdgeWeights.dense(weights)), (x_BCHW, weights_EO), check_undefined_grad=False
    )
    weights = list(network.parameters())
    assert torch.autograd.gradcheck(lambda *_: network(x_BCHW, EdgeWeights.dense(weights_EO)), weights, **fast)


def test_inactive_operations_get_no_gradient_anywhere() -> None:
    network = supernet(cells=2)
    genotype = Genotype(("skip_connect", "none", "nor_conv_1x1", "avg_pool_3x3", "none", "skip_connect"))
    network(drawn(2, 2, 8, 8), one_hot(SPACE, genotype)).square().sum().backward()
    stacked = {name: p.grad for name, p in network.named_parameters() if ".stacked." in name}
    used = {name for name, gradient in stacked.items() if gradient is not None}
    assert len(used) == 6  # the 1x1 convolutions that leave node 1, one a cell
    assert {name.split(".stacked.")[1] for name in used} == {"1:2.weight"}
    for name in used:
        gradient = stacked[name]
        assert gradient is not None
        nearest, other = gradient.chunk(2)  # 2<-1, 3<-1
        assert nearest.count_nonzero()
        assert not other.count_nonzero()


# --- Inheritance


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("mode", ["batch", "running"])
def test_one_hot_supernets_equal_the_networks_that_inherit_their_weights(mode: str, training: bool) -> None:
    network = supernet(mode=mode, cells=2).train(training)
    rng = random.Random(0)
    for genotype in [SPACE.genotype(0), Genotype((*NAS_BENCH_201, "nor_conv_3x3"))] + [
        SPACE.sample(rng) for _ in range(8)
    ]:
        discrete = network.inherit(genotype)
        assert discrete.training == training
        x_BCHW = drawn(2, 2, 8, 8, seed=rng.randrange(99))
        logits, expected = network(x_BCHW, one_hot(SPACE, genotype)), discrete(x_BCHW)
        close(logits, expected)
        gradients = [  # zero for a cell in which nothing reaches the output
            torch.autograd.grad(out.square().sum(), list(net.stem.parameters()), materialize_grads=True)
            for net, out in ((network, logits), (discrete, expected))
        ]
        for mine, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mode", ["batch", "running"])
def test_inheritance_after_training_passes_takes_weights_and_statistics_along(mode: str) -> None:
    """Some SGD steps, dense and single-path, then evaluation: trained statistics must belong to the right edges."""
    network = SuperNet(SPACE, 3, 1, num_classes=4, batch_norm=mode, generator=torch.Generator().manual_seed(0))
    optimizer, rng = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9), random.Random(3)
    for step in range(6):
        dense = EdgeWeights.dense(drawn(6, 5, seed=step).softmax(-1))
        optimizer.zero_grad()
        F.cross_entropy(
            network(drawn(4, 3, 8, 8, seed=step), one_hot(SPACE, SPACE.sample(rng)) if step % 3 == 2 else dense),
            torch.arange(4),
        ).backward()
        optimizer.step()
    network.eval()
    for _ in range(8):
        genotype = SPACE.sample(rng)
        discrete = network.inherit(genotype)
        x_BCHW = drawn(3, 3, 8, 8, seed=rng.randrange(99))
        close(discrete(x_BCHW), network(x_BCHW, one_hot(SPACE, genotype)))
        if mode == "running":  # evaluation does not depend on the rest of the batch
            close(discrete(x_BCHW)[:1], discrete(x_BCHW[:1]))


@pytest.mark.parametrize("space", [CellSpace(2), CellSpace(3, ["nor_conv_3x3", "none"]), CellSpace(5)])
def test_inheritance_in_other_spaces(space: CellSpace) -> None:
    network, rng = supernet(space, "running"), random.Random(1)
    for genotype in (space.sample(rng) for _ in range(4)):
        x_BCHW = drawn(2, 2, 6, 7)
        discrete = network.eval().inherit(genotype)
        close(discrete(x_BCHW), network(x_BCHW, one_hot(space, genotype)))


def test_an_inherited_network_is_a_copy() -> None:
    network, x_BCHW = supernet(mode="running"), drawn(2, 2, 8, 8)
    genotype = Genotype(("nor_conv_3x3", "nor_conv_1x1", "skip_connect") * 2)
    discrete = network.inherit(genotype)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert all(parameter.requires_grad for parameter in discrete.parameters())
    for parameter in discrete.parameters():
        parameter.data.add_(1.0)
    discrete(x_BCHW)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_inherited_network_has_the_supernets_type(dtype: torch.dtype) -> None:
    network = supernet().to(dtype)
    assert {parameter.dtype for parameter in network.inherit(SPACE.genotype(9999)).parameters()} == {dtype}


def test_registered_operations_work_through_the_whole_supernet(registry: None) -> None:
    """One with a normalisation and a bias: reference equality, inheritance, state dict."""
    register_operation(
        "separable_of_test_network",
        lambda channels, stride, norm: nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            norm(channels),
            nn.Conv2d(channels, channels, 1),
        ),
    )
    space = CellSpace(3, ["skip_connect", "separable_of_test_network", "nor_conv_3x3"])
    network, x_BCHW = supernet(space, "running").eval(), drawn(2, 2, 8, 8)
    weights_LEO = drawn(3, 3, 3)
    close(network(x_BCHW, EdgeWeights.dense(weights_LEO)), reference_logits(network, x_BCHW, weights_LEO))
    for index in (0, 13, 17, 26):
        genotype = space.genotype(index)
        close(network.inherit(genotype)(x_BCHW), network(x_BCHW, one_hot(space, genotype)))
    twin = supernet(space, "running", seed=5).eval()
    twin.load_state_dict(network.state_dict())
    assert torch.equal(*(net(x_BCHW, EdgeWeights.dense(weights_LEO)) for net in (network, twin)))


# --- Statistics that are held


@pytest.mark.parametrize("dense", [True, False], ids=["dense", "one-hot"])
def test_held_statistics_of_a_supernet_stay(dense: bool) -> None:
    network, x_BCHW = supernet(mode="running"), drawn(2, 2, 8, 8)
    genotype = Genotype(("nor_conv_3x3", "nor_conv_1x1", "skip_connect") * 2)
    weights = EdgeWeights.dense(drawn(6, 5)) if dense else one_hot(SPACE, genotype)
    before = statistics_of(network)
    assert len(before) == 2 * (3 * 6 + 1 + 4 + 1)
    with held_statistics(network):
        held = network(x_BCHW, weights)
    assert all(torch.equal(value, before[name]) for name, value in statistics_of(network).items())
    assert torch.equal(network(x_BCHW, weights), held)
    moved = {name for name, value in statistics_of(network).items() if not torch.equal(value, before[name])}
    assert len(moved) == (len(before) if dense else 2 * (1 + 4 + 1 + 3 * 3))  # the path uses 3 stacks a cell


def test_batch_mode_tracks_nothing_and_evaluates_with_its_batch() -> None:
    network, x_BCHW = supernet(mode="batch"), drawn(2, 2, 8, 8)
    weights = EdgeWeights.dense(drawn(6, 5))
    assert not statistics_of(network)
    assert torch.equal(network.train()(x_BCHW, weights), network.eval()(x_BCHW, weights))
