"""Motifs of motifs (Liu et al. 2018, arXiv:1711.00436): graphs of operations, and a cell whose edges are these."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from supernet.genomes import Motifs
from supernet.genotype import Genotype, edges_of
from supernet.size import NetworkSize
from supernet.spaces.base import Space

if TYPE_CHECKING:
    from supernet.motif_network import MotifNetwork

PRIMITIVES = ("none", "skip_connect", "nor_conv_1x1", "sep_conv_3x3", "nor_conv_3x3", "max_pool_3x3", "avg_pool_3x3")
LOWEST = ("none", "skip_connect")  # what edges of higher levels may be beside motifs


class Hierarchical(Space):
    """A genotype has levels: the motifs of the lowest are graphs over operations, those of the next ones graphs over
    the motifs below; the highest level has one, the cell of the network.

    Args:
        motifs: how many each level has, from the lowest; the last is 1.
        num_nodes: nodes of a motif, by level; at least 2.
        operations: of the lowest level.

    Raises:
        ValueError: other numbers, or operations that repeat.
    """

    def __init__(
        self,
        motifs: Sequence[int] = (3, 1),
        num_nodes: Sequence[int] = (3, 4),
        operations: Sequence[str] = PRIMITIVES,
    ) -> None:
        if len(motifs) < 2 or motifs[-1] != 1 or not all(1 <= count <= 16 for count in motifs):
            raise ValueError(f"motifs: got {list(motifs)}; give two levels or more, 1 to 16 motifs each, the last 1")
        if len(num_nodes) != len(motifs) or not all(2 <= nodes <= 8 for nodes in num_nodes):
            raise ValueError(f"num_nodes: got {list(num_nodes)}; give 2 to 8 nodes for each of {len(motifs)} levels")
        if len(operations) < 2 or len(set(operations)) != len(operations):
            raise ValueError(f"operations: got {list(operations)}; give at least 2 different names")
        self.motifs, self.num_nodes, self.operations = tuple(motifs), tuple(num_nodes), tuple(operations)
        self.names = [
            self.operations if level == 0 else (*LOWEST, *(f"motif{n}" for n in range(1, motifs[level - 1] + 1)))
            for level in range(len(motifs))
        ]
        self.levels = [level for level, count in enumerate(motifs) for _ in range(count)]  # of every motif, in order

    def describe(self) -> dict[str, Any]:
        return {
            "motifs": list(self.motifs), "num_nodes": list(self.num_nodes), "operations": list(self.operations),
        }  # fmt: skip

    def parse(self, text: str) -> Motifs:
        """Read ``MOTIF;MOTIF;CELL``, each a cell string, level after level.

        Raises:
            ValueError: it is something else; the message names the motif.
        """
        parts = text.strip().split(";")
        if len(text) > 20_000 or len(parts) != len(self.levels):
            raise ValueError(f"genotype: got {len(parts)} motifs, joined by ';'; the space has {len(self.levels)}")
        found = []
        for number, (part, level) in enumerate(zip(parts, self.levels, strict=True), start=1):
            try:
                found.append(Genotype.parse(part, self.names[level]))
            except ValueError as error:
                raise ValueError(f"motif {number} of level {level + 1}: {error}") from None
        genotype = Motifs(tuple(found))
        self.check(genotype)
        return genotype

    def check(self, genotype: Motifs) -> None:
        if len(genotype.motifs) != len(self.levels):
            raise ValueError(f"genotype: got {len(genotype.motifs)} motifs; the space has {len(self.levels)}")
        for number, (motif, level) in enumerate(zip(genotype.motifs, self.levels, strict=True), start=1):
            if motif.num_nodes != self.num_nodes[level] or not set(motif.operations) <= set(self.names[level]):
                raise ValueError(
                    f"motif {number} of level {level + 1}: got {motif}; give {self.num_nodes[level]} nodes over "
                    f"{', '.join(self.names[level])}"
                )

    def sample(self, rng: random.Random) -> Motifs:
        """The operation of every edge of every motif, drawn uniformly."""
        return self.decided([rng.randrange(count) for count in self.choices])

    def mutate(self, genotype: Motifs, rng: random.Random) -> Motifs:
        """Another operation on one edge of one motif: motif and edge drawn uniformly (section 3.1)."""
        place = rng.randrange(len(genotype.motifs))
        chosen, names = list(genotype.motifs[place].operations), self.names[self.levels[place]]
        edge = rng.randrange(len(chosen))
        chosen[edge] = rng.choice([name for name in names if name != chosen[edge]])
        return self._with(genotype, place, Genotype(tuple(chosen)))

    @staticmethod
    def _with(genotype: Motifs, place: int, motif: Genotype) -> Motifs:
        return Motifs((*genotype.motifs[:place], motif, *genotype.motifs[place + 1 :]))

    def crossover(self, first: Motifs, second: Motifs, rng: random.Random) -> Motifs:
        """A child that takes each motif from one of its parents, either with probability one half."""
        return Motifs(tuple(rng.choice(pair) for pair in zip(first.motifs, second.motifs, strict=True)))

    @cached_property
    def choices(self) -> tuple[int, ...]:  # type: ignore[override]
        """One decision an edge, motif after motif."""
        return tuple(len(self.names[level]) for level in self.levels for _ in edges_of(self.num_nodes[level]))

    def decisions(self, genotype: Motifs) -> tuple[int, ...]:
        pairs = zip(genotype.motifs, self.levels, strict=True)
        return tuple(self.names[level].index(name) for motif, level in pairs for name in motif.operations)

    def decided(self, decisions: Sequence[int]) -> Motifs:
        given, motifs = iter(decisions), []
        for level in self.levels:
            names = [self.names[level][next(given)] for _ in edges_of(self.num_nodes[level])]
            motifs.append(Genotype(tuple(names)))
        return Motifs(tuple(motifs))

    @property
    def size(self) -> int:
        """Number of texts; many of them compute the same."""
        found = 1
        for count in self.choices:
            found *= count
        return found

    def encode(self, genotype: Motifs) -> list[int]:
        """One-hot code, edge by edge."""
        pairs = zip(self.decisions(genotype), self.choices, strict=True)
        return [int(choice == place) for choice, count in pairs for place in range(count)]

    def connections(self, genotype: Motifs) -> Mapping[str, tuple[tuple[int, int, str], ...]]:  # type: ignore[override]
        """The motifs, and the cell."""
        last = len(genotype.motifs) - 1
        return {
            ("cell" if place == last else f"motif{place + 1}"): motif.connections
            for place, motif in enumerate(genotype.motifs)
        }

    def network(self, genotype: Motifs, size: NetworkSize, batch_norm: str = "running") -> MotifNetwork:
        from supernet.motif_network import MotifNetwork

        return MotifNetwork(genotype, self.motifs, size, batch_norm)
