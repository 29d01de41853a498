"""The network of one genotype, as NAS-Bench-201 trains it.

Shape suffixes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from supernet.genotype import Genotype
from supernet.norm import NormFactory, norm_factory
from supernet.operations import build_operation
from supernet.skeleton import Skeleton


def along(pairs: Sequence[tuple[int, int]], operations: Iterable[nn.Module], x_BCHW: Tensor) -> Tensor:
    """The last node of a graph whose edges, ordered by target, are these (source, target) with an operation each."""
    nodes: dict[int, Tensor] = {0: x_BCHW}
    for (source, target), operation in zip(pairs, operations, strict=True):
        term_BCHW = operation(nodes[source])
        nodes[target] = nodes[target] + term_BCHW if target in nodes else term_BCHW
    return nodes[max(nodes)]


class DiscreteCell(nn.Module):
    """One operation an edge; a node is the sum over its incoming edges, the last node is the output."""

    def __init__(self, genotype: Genotype, channels: int, norm: NormFactory) -> None:
        super().__init__()
        self.pairs = [(source, target) for source, target, _ in genotype.connections]
        self.edges = nn.ModuleList(build_operation(name, channels, 1, norm) for *_, name in genotype.connections)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return along(self.pairs, self.edges, x_BCHW)


class DiscreteNetwork(Skeleton):
    """Stem, cells of one genotype, reductions, classifier.

    Args:
        genotype: the cell.
        channels, cells, num_classes, in_channels: as in `SuperNet`; the benchmark's are 16, 5, 10, 3.
        batch_norm: ``running`` to train and use the network, ``batch`` to compare it with a supernet.
        affine_cells: normalisations inside cells have scale and shift, as in the benchmark.
    """

    def __init__(
        self,
        genotype: Genotype,
        channels: int = 16,
        cells: int = 5,
        num_classes: int = 10,
        in_channels: int = 3,
        batch_norm: str = "running",
        affine_cells: bool = True,
    ) -> None:
        inner = norm_factory(batch_norm, affine=affine_cells)
        super().__init__(
            lambda width: DiscreteCell(genotype, width, inner), channels, cells, num_classes, in_channels, batch_norm
        )
        self.genotype = genotype

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K)."""
        return self.run(x_BCHW, lambda cell, value_BCHW: cell(value_BCHW))

    def inherit(self, parent: DiscreteNetwork) -> None:
        """Copy all weights and statistics of a network of this size, outside the edges where the two cells differ (Real
        et al. 2017, arXiv:1703.01041, section 3.3)."""
        pairs = zip(self.genotype.connections, parent.genotype.connections, strict=True)
        differing = tuple(f".edges.{edge}." for edge, pair in enumerate(pairs) if pair[0] != pair[1])
        kept = {name: v for name, v in parent.state_dict().items() if not any(part in name for part in differing)}
        self.load_state_dict(kept, strict=False)
