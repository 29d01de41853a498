"""Gradients and products with the Hessian, against finite differences and PyTorch's double backward, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet import tangents
from supernet.discrete_network import DiscreteNetwork
from supernet.passes import Passes
from supernet.spaces.cells import CellSpace
from supernet.tangents import gradients_and_products

CELLS = [0, 1, 3, 12_345, 9_371, 4_444, 15_624]  # the first has no path to the output


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)


@pytest.fixture(params=["compiled", "operators"])
def _passes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "operators":
        monkeypatch.setattr(tangents, "_passes", lambda x_BCHW: Passes())


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def image(*shape: int, seed: int = 0, last: bool = True) -> Tensor:
    form = torch.channels_last if last else torch.contiguous_format
    return drawn(*shape, seed=seed).contiguous(memory_format=form).requires_grad_()


def loss(logits_BK: Tensor) -> Tensor:
    return F.cross_entropy(logits_BK, torch.arange(len(logits_BK)) % logits_BK.shape[1])


def weights_of(network: nn.Module) -> list[Tensor]:
    return [layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def plainly(network: nn.Module, weights: list[Tensor], images_BCHW: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    options = {"allow_unused": True, "materialize_grads": True}
    found = torch.autograd.grad(loss(network(images_BCHW)), weights, create_graph=True, **options)
    along = torch.stack([(g * w.detach()).sum() for g, w in zip(found, weights, strict=True)]).sum()
    return [g.detach() for g in found], list(torch.autograd.grad(along, weights, **options))


def check(network: nn.Module, images_BCHW: Tensor) -> None:
    weights = weights_of(network)
    mine = gradients_and_products(network, weights, images_BCHW, loss)
    theirs = plainly(network, weights, images_BCHW)
    for kind in (0, 1):
        size = max(float(value.abs().max()) for value in theirs[kind])
        for ours, value in zip(mine[kind], theirs[kind], strict=True):
            torch.testing.assert_close(ours, value, rtol=1e-10, atol=1e-12 * size)


@pytest.mark.usefixtures("_passes")
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("last", [True, False])
def test_normalisation_is_that_of_torch_and_its_gradients_are_finite_differences(affine: bool, last: bool) -> None:
    x, dx = (image(3, 4, 3, 2, seed=seed, last=last) for seed in (0, 1))
    scale, shift = (drawn(4, seed=2), drawn(4, seed=3)) if affine else (None, None)
    expected = torch.autograd.functional.jvp(lambda value: F.batch_norm(value, None, None, scale, shift, True), x, dx)
    torch.testing.assert_close(tangents._Normalisation.apply(x, dx, scale, shift, 1e-5), expected)
    assert torch.autograd.gradcheck(lambda *two: tangents._Normalisation.apply(*two, scale, shift, 0.1), (x, dx))


@pytest.mark.parametrize("options", [((1, 1), (1, 1), (1, 1), 1), ((2, 2), (0, 1), (1, 2), 2)])
def test_gradients_of_convolution_are_finite_differences(options: tuple[object, ...]) -> None:
    x, dx = (image(2, 4, 5, 6, seed=seed) for seed in (0, 1))
    weight = drawn(6, 4 // options[3], 3, 2, seed=2).requires_grad_()

    def tied(x: Tensor, dx: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        return tangents._Convolution.apply(x, dx, weight, weight, options)

    assert torch.autograd.gradcheck(tied, (x, dx, weight))
    z, dz = tied(x, dx, weight)
    torch.testing.assert_close(dz, F.conv2d(x + dx, weight, None, *options))
    d_weight = weight.detach().requires_grad_()
    e, d = drawn(*z.shape, seed=3), drawn(*z.shape, seed=4)
    outputs = tangents._Convolution.apply(x, dx, weight, d_weight, options)
    found = torch.autograd.grad(outputs, (weight, d_weight), (e, d))
    plain = F.conv2d(x, weight, None, *options), F.conv2d(dx, weight, None, *options)
    plain = *plain, F.conv2d(x, d_weight, None, *options)
    torch.testing.assert_close(found, torch.autograd.grad(plain, (weight, d_weight), (e, d, d)))


@pytest.mark.usefixtures("_passes")
def test_gradients_of_the_mean_are_finite_differences() -> None:
    x = image(2, 3, 4, 1)
    torch.testing.assert_close(tangents._Mean.apply(x), F.avg_pool2d(x, 3, 1, 1, False, False))
    assert torch.autograd.gradcheck(tangents._Mean.apply, (x,))


@pytest.mark.usefixtures("_passes")
@pytest.mark.parametrize("index", CELLS)
@pytest.mark.parametrize("affine", [True, False])
def test_discrete_networks_as_by_double_backward(index: int, affine: bool) -> None:
    torch.manual_seed(1)
    cell = CellSpace().genotype(index)
    network = DiscreteNetwork(cell, 3, 2, 4, 2, batch_norm="batch", affine_cells=affine)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.affine:
            nn.init.normal_(norm.weight, 1)
            nn.init.normal_(norm.bias)
    check(network.to(memory_format=torch.channels_last).train(), drawn(4, 2, 8, 8))


def body(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(2)
    first = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), *layers, nn.Flatten())
    return nn.Sequential(first, nn.Linear(first(drawn(4, 2, 6, 6)).shape[1], 3))


@pytest.mark.parametrize(
    "make",
    [
        lambda: body(),
        lambda: body(nn.ReLU(inplace=True), nn.Conv2d(4, 6, (3, 2), 2, (0, 1), 1, 2, bias=False)),
        lambda: body(nn.BatchNorm2d(4, eps=0.3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, padding="same", bias=False)),
        lambda: body(nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)),
        lambda: body(nn.AvgPool2d(3, 1, 1)),
    ],
)
def test_other_networks_as_by_double_backward(make: Callable[[], nn.Module]) -> None:
    check(make(), drawn(4, 2, 6, 6))


def test_a_weight_that_two_layers_share_counts_once() -> None:
    network = body(nn.ReLU(), nn.Conv2d(4, 4, 1, bias=False), nn.ReLU(), nn.Conv2d(4, 4, 1, bias=False))
    network[0][4].weight = network[0][2].weight
    weights = list(dict.fromkeys(weights_of(network)))
    found = gradients_and_products(network, weights, drawn(4, 2, 6, 6), loss)
    torch.testing.assert_close(found, plainly(network, weights, drawn(4, 2, 6, 6)))


@pytest.mark.parametrize(
    "layer", [nn.Softmax(1), nn.LayerNorm([4, 6, 6]), nn.InstanceNorm2d(4), nn.BatchNorm2d(4).eval()]
)
def test_operations_that_are_not_listed_are_refused(layer: nn.Module) -> None:
    network = body(layer.double())
    with pytest.raises(NotImplementedError, match="no tangents of"):
        gradients_and_products(network, weights_of(network), drawn(4, 2, 6, 6), loss)


def test_normalisation_needs_two_values_a_channel() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Flatten())
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        F.batch_norm(drawn(1, 3, 1, 1), None, None, training=True)
    with pytest.raises(NotImplementedError, match="batch_norm"):
        gradients_and_products(network, weights_of(network), drawn(1, 2, 1, 1), loss)


def test_the_network_and_its_buffers_are_left_alone() -> None:
    network = DiscreteNetwork(CellSpace().genotype(12_345), 3, 1, 4, 2, batch_norm="running").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    parameters = dict(network.named_parameters())
    assert any(name.endswith("running_mean") for name in before)
    gradients_and_products(network, weights_of(network), drawn(4, 2, 8, 8), loss)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(value is parameters[name] and value.grad is None for name, value in network.named_parameters())
