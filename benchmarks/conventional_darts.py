"""The DARTS search network as it is usually written: one module an edge and operation (arXiv:1806.09055, section 3).

It shares no code with the package; the opponent of bench_darts_cells.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NODES, EDGES, OPERATIONS = 4, 14, 8


def normalised(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, affine=False)


def separable(channels: int, kernel: int, stride: int, dilation: int) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        normalised(channels),
    ]


class Halved(nn.Module):
    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels_in, channels // 2, 1, 2, bias=False)
        self.other = nn.Conv2d(channels_in, channels // 2, 1, 2, bias=False)
        self.norm = normalised(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        return self.norm(torch.cat([self.one(x), self.other(x[:, :, 1:, 1:])], dim=1))


class Zero(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class MixedOp(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        pools = (nn.MaxPool2d(3, stride, 1), nn.AvgPool2d(3, stride, 1, count_include_pad=False))
        self.candidates = nn.ModuleList(
            [
                Zero(stride),
                *(nn.Sequential(pool, normalised(channels)) for pool in pools),
                nn.Identity() if stride == 1 else Halved(channels, channels),
                *(nn.Sequential(*separable(channels, k, stride, 1), *separable(channels, k, 1, 1)) for k in (3, 5)),
                *(nn.Sequential(*separable(channels, k, stride, 2)) for k in (3, 5)),
            ]
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(weight * op(x) for weight, op in zip(weights, self.candidates, strict=True))  # type: ignore[return-value]


class Cell(nn.Module):
    def __init__(self, older: int, newer: int, channels: int, reduces: bool, after: bool) -> None:
        super().__init__()
        self.reduces = reduces
        self.first = Halved(older, channels) if after else self.squeeze(older, channels)
        self.second = self.squeeze(newer, channels)
        self.edges = nn.ModuleList(
            MixedOp(channels, 2 if reduces and source < 2 else 1) for node in range(NODES) for source in range(node + 2)
        )

    @staticmethod
    def squeeze(channels_in: int, channels: int) -> nn.Module:
        return nn.Sequential(nn.ReLU(), nn.Conv2d(channels_in, channels, 1, bias=False), normalised(channels))

    def forward(self, older: Tensor, newer: Tensor, weights: Tensor) -> Tensor:
        states, edge = [self.first(older), self.second(newer)], 0
        for _ in range(NODES):
            terms = [self.edges[edge + place](state, weights[edge + place]) for place, state in enumerate(states)]
            edge += len(states)
            states.append(sum(terms))  # type: ignore[arg-type]
        return torch.cat(states[2:], dim=1)


class Network(nn.Module):
    """Stem, cells with reductions at one and two thirds, classifier; `alphas` (2, 14, 8) inside."""

    def __init__(self, channels: int, cells: int, num_classes: int = 10) -> None:
        super().__init__()
        older = newer = 3 * channels
        self.stem = nn.Sequential(nn.Conv2d(3, newer, 3, padding=1, bias=False), nn.BatchNorm2d(newer))
        layers, after = [], False
        for number in range(cells):
            reduces = number in (cells // 3, 2 * cells // 3)
            channels *= 2 if reduces else 1
            layers.append(Cell(older, newer, channels, reduces, after))
            older, newer, after = newer, NODES * channels, reduces
        self.layers = nn.ModuleList(layers)
        self.classifier = nn.Linear(newer, num_classes)
        self.alphas = nn.Parameter(1e-3 * torch.randn(2, EDGES, OPERATIONS))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.alphas.softmax(dim=-1)
        older = newer = self.stem(x)
        for layer in self.layers:
            older, newer = newer, layer(older, newer, weights[int(layer.reduces)])
        return self.classifier(newer.mean(dim=(2, 3)))


class ConventionalSearch:
    """First-order DARTS with the published optimizers."""

    def __init__(self, channels: int, cells: int) -> None:
        self.network = Network(channels, cells)
        weights = [value for name, value in self.network.named_parameters() if name != "alphas"]
        self.weight_optimizer = torch.optim.SGD(weights, 0.025, momentum=0.9, weight_decay=3e-4)
        self.arch_optimizer = torch.optim.Adam([self.network.alphas], 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)

    def step(self, train: tuple[Tensor, Tensor], valid: tuple[Tensor, Tensor]) -> None:
        for optimizer, (images, labels) in ((self.arch_optimizer, valid), (self.weight_optimizer, train)):
            optimizer.zero_grad()
            F.cross_entropy(self.network(images), labels).backward()  # type: ignore[no-untyped-call]
            if optimizer is self.weight_optimizer:
                nn.utils.clip_grad_norm_((p for g in optimizer.param_groups for p in g["params"]), 5.0)
            optimizer.step()
