"""The space of NAS-Bench-201's cells: every way to put one of O operations on each of E edges."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

from supernet.genotype import Genotype, edges_of
from supernet.size import Cost, NetworkSize
from supernet.spaces.base import Space
from supernet.wiring import Cell

if TYPE_CHECKING:
    import torch

    from supernet.discrete_network import DiscreteNetwork
    from supernet.network import SuperNet

NAS_BENCH_201 = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


MOST_NODES = 16  # 120 edges


class CellSpace(Space):
    """Cells of `num_nodes` nodes over a list of operations; NAS-Bench-201's 15,625 cells by default.

    Args:
        num_nodes: nodes of a cell, the input node included; at least 2.
        operations: names of the candidate operations; at least 2, all different.

    Raises:
        ValueError: too few nodes or operations, a repeated name, or a name that a cell string cannot hold.
    """

    def __init__(self, num_nodes: int = 4, operations: Sequence[str] = NAS_BENCH_201) -> None:
        if not 2 <= num_nodes <= MOST_NODES:
            raise ValueError(f"num_nodes: got {num_nodes}; give 2 to {MOST_NODES} nodes")
        if len(operations) < 2 or len(set(operations)) != len(operations):
            raise ValueError(f"operations: got {list(operations)}; give at least 2 different names")
        for name in operations:
            if not name or set(name) & set("|~+"):
                raise ValueError(f"operations: {name!r} cannot stand in a cell string; leave out '|', '~' and '+'")
        self.num_nodes = num_nodes
        self.operations = tuple(operations)
        self.edges = edges_of(num_nodes)
        self._others = {name: [other for other in operations if other != name] for name in operations}

    @property
    def size(self) -> int:
        """Number of cells."""
        return len(self.operations) ** len(self.edges)

    def __iter__(self) -> Iterator[Genotype]:
        return map(Genotype, product(self.operations, repeat=len(self.edges)))

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
        operations, count, draw = self.operations, len(self.operations), rng.random
        return Genotype(tuple([operations[int(draw() * count)] for _ in self.edges]))

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
        chosen = genotype.operations
        edge = int(rng.random() * len(chosen))
        others = self._others[chosen[edge]]
        return Genotype((*chosen[:edge], others[int(rng.random() * len(others))], *chosen[edge + 1 :]))

    def swap(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """Two edges, drawn uniformly, exchange their operations."""
        chosen = list(genotype.operations)
        if len(chosen) > 1:
            first, second = rng.sample(range(len(chosen)), 2)
            chosen[first], chosen[second] = chosen[second], chosen[first]
        return Genotype(tuple(chosen))

    def invert(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """The operations between two edges, drawn uniformly, both included, in reverse order."""
        chosen = list(genotype.operations)
        if len(chosen) > 1:
            first, last = sorted(rng.sample(range(len(chosen)), 2))
            chosen[first : last + 1] = reversed(chosen[first : last + 1])
        return Genotype(tuple(chosen))

    def crossover(self, first: Genotype, second: Genotype, rng: random.Random) -> Genotype:
        """A child that takes each edge from one of its parents, either with probability one half."""
        return Genotype(tuple(rng.choice(pair) for pair in zip(first.operations, second.operations, strict=True)))

    @cached_property
    def mutations(self) -> Mapping[str, Callable[[Genotype, random.Random], Genotype]]:  # type: ignore[override]
        """One edge, two edges exchanged, a row of edges reversed."""
        return {"mutate": self.mutate, "swap": self.swap, "invert": self.invert}

    @cached_property
    def choices(self) -> tuple[int, ...]:  # type: ignore[override]
        """One decision an edge, with as many choices as there are operations."""
        return (len(self.operations),) * len(self.edges)

    @cached_property
    def cells(self) -> dict[str, Cell]:  # type: ignore[override]
        """One kind of cell."""
        return {"cell": Cell(self.operations, self.edges)}

    def connections(self, genotype: Genotype) -> dict[str, tuple[tuple[int, int, str], ...]]:
        return {"cell": genotype.connections}

    def cost(self, genotype: Genotype, size: NetworkSize) -> Cost:
        from supernet.cost import genotype_cost

        return genotype_cost(genotype, size)

    def network(self, genotype: Genotype, size: NetworkSize, batch_norm: str = "running") -> DiscreteNetwork:
        from supernet.discrete_network import DiscreteNetwork

        return DiscreteNetwork(genotype, size.channels, size.cells, size.num_classes, size.in_channels, batch_norm)

    def supernet(
        self, size: NetworkSize, batch_norm: str = "batch", generator: torch.Generator | None = None
    ) -> SuperNet:
        from supernet.network import SuperNet

        return SuperNet(self, size.channels, size.cells, size.num_classes, size.in_channels, batch_norm, generator)

    def decisions(self, genotype: Genotype) -> tuple[int, ...]:
        """Number of the choice that a cell makes in every decision."""
        return tuple(self.operations.index(name) for name in genotype.operations)

    def decided(self, decisions: Sequence[int]) -> Genotype:
        """The cell that makes these decisions; the inverse of `decisions`."""
        return Genotype(tuple([self.operations[choice] for choice in decisions]))

    def encode(self, genotype: Genotype) -> list[int]:
        """`encode_edges`, then `encode_paths`."""
        return self.encode_edges(genotype) + self.encode_paths(genotype)

    def encode_edges(self, genotype: Genotype) -> list[int]:
        """One-hot code, edge by edge: E * O zeros and ones."""
        self.check(genotype)
        return [int(name == choice) for choice in genotype.operations for name in self.operations]

    def encode_paths(self, genotype: Genotype) -> list[int]:
        """Which paths from input to output the cell has, as sequences of operations: 5 + 25 + 125 zeros and ones for
        the NAS-Bench-201 cell (White et al. 2021, arXiv:1910.11858, section 4). Paths through none count as paths.
        """
        count, last = len(self.operations), self.num_nodes - 1
        into: list[dict[int, str]] = [{} for _ in range(self.num_nodes)]
        for (source, target), name in zip(self.edges, genotype.operations, strict=True):
            into[target][source] = name
        found: list[list[tuple[int, int]]] = [[(0, 0)]]  # by node: length and number of every path that reaches it
        for target in range(1, self.num_nodes):
            found.append(
                [
                    (length + 1, number * count + self.operations.index(name))
                    for source, name in into[target].items()
                    for length, number in found[source]
                ]
            )
        starts = [sum(count**shorter for shorter in range(1, length)) for length in range(1, last + 2)]
        code = [0] * starts[-1]
        for length, number in found[-1]:
            code[starts[length - 1] + number] = 1
        return code

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
