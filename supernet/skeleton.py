"""The macro network that the supernet and the discrete networks share (NAS-Bench-201, arXiv:2001.00326, fig. 1).

Stem, three stages of N cells at C, 2C and 4C channels with a residual reduction between stages, then batch
normalisation, ReLU, the mean over pixels and a linear classifier.

Shape suffixes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from supernet.norm import NormFactory, norm_factory
from supernet.stacked import StackedConvBN


class ResidualReduction(nn.Module):
    """Halves the image and changes the channels: ReLU-conv3x3/2-BN, ReLU-conv3x3-BN, plus a pooled shortcut.

    The shortcut is an average pool 2x2/2 and a 1x1 convolution without bias or normalisation. Odd sizes round
    up on both ways.
    """

    def __init__(self, channels_in: int, channels_out: int, norm: NormFactory) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels_in, channels_out, 3, 2, 1, bias=False), norm(channels_out)
        )
        self.second = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False), norm(channels_out)
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, 2, ceil_mode=True), nn.Conv2d(channels_in, channels_out, 1, bias=False)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.second(self.first(x_BCHW)) + self.shortcut(x_BCHW)


def init_weights(network: nn.Module, generator: torch.Generator | None) -> None:
    """He initialisation over the fan out of one edge, N(0, 0.01^2) for the classifier (NAS-Bench-201's)."""
    for module in network.modules():
        if isinstance(module, StackedConvBN):
            fan_out = module.channels * math.prod(module.weight.shape[2:])
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out), generator=generator)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01, generator=generator)
            nn.init.zeros_(module.bias)


class Skeleton(nn.Module):
    """Stem, cells, reductions and classifier; subclasses say what a cell is.

    Args:
        make_cell: from a number of channels to a cell.
        channels: channels C of the first stage.
        cells: cells a stage, N.
        num_classes: outputs K.
        in_channels: channels of the images.
        batch_norm: statistics mode of all normalisations, see `supernet.norm`.

    Raises:
        ValueError: a size that is not positive, or an unknown mode.
    """

    def __init__(
        self,
        make_cell: Callable[[int], nn.Module],
        channels: int,
        cells: int,
        num_classes: int,
        in_channels: int,
        batch_norm: str,
    ) -> None:
        super().__init__()
        sizes = {"channels": channels, "cells": cells, "num_classes": num_classes, "in_channels": in_channels}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name}: got {size}; give 1 or more")
        self.channels, self.cells = channels, cells
        self.num_classes, self.in_channels, self.batch_norm = num_classes, in_channels, batch_norm
        norm = norm_factory(batch_norm, affine=True)
        self.stem = nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), norm(channels))
        self.layers = nn.ModuleList()
        for stage in range(3):
            width = channels * 2**stage
            if stage:
                self.layers.append(ResidualReduction(width // 2, width, norm))
            self.layers.extend(make_cell(width) for _ in range(cells))
        self.last_norm = norm(channels * 4)
        self.classifier = nn.Linear(channels * 4, num_classes)

    def counterpart(self, name: str, cells: int) -> str | None:
        """The name that a tensor of this network has in one of so many cells a stage; None if it has none there: the
        first cells of a stage have one, and the reductions."""
        first, dot, rest = name.partition(".")
        if first != "layers":
            return name
        layer, _, rest = rest.partition(".")
        stage, place = divmod(int(layer), self.cells + 1)
        if place == self.cells:  # a reduction
            place = cells
        elif place >= cells:
            return None
        return f"layers{dot}{stage * (cells + 1) + place}.{rest}"

    def run(self, x_BCHW: Tensor, run_cell: Callable[[nn.Module, Tensor], Tensor]) -> Tensor:
        """Logits (B, K); `run_cell` says how a cell is called."""
        x_BCHW = self.stem(x_BCHW)
        for layer in self.layers:
            x_BCHW = layer(x_BCHW) if isinstance(layer, ResidualReduction) else run_cell(layer, x_BCHW)
        features_BC = self.last_norm(x_BCHW).relu().mean(dim=(2, 3))
        return self.classifier(features_BC)
