"""Folding keeps what a network computes; and the network of a cell is what its text says, edge by edge."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from supernet.discrete_network import DiscreteNetwork
from supernet.folding import folded
from supernet.operations import FactorizedReduce
from supernet.size import NetworkSize
from supernet.spaces.cells import CellSpace

SPACE = CellSpace()
SIZE = NetworkSize(channels=3, cells=2, num_classes=5, in_channels=2, image_size=9)
NAMED = [
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
    "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|",
    "|avg_pool_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|none~1|avg_pool_3x3~2|",
    "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
]
RANDOM = [str(SPACE.sample(random.Random(seed))) for seed in range(8)]


def images(count: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    shape = (count, SIZE.in_channels, SIZE.image_size, SIZE.image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@torch.no_grad()
def lived_in(network: nn.Module, seed: int = 0) -> nn.Module:
    """With weights, scales and shifts that are drawn, and statistics of some passes."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if parameter.ndim > 1:
            drawn *= (2 / parameter[0].numel()) ** 0.5
        elif name.endswith("weight"):
            drawn = 0.5 + drawn.abs()
        parameter.copy_(drawn)
    network.train()
    for seed in range(3):
        network(1 + 2 * images(8, seed, next(network.parameters()).dtype))
    return network


def made(cell: str, dtype: torch.dtype = torch.float64, batch_norm: str = "running") -> nn.Module:
    return lived_in(SPACE.network(SPACE.parse(cell), SIZE, batch_norm).to(dtype))


@torch.no_grad()
def assert_same(one: nn.Module, other: nn.Module, dtype: torch.dtype, within: float) -> None:
    for count in (1, 5):
        inputs = images(count, 7, dtype)
        torch.testing.assert_close(one(inputs), other(inputs), rtol=within, atol=within)


@pytest.mark.parametrize("cell", [*NAMED, *RANDOM])
def test_a_folded_network_computes_the_same(cell: str) -> None:
    network = made(cell)
    assert_same(folded(network), network.eval(), torch.float64, 1e-10)


@pytest.mark.parametrize("cell", [*NAMED[:2], *RANDOM[:3]])
def test_in_single_precision_up_to_its_rounding(cell: str) -> None:
    network = made(cell, torch.float32)
    quick = folded(network)
    assert_same(quick, network.eval(), torch.float32, 1e-5)
    assert {parameter.dtype for parameter in quick.parameters()} == {torch.float32}


def test_the_original_stays_as_it_was() -> None:
    network = made(NAMED[0])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    kinds = [type(module) for module in network.modules()]
    quick = folded(network)
    with torch.no_grad():
        for parameter in quick.parameters():
            parameter.fill_(3)
    assert network.training
    assert not quick.training
    assert [type(module) for module in network.modules()] == kinds
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("cell", [*NAMED, *RANDOM[:3]])
def test_no_normalisation_follows_a_convolution_any_more(cell: str) -> None:
    """The one before the classifier is all that is left."""
    network = made(cell)
    quick = folded(network)
    left = [name for name, module in quick.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert left == ["last_norm"]
    before, after = (
        {name for name, module in one.named_modules() if isinstance(module, nn.Conv2d)} for one in (network, quick)
    )
    assert after == before


def test_statistics_of_the_batch_cannot_be_folded() -> None:
    network = made(NAMED[0], batch_norm="batch").eval()
    quick = folded(network)
    count, left = (sum(isinstance(m, nn.BatchNorm2d) for m in one.modules()) for one in (network, quick))
    assert left == count > 10
    with torch.no_grad():
        assert torch.equal(quick(images()), network(images()))


@pytest.mark.parametrize(
    ("options", "affine"),
    [
        ({"bias": True}, True),
        ({"bias": False}, False),
        ({"bias": True}, False),
        ({"groups": 2, "stride": 2, "padding": 1}, True),
        ({"groups": 4, "dilation": 2, "padding": 2, "bias": False}, True),
        ({"padding": "same"}, True),
    ],
)
def test_convolutions_of_every_shape(options: dict[str, int | bool | str], affine: bool) -> None:
    sequence = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 8, 3, **options), nn.BatchNorm2d(8, 1e-2, affine=affine))  # type: ignore[arg-type]
    network = lived_in(sequence.double())
    quick = folded(network)
    assert isinstance(quick[2], nn.Identity)  # type: ignore[index]
    assert_same(quick, network.eval(), torch.float64, 1e-10)


def test_only_what_follows_a_convolution_at_once_is_folded() -> None:
    network = nn.Sequential(
        nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3), nn.ReLU(), nn.BatchNorm2d(4),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),
        FactorizedReduce(4, 4, nn.BatchNorm2d), nn.Conv2d(4, 3, 1),
    )  # fmt: skip
    lived_in(network.double())
    quick = folded(network)
    left = [name for name, module in quick.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert left == ["0", "3", "4.2", "5.norm"]
    assert_same(quick, network.eval(), torch.float64, 1e-10)


# The network of a cell, from its tensors alone


def by_hand(cell: str, weights: dict[str, Tensor], x: Tensor, cells: int) -> Tensor:
    """Logits, one edge after the other."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance, scale, shift = (
            weights[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    def convolved(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = weights[f"{name}.1.weight"]
        return norm(F.conv2d(x.clamp(min=0), weight, stride=stride, padding=weight.shape[-1] // 2), f"{name}.2")

    def mean3x3(x: Tensor) -> Tensor:
        """Of the pixels that are there."""
        sums, counts = (
            sum(F.pad(values, (1, 1, 1, 1))[..., i : i + values.shape[-2], j : j + values.shape[-1]]
                for i in range(3) for j in range(3))
            for values in (x, torch.ones_like(x))
        )  # fmt: skip
        return sums / counts  # type: ignore[operator]

    def mean2x2(x: Tensor) -> Tensor:
        """Of the pixels that are there; odd sizes round up."""
        rows = [x[..., i : i + 2, :].mean(dim=-2) for i in range(0, x.shape[-2], 2)]
        halved = torch.stack(rows, dim=-2)
        return torch.stack([halved[..., j : j + 2].mean(dim=-1) for j in range(0, x.shape[-1], 2)], dim=-1)

    def cell_of(x: Tensor, layer: str) -> Tensor:
        nodes, edge = [x], 0
        for text in cell.split("+"):
            node = torch.zeros_like(x)
            for term in text.strip("|").split("|"):
                name, source = term.split("~")
                value = nodes[int(source)]
                if name == "skip_connect":
                    node = node + value
                elif name == "avg_pool_3x3":
                    node = node + mean3x3(value)
                elif name != "none":
                    node = node + convolved(value, f"{layer}.edges.{edge}")
                edge += 1
            nodes.append(node)
        return nodes[-1]

    x = norm(F.conv2d(x, weights["stem.0.weight"], padding=1), "stem.1")
    layer = 0
    for stage in range(3):
        if stage:
            name = f"layers.{layer}"
            shortcut = F.conv2d(mean2x2(x), weights[f"{name}.shortcut.1.weight"])
            x = convolved(convolved(x, f"{name}.first", 2), f"{name}.second") + shortcut
            layer += 1
        for _ in range(cells):
            x = cell_of(x, f"layers.{layer}")
            layer += 1
    features = norm(x, "last_norm").clamp(min=0).mean(dim=(2, 3))
    return features @ weights["classifier.weight"].T + weights["classifier.bias"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, SPACE.size - 1), st.integers(1, 2))
def test_the_network_of_a_cell_is_what_its_text_says(index: int, cells: int) -> None:
    genotype = SPACE.genotype(index)
    network = DiscreteNetwork(genotype, 3, cells, SIZE.num_classes, SIZE.in_channels).double()
    lived_in(network, index)
    weights = dict(network.state_dict())
    with torch.no_grad():
        expected = by_hand(str(genotype), weights, images(), cells)
        torch.testing.assert_close(network.eval()(images()), expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(folded(network)(images()), expected, rtol=1e-10, atol=1e-10)
    assert expected.std() > 1e-3, "a network that says the same of all images proves nothing"
