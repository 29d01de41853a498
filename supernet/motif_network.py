"""The network of a hierarchical genotype: NAS-Bench-201's skeleton around cells whose edges are motifs.

Shape suffixes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from supernet.alike import take_alike
from supernet.discrete_network import along
from supernet.genomes import Motifs
from supernet.norm import NormFactory, norm_factory
from supernet.operations import build_operation
from supernet.size import NetworkSize
from supernet.skeleton import Skeleton


class MotifCell(nn.Module):
    """A graph whose edges are operations or graphs of the level below, each with weights of its own."""

    def __init__(self, levels: Sequence[Motifs], place: int, channels: int, norm: NormFactory) -> None:
        super().__init__()
        motif = levels[-1].motifs[place]
        self.pairs = [(source, target) for source, target, _ in motif.connections]
        self.edges = nn.ModuleList(
            MotifCell(levels[:-1], int(name.removeprefix("motif")) - 1, channels, norm)
            if name.startswith("motif")
            else build_operation(name, channels, 1, norm)
            for *_, name in motif.connections
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return along(self.pairs, self.edges, x_BCHW)


class MotifNetwork(Skeleton):
    """The skeleton around cells of motifs.

    Args:
        genotype: graphs of all levels.
        motifs: how many each level has, from the lowest.
        size: of the network.
        batch_norm: see `supernet.norm`.
    """

    def __init__(self, genotype: Motifs, motifs: Sequence[int], size: NetworkSize, batch_norm: str = "running") -> None:
        inner, rest, levels = norm_factory(batch_norm, affine=True), list(genotype.motifs), []
        for count in motifs:
            levels.append(Motifs(tuple(rest[:count])))
            rest = rest[count:]
        super().__init__(
            lambda width: MotifCell(levels, 0, width, inner),
            size.channels, size.cells, size.num_classes, size.in_channels, batch_norm,
        )  # fmt: skip

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K)."""
        return self.run(x_BCHW, lambda cell, value_BCHW: cell(value_BCHW))

    def inherit(self, parent: nn.Module) -> None:
        """Copy the tensors of another network that have the same place and shape here."""
        take_alike(self, parent)
