"""A DARTS supernet as it is usually written: the opponent of the benchmarks, from the definition alone.

One nn.Module an edge and operation, nn.BatchNorm2d(affine=False) in each, NCHW, architecture parameters inside the
network, and gradients of everything in both half-steps. It shares no code with the package.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NODES = 4


def conv_bn(channels: int, kernel_size: int) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(channels, affine=False),
    )


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul(0.0)


class MixedOp(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(
            [
                Zero(),
                nn.Identity(),
                conv_bn(channels, 1),
                conv_bn(channels, 3),
                nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
            ]
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(weight * op(x) for weight, op in zip(weights, self.candidates, strict=True))  # type: ignore[return-value]


class Cell(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict(
            {f"{target}<-{source}": MixedOp(channels) for target in range(1, NODES) for source in range(target)}
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        nodes, edge = [x], 0
        for target in range(1, NODES):
            total = torch.zeros_like(x)
            for source in range(target):
                total = total + self.edges[f"{target}<-{source}"](nodes[source], weights[edge])
                edge += 1
            nodes.append(total)
        return nodes[-1]


class Reduction(nn.Module):
    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels_in, channels_out, 3, 2, 1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(channels_in, channels_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


class Network(nn.Module):
    """Stem, three stages of `cells` cells with reductions between them, classifier; `alphas` (6, 5) inside."""

    def __init__(self, channels: int, cells: int, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        layers: list[nn.Module] = []
        for stage in range(3):
            if stage:
                layers.append(Reduction(channels * 2 ** (stage - 1), channels * 2**stage))
            layers += [Cell(channels * 2**stage) for _ in range(cells)]
        self.layers = nn.ModuleList(layers)
        self.last = nn.Sequential(nn.BatchNorm2d(channels * 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(channels * 4, num_classes)
        self.alphas = nn.Parameter(1e-3 * torch.randn(6, 5))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.alphas.softmax(dim=1)
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x, weights) if isinstance(layer, Cell) else layer(x)
        return self.classifier(self.last(x))

    def forward_flops(self, image_size: int) -> int:
        """FLOPs of all convolutions for one image, two a multiply-add."""
        total = 0

        def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal total
            assert isinstance(module.weight, Tensor)
            total += 2 * output[0, 0].numel() * module.weight.numel()

        handles = [m.register_forward_hook(add) for m in self.modules() if isinstance(m, nn.Conv2d)]
        with torch.no_grad():
            self(torch.zeros(2, 3, image_size, image_size))
        for handle in handles:
            handle.remove()
        return total


class ConventionalSearch:
    """First-order DARTS with the published optimizers."""

    def __init__(self, channels: int, cells: int) -> None:
        self.network = Network(channels, cells)
        weights = [value for name, value in self.network.named_parameters() if name != "alphas"]
        self.weight_optimizer = torch.optim.SGD(weights, 0.025, momentum=0.9, nesterov=True, weight_decay=5e-4)
        self.arch_optimizer = torch.optim.Adam([self.network.alphas], 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)

    def step(self, train: tuple[Tensor, Tensor], valid: tuple[Tensor, Tensor]) -> None:
        """One architecture step, one weight step."""
        for optimizer, (images, labels) in ((self.arch_optimizer, valid), (self.weight_optimizer, train)):
            self.network.zero_grad()
            F.cross_entropy(self.network(images), labels).backward()
            optimizer.step()
