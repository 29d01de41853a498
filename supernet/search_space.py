"""The space of cells: every way to put one of O operations on each of E edges."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from supernet.genotype import Genotype, edges_of

NAS_BENCH_201 = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


class SearchSpace:
    """Cells of `num_nodes` nodes over a list of operations; NAS-Bench-201's 15,625 cells by default.

    Args:
        num_nodes: nodes of a cell, the input node included; at least 2.
        operations: names of the candidate operations; at least 2, all different.

    Raises:
        ValueError: too few nodes or operations, a repeated name, or a name that a cell string cannot hold.
    """

    def __init__(self, num_nodes: int = 4, operations: Sequence[str] = NAS_BENCH_201) -> None:
        if num_nodes < 2:
            raise ValueError(f"num_nodes: got {num_nodes}; a cell needs at least 2 nodes")
        if len(operations) < 2 or len(set(operations)) != len(operations):
            raise ValueError(f"operations: got {list(operations)}; give at least 2 different names")
        for name in operations:
            if not name or set(name) & set("|~+"):
                raise ValueError(f"operations: {name!r} cannot stand in a cell string; leave out '|', '~' and '+'")
        self.num_nodes = num_nodes
        self.operations = tuple(operations)
        self.edges = edges_of(num_nodes)

    @property
    def size(self) -> int:
        """Number of cells."""
        return len(self.operations) ** len(self.edges)

    def __iter__(self) -> Iterator[Genotype]:
        return (self.genotype(index) for index in range(self.size))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self.describe() == other.describe()

    def __hash__(self) -> int:
        return hash((self.num_nodes, self.operations))

    def describe(self) -> dict[str, object]:
        """Plain values that identify the space, as they stand in checkpoints and tables."""
        return {"num_nodes": self.num_nodes, "operations": list(self.operations)}

    def parse(self, text: str) -> Genotype:
        """Read a cell string of this space.

        Raises:
            ValueError: no cell string, an operation outside the space, or another number of nodes.
        """
        genotype = Genotype.parse(text, self.operations)
        self.check(genotype)
        return genotype

    def check(self, genotype: Genotype) -> None:
        """Refuse a cell that is not of this space.

        Raises:
            ValueError: another number of nodes, or an operation outside the space.
        """
        if genotype.num_nodes != self.num_nodes:
            raise ValueError(f"cell '{genotype}': got {genotype.num_nodes} nodes, the space has {self.num_nodes}")
        foreign = [name for name in genotype.operations if name not in self.operations]
        if foreign:
            raise ValueError(f"cell '{genotype}': unknown operation {foreign[0]!r}; allowed are {self.operations}")

    def index(self, genotype: Genotype) -> int:
        """Computed position of a cell; see `Genotype.index`. It is not the benchmark's own number."""
        self.check(genotype)
        return genotype.index(self.operations)

    def genotype(self, index: int) -> Genotype:
        """The cell at a computed position."""
        return Genotype.from_index(index, self.operations, self.num_nodes)

    def sample(self, rng: random.Random) -> Genotype:
        """A cell drawn uniformly."""
        return Genotype(tuple(rng.choice(self.operations) for _ in self.edges))

    def neighbours(self, genotype: Genotype) -> list[Genotype]:
        """All cells that differ in exactly one edge: E * (O - 1) of them."""
        self.check(genotype)
        chosen = genotype.operations
        return [
            Genotype((*chosen[:edge], name, *chosen[edge + 1 :]))
            for edge in range(len(self.edges))
            for name in self.operations
            if name != chosen[edge]
        ]

    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """A neighbour drawn uniformly: one edge, another operation (Real et al. 2019, arXiv:1802.01548)."""
        edge = rng.randrange(len(self.edges))
        chosen = list(genotype.operations)
        chosen[edge] = rng.choice([name for name in self.operations if name != chosen[edge]])
        return Genotype(tuple(chosen))

    def crossover(self, first: Genotype, second: Genotype, rng: random.Random) -> Genotype:
        """A child that takes each edge from one of its parents, either with probability one half."""
        return Genotype(tuple(rng.choice(pair) for pair in zip(first.operations, second.operations, strict=True)))

    def encode(self, genotype: Genotype) -> list[int]:
        """One-hot code, edge by edge: E * O zeros and ones."""
        self.check(genotype)
        return [int(name == choice) for choice in genotype.operations for name in self.operations]

    def canonical_form(self, genotype: Genotype) -> str:
        """Text equal for cells that NAS-Bench-201 calls isomorphic (its 6,466 classes).

        Node 0 reads ``0``. Any other node reads its terms, sorted and joined by ``+``. A term is ``#`` if the
        operation is none or its source reads exactly ``#``; the source's own text for skip_connect; else
        ``(source)@operation``. Zero terms stay, so this is not full functional equality.
        """
        self.check(genotype)
        nodes = ["0"]
        chosen = iter(genotype.operations)
        for target in range(1, self.num_nodes):
            terms = []
            for source in range(target):
                name = next(chosen)
                if name == "none" or nodes[source] == "#":
                    terms.append("#")
                elif name == "skip_connect":
                    terms.append(nodes[source])
                else:
                    terms.append(f"({nodes[source]})@{name}")
            nodes.append("+".join(sorted(terms)))
        return nodes[-1]
