"""The network of a pair of cells, as DARTS trains it (Liu et al. 2019, arXiv:1806.09055, section 3.2 and appendix A).

Every cell gets the outputs of the two before it, brought to its channels by a 1x1 convolution. The cells at one and two
thirds of the depth are reduction cells, which halve the image and double the channels.

Shape suffixes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.alike import take_alike
from supernet.cell_pair import INPUTS, CellPair, HalfCell
from supernet.norm import NormFactory, norm_factory
from supernet.operations import FactorizedReduce, build_operation
from supernet.size import NetworkSize

STEM = 3  # times C channels


class Place(NamedTuple):
    """Where a cell stands: channels of what comes in and of its nodes, whether it reduces, and whether the one before
    did, so that the older of its inputs is twice as large."""

    kind: str
    older: int
    newer: int
    channels: int
    after_reduction: bool


def places(size: NetworkSize, outputs: Callable[[str], int], stem: str = "cifar") -> Iterator[Place]:
    """The cells of a network, in order; `outputs` says how many nodes a kind of cell gives out."""
    older = newer = size.channels * STEM if stem == "cifar" else size.channels
    channels, after_reduction = size.channels, stem == "imagenet"
    for number in range(size.cells):
        kind = "reduce" if number in (size.cells // 3, 2 * size.cells // 3) else "normal"
        channels *= 2 if kind == "reduce" else 1
        yield Place(kind, older, newer, channels, after_reduction)
        older, newer, after_reduction = newer, outputs(kind) * channels, kind == "reduce"


def stems(size: NetworkSize, norm: NormFactory, stem: str = "cifar") -> nn.ModuleList:
    """What the first cell gets: one module where both of its inputs are the same, or one after the other."""

    def convolution(channels_in: int, channels: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False), norm(channels)]

    channels = size.channels
    if stem == "cifar":
        return nn.ModuleList([nn.Sequential(*convolution(size.in_channels, STEM * channels, 1))])
    half = channels // 2
    first = [*convolution(size.in_channels, half, 2), nn.ReLU(), *convolution(half, channels, 2)]
    return nn.ModuleList([nn.Sequential(*first), nn.Sequential(nn.ReLU(), *convolution(channels, channels, 2))])


def preprocessing(place: Place, norm: NormFactory) -> nn.ModuleList:
    """Brings both inputs of a cell to its channels and to the size of the newer one."""
    return nn.ModuleList(
        FactorizedReduce(channels_in, place.channels, norm)
        if reduce
        else nn.Sequential(nn.ReLU(), nn.Conv2d(channels_in, place.channels, 1, bias=False), norm(place.channels))
        for channels_in, reduce in ((place.older, place.after_reduction), (place.newer, False))
    )


def dropped(x_BCHW: Tensor, share: float) -> Tensor:
    """Values of some items are zero, those of the others larger for it (Larsson et al. 2017, arXiv:1605.07648)."""
    kept_B111 = torch.rand(len(x_BCHW), 1, 1, 1, device=x_BCHW.device, dtype=torch.float32) >= share
    return x_BCHW * (kept_B111 / (1 - share)).to(x_BCHW.dtype)


class PairCell(nn.Module):
    """One of the two cells with its operations."""

    def __init__(self, half: HalfCell, place: Place, inner: NormFactory, normalised_pools: bool) -> None:
        super().__init__()
        self.genes = half
        self.preprocess = preprocessing(place, inner)
        self.edges = nn.ModuleList(
            build_operation(
                name, place.channels, 2 if place.kind == "reduce" and source < INPUTS else 1, inner, normalised_pools
            )
            for source, _, name in half.connections
        )

    def forward(self, older_BCHW: Tensor, newer_BCHW: Tensor, drop_path: float = 0.0) -> Tensor:
        nodes = [self.preprocess[0](older_BCHW), self.preprocess[1](newer_BCHW)]
        terms = []
        for (source, _, _), operation in zip(self.genes.connections, self.edges, strict=True):
            term_BCHW = operation(nodes[source])
            if drop_path and not isinstance(operation, nn.Identity):
                term_BCHW = dropped(term_BCHW, drop_path)
            terms.append(term_BCHW)
            if len(terms) == 2:
                nodes.append(terms[0] + terms[1])
                terms = []
        return torch.cat([nodes[node] for node in self.genes.output], dim=1)


class AuxiliaryHead(nn.Module):
    """A second classifier, after two thirds of the cells, that serves training alone (Szegedy et al. 2015,
    arXiv:1409.4842); of the size that DARTS gives it at 8x8 and 7x7 pixels."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(128, 768, 2, bias=False), nn.BatchNorm2d(768), nn.ReLU())
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        side = x_BCHW.shape[-1]
        kernel = min(5, side)
        pooled_BCHW = F.avg_pool2d(x_BCHW.relu(), kernel, max(1, side - kernel))
        return self.classifier(self.second(self.first(F.adaptive_avg_pool2d(pooled_BCHW, 2))).flatten(1))


class DartsNetwork(nn.Module):
    """Stem, cells, mean over pixels, linear classifier.

    Args:
        genotype: the two cells.
        size: channels C of the first cells, cells in all.
        batch_norm: see `supernet.norm`.
        affine: scale and shift in the normalisations of cells; without them poolings are normalised, as while
            searching.
        stem: see `supernet.spaces.darts_cells.DartsCells`.

    Attributes:
        drop_path: share of the items whose value an edge drops in training; edges without an operation never do.

    Raises:
        ValueError: a size that is not positive, or an unknown mode.
    """

    def __init__(
        self, genotype: CellPair, size: NetworkSize, batch_norm: str = "running", affine: bool = True,
        stem: str = "cifar",
    ) -> None:  # fmt: skip
        super().__init__()
        size.require("channels", "cells", "num_classes", "in_channels")
        self.genotype, self.cells, self.drop_path = genotype, size.cells, 0.0
        inner = norm_factory(batch_norm, affine)
        self.stem = stems(size, norm_factory(batch_norm, affine=True), stem)
        found = list(places(size, lambda kind: len(getattr(genotype, kind).output), stem))
        self.layers = nn.ModuleList(PairCell(getattr(genotype, p.kind), p, inner, not affine) for p in found)
        widths = [len(getattr(genotype, p.kind).output) * p.channels for p in found]
        self.classifier = nn.Linear(widths[-1], size.num_classes)
        self.auxiliary: AuxiliaryHead | None = None
        self._head = (widths[2 * size.cells // 3], size.num_classes)

    def with_auxiliary(self) -> None:
        """Gives it the auxiliary head: from now on training passes return two outputs."""
        self.auxiliary = AuxiliaryHead(*self._head)

    def forward(self, x_BCHW: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Logits (B, K); those of the auxiliary head beside them while it is trained."""
        older_BCHW, newer_BCHW = entered(self.stem, x_BCHW)
        auxiliary_BK = None
        for number, layer in enumerate(self.layers):
            share = self.drop_path if self.training else 0.0
            older_BCHW, newer_BCHW = newer_BCHW, layer(older_BCHW, newer_BCHW, share)
            if self.auxiliary is not None and self.training and number == 2 * self.cells // 3:
                auxiliary_BK = self.auxiliary(newer_BCHW)
        logits_BK: Tensor = self.classifier(newer_BCHW.mean(dim=(2, 3)))
        return logits_BK if auxiliary_BK is None else (logits_BK, auxiliary_BK)

    def inherit(self, parent: DartsNetwork) -> None:
        """Copy all weights and statistics of a network of this size, outside the edges where the two differ."""
        differing = set()
        for number, (mine, other) in enumerate(zip(self.layers, parent.layers, strict=True)):
            pairs = zip(mine.genes.connections, other.genes.connections, strict=True)  # type: ignore[union-attr, arg-type]
            differing |= {f"layers.{number}.edges.{edge}." for edge, (one, two) in enumerate(pairs) if one != two}
        take_alike(self, parent, differing)

    def counterpart(self, name: str, cells: int) -> str | None:
        """The name that a tensor of this network has in one of so many cells; None if it has none there: cells are
        counted from the beginning of their third."""
        first, _, rest = name.partition(".")
        if first != "layers":
            return name
        number, _, rest = rest.partition(".")
        ends = [[0, n // 3, 2 * n // 3, n] for n in (self.cells, cells)]
        third = max(t for t in range(3) if ends[0][t] <= int(number))
        place = ends[1][third] + int(number) - ends[0][third]
        return f"layers.{place}.{rest}" if place < ends[1][third + 1] else None


def entered(stem: nn.ModuleList, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """The two inputs of the first cell."""
    values = [stem[0](x_BCHW)]
    values += [module(values[-1]) for module in list(stem)[1:]]
    return values[0], values[-1]
