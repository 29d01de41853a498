"""Networks of residual blocks with channels of their own, and all of them in one with shared weights.

Shape suffixes: B batch, C channels, H height, W width, K classes, E blocks, O numbers of channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from supernet.convolution import convolution
from supernet.genomes import Widths
from supernet.norm import NormFactory, norm_factory
from supernet.relaxations.base import EdgeWeights
from supernet.size import NetworkSize
from supernet.skeleton import init_weights

STRIDES = (1, 2, 1, 2, 1)


class Block(nn.Module):
    """ReLU of x + BN-conv3x3(ReLU-BN-conv3x3(x)), x through a 1x1 convolution where its shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int, norm: NormFactory) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False), norm(channels))
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), norm(channels))
        self.shortcut = nn.Sequential(convolution(channels_in, channels, 1, stride), norm(channels))

    def forward(self, x_BCHW: Tensor, mask_C: Tensor | None = None) -> Tensor:
        """With a mask its channels count with these weights, and those of weight 0 are as if they were not there."""
        if mask_C is None:
            return (self.second(self.first(x_BCHW).relu()) + self.shortcut(x_BCHW)).relu()
        mask_C11 = mask_C[:, None, None]
        inner_BCHW = mask_C11 * self.first(x_BCHW).relu()
        return mask_C11 * (self.second(inner_BCHW) + self.shortcut(x_BCHW)).relu()


class _Sized(nn.Module):
    """A stem as wide as the first block, the blocks, the mean over pixels, a linear classifier."""

    def __init__(self, channels: Sequence[int], size: NetworkSize, batch_norm: str, affine: bool) -> None:
        super().__init__()
        norm = norm_factory(batch_norm, affine)
        self.stem = nn.Sequential(nn.Conv2d(size.in_channels, channels[0], 3, 1, 1, bias=False), norm(channels[0]))
        widths = [channels[0], *channels]
        self.blocks = nn.ModuleList(
            Block(a, b, stride, norm) for a, b, stride in zip(widths, channels, STRIDES, strict=False)
        )
        self.classifier = nn.Linear(channels[-1], size.num_classes)


class SizedNetwork(_Sized):
    """Of one genotype.

    Args:
        widths: the genotype.
        size: inputs and classes; its channels and cells say nothing here.
        batch_norm: see `supernet.norm`.
        affine: scale and shift in the normalisations.
    """

    def __init__(self, widths: Widths, size: NetworkSize, batch_norm: str = "running", affine: bool = True) -> None:
        super().__init__(widths.channels, size, batch_norm, affine)
        self.widths = widths

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K)."""
        x_BCHW = self.stem(x_BCHW)
        for block in self.blocks:
            x_BCHW = block(x_BCHW)
        logits_BK: Tensor = self.classifier(x_BCHW.mean(dim=(2, 3)))
        return logits_BK

    def inherit(self, parent: nn.Module) -> None:
        """Copy what both have of every tensor: the first rows and columns."""
        with torch.no_grad():
            theirs = parent.state_dict()
            for name, own in self.state_dict().items():
                if own.dim() == 0:
                    own.copy_(theirs[name])
                    continue
                both = tuple(slice(min(a, b)) for a, b in zip(own.shape, theirs[name].shape, strict=True))
                own[both] = theirs[name][both]


class SizedSuperNet(_Sized):
    """All of them in one: every block is as wide as the widest, and its channels are weighed by the widths that have
    them.

    Args:
        channels: to choose from.
        size: inputs and classes.
        batch_norm: ``batch`` or ``running`` statistics, see `supernet.norm`.
        generator: source of the initial weights; torch's global one if None.
    """

    num_cells = 1
    passes_by: tuple[str, ...] = ()  # what of `EdgeWeights` goes past operations here

    def __init__(
        self, channels: Sequence[int], size: NetworkSize, batch_norm: str = "batch",
        generator: torch.Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__([max(channels)] * len(STRIDES), size, batch_norm, affine=False)
        self.channels, self.network_size, self.batch_norm = tuple(channels), size, batch_norm
        self.register_buffer(
            "has_OC", torch.tensor([[place < width for place in range(max(channels))] for width in channels]), False
        )
        init_weights(self, generator)
        self.to(memory_format=torch.channels_last)

    def forward(self, x_BCHW: Tensor, edge_weights: EdgeWeights) -> Tensor:
        """Logits (B, K) of the mixture.

        Raises:
            ValueError: extra skips or partial channels, which have no meaning here.
        """
        mine, has_OC = edge_weights.of_only_cell("sizes"), self.has_OC
        active_EO = torch.tensor(mine.active_EO, device=x_BCHW.device)
        mask_EC = mine.weights.masked_fill(~active_EO, 0.0) @ has_OC.to(mine.weights.dtype)  # type: ignore[operator]
        x_BCHW = mask_EC[0][:, None, None] * self.stem(x_BCHW)
        for block, mask_C in zip(self.blocks, mask_EC, strict=True):
            x_BCHW = block(x_BCHW, mask_C)
        logits_BK: Tensor = self.classifier(x_BCHW.mean(dim=(2, 3)))
        return logits_BK

    def resting(self, paths: Sequence[EdgeWeights]) -> list[tuple[nn.Parameter, Tensor]]:
        """Rows of channels that none of these passes has."""
        widest = [
            max(width for path in paths for width, on in zip(self.channels, path.active_EO[e], strict=True) if on)
            for e in range(len(self.blocks))
        ]
        layers: list[tuple[int, Any]] = [(widest[0], self.stem[0])]
        for width, block in zip(widest, self.blocks, strict=True):
            layers += [(width, part[0]) for part in (block.first, block.second, block.shortcut)]  # type: ignore[index, union-attr]
        return [
            (layer.weight, torch.arange(width, len(layer.weight), device=layer.weight.device))
            for width, layer in layers
            if width < len(layer.weight)
        ]

    def inherit(self, genotype: Widths) -> SizedNetwork:
        """The network of one genotype with a copy of the first rows and columns of the weights."""
        network = SizedNetwork(genotype, self.network_size, self.batch_norm, affine=False).to(self.classifier.weight)
        network.inherit(self)
        return network.train(self.training)
