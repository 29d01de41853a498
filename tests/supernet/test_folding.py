"""Networks with their normalisation folded, and the discrete network itself, against plain functions of its tensors."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.folding import folded
from supernet.genotype import Genotype
from supernet.size import NetworkSize
from supernet.spaces.cells import CellSpace

SPACE = CellSpace()
SIZE = NetworkSize(channels=4, cells=2, num_classes=3, in_channels=3, image_size=8)
CELLS = [SPACE.sample(random.Random(seed)) for seed in range(4)] + [
    SPACE.parse("|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|")
]


def used(cell: Genotype, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A network whose statistics, scales and shifts are no defaults, in evaluation mode."""
    torch.manual_seed(0)
    network = SPACE.network(cell, SIZE).to(dtype)
    with torch.no_grad():
        for value in network.parameters():
            if value.dim() == 1:
                value.add_(torch.randn(value.shape, dtype=dtype), alpha=0.3)
        for _ in range(3):
            network(3 + 2 * torch.randn(8, 3, 8, 8, dtype=dtype))
    return network.eval()


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_folding_changes_nothing(cell: Genotype) -> None:
    network, images = used(cell), torch.randn(5, 3, 8, 8, dtype=torch.float64)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    small = folded(network)
    torch.testing.assert_close(small(images), network(images), rtol=1e-10, atol=1e-10)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    single = used(cell, torch.float32)
    with torch.no_grad():
        plain, other = single(images.float()), folded(single)(images.float())
    assert float((plain - other).abs().max()) < 1e-5 * max(1.0, float(plain.abs().max()))


def test_only_the_last_normalisation_stays() -> None:
    left = [name for name, module in folded(used(CELLS[-1])).named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert left == ["last_norm"]


def test_normalisations_by_the_batch_stay() -> None:
    network = SPACE.network(CELLS[-1], SIZE, "batch").eval()
    images = torch.randn(5, 3, 8, 8)
    count = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded(network).modules()) == count
    torch.testing.assert_close(folded(network)(images), network(images))


def normalised(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean, variance, scale, shift = (
        weights[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(variance + 1e-5) * scale + shift


def by_hand(cell: Genotype, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """The network of NAS-Bench-201 from its tensors alone, an edge at a time."""
    x = normalised(weights, "stem.1", F.conv2d(x, weights["stem.0.weight"], padding=1))
    layer = 0
    for stage in range(3):
        if stage:
            name = f"layers.{layer}"
            main = F.conv2d(x.clamp_min(0), weights[f"{name}.first.1.weight"], stride=2, padding=1)
            main = normalised(weights, f"{name}.first.2", main).clamp_min(0)
            main = normalised(
                weights, f"{name}.second.2", F.conv2d(main, weights[f"{name}.second.1.weight"], padding=1)
            )
            x = main + F.conv2d(F.avg_pool2d(x, 2), weights[f"{name}.shortcut.1.weight"])
            layer += 1
        for _ in range(SIZE.cells):
            nodes = [x, *[torch.zeros_like(x) for _ in range(3)]]
            for edge, (source, target, operation) in enumerate(cell.connections):
                value, name = nodes[source], f"layers.{layer}.edges.{edge}"
                if operation == "none":
                    continue
                if operation.startswith("nor_conv"):
                    padding = 1 if operation.endswith("3x3") else 0
                    value = F.conv2d(value.clamp_min(0), weights[f"{name}.1.weight"], padding=padding)
                    value = normalised(weights, f"{name}.2", value)
                elif operation == "avg_pool_3x3":
                    ones = torch.ones_like(value)
                    value = F.avg_pool2d(value, 3, 1, 1) / F.avg_pool2d(ones, 3, 1, 1)
                nodes[target] = nodes[target] + value
            x = nodes[3]
            layer += 1
    x = normalised(weights, "last_norm", x).clamp_min(0).mean(dim=(2, 3))
    return x @ weights["classifier.weight"].T + weights["classifier.bias"]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_discrete_network_is_what_the_benchmark_says(cell: Genotype) -> None:
    network, images = used(cell), torch.randn(5, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(network(images), by_hand(cell, network.state_dict(), images), rtol=1e-10, atol=1e-10)
