"""The DARTS space (Liu et al. 2019, arXiv:1806.09055): a normal and a reduction cell of nodes with two edges each."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import combinations
from math import prod
from typing import TYPE_CHECKING, Any

from supernet.cell_pair import INPUTS, KINDS, CellPair, HalfCell, half_cell, parse_pair
from supernet.literal import Edge
from supernet.size import NetworkSize
from supernet.spaces.base import LEFT_OUT, Space
from supernet.wiring import Cell

if TYPE_CHECKING:
    import torch

    from supernet.darts_network import DartsNetwork
    from supernet.darts_supernet import DartsSuperNet

OPERATIONS = (
    "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3",
    "dil_conv_5x5",
)  # fmt: skip
STEMS = ("cifar", "imagenet")
MOST_NODES = 12


class DartsCells(Space):
    """Two cells of `num_nodes` nodes. A node is the sum over two edges, which come from two of the earlier nodes or
    inputs; the output joins all nodes. Edges that carry none are left out of genotypes.

    Args:
        num_nodes: of a cell, beside its two inputs.
        operations: names of the candidate operations.
        allowed: kind of cell to the operations that each of its edges may have, in order of target and source, as many
            on every edge; all if None. RobustDARTS' space S1 is one of these.
        distinct: whether the two edges of a node come from different ones and all nodes are given out; older cells,
            such as NASNet's, are freer, and can be read, priced and trained, not searched.
        stem: ``cifar`` keeps the image's size, ``imagenet`` brings it to an eighth.

    Raises:
        ValueError: too few or too many nodes or operations, or other lists of allowed ones.
    """

    def __init__(
        self,
        num_nodes: int = 4,
        operations: Sequence[str] = OPERATIONS,
        allowed: Mapping[str, Sequence[Sequence[str]]] | None = None,
        distinct: bool = True,
        stem: str = "cifar",
    ) -> None:
        if not 1 <= num_nodes <= MOST_NODES:
            raise ValueError(f"num_nodes: got {num_nodes}; give 1 to {MOST_NODES}")
        if len(set(operations)) != len(operations) or len(set(operations) - {"none"}) < 1:
            raise ValueError(f"operations: got {list(operations)}; give different names, at least one beside none")
        for name in operations:
            if not name or set(name) & set("|~+/>"):
                raise ValueError(f"operations: {name!r} cannot stand in a genotype; leave out '|', '~', '+', '/', '>'")
        if stem not in STEMS:
            raise ValueError(f"stem: got {stem!r}; allowed are {', '.join(STEMS)}")
        self.num_nodes, self.operations, self.distinct, self.stem = num_nodes, tuple(operations), distinct, stem
        self.edges = tuple((source, target) for target in range(INPUTS, INPUTS + num_nodes) for source in range(target))
        self.place = {edge: number for number, edge in enumerate(self.edges)}
        everything = [[name for name in operations if name != "none"]] * len(self.edges)
        self.allowed = {kind: [list(row) for row in (allowed or {}).get(kind, everything)] for kind in KINDS}
        self.restricted = allowed is not None
        self.number = len(self.allowed["normal"][0])
        for kind, rows in self.allowed.items():
            alike = all(len(set(row)) == self.number and set(row) <= set(operations) for row in rows)
            if len(rows) != len(self.edges) or not self.number or not alike or set(allowed or {}) - set(KINDS):
                raise ValueError(
                    f"allowed: got {kind}={rows}; give normal and reduce, each with {len(self.edges)} lists of as many "
                    f"of {', '.join(operations)}"
                )

    @property
    def abilities(self) -> frozenset[str]:
        return super().abilities if self.distinct else frozenset()

    def describe(self) -> dict[str, Any]:
        about: dict[str, Any] = {"num_nodes": self.num_nodes, "operations": list(self.operations)}
        about |= {"allowed": self.allowed} if self.restricted else {}
        about |= {} if self.distinct else {"distinct": False}
        return about | ({} if self.stem == "cifar" else {"stem": self.stem})

    def parse(self, text: str) -> CellPair:
        """Read a genotype, see `supernet.cell_pair`.

        Raises:
            ValueError: it is none, or none of this space.
        """
        genotype = parse_pair(text)
        self.check(genotype)
        return genotype

    def check(self, genotype: CellPair) -> None:
        every = tuple(range(INPUTS, INPUTS + self.num_nodes))
        for kind, half in zip(KINDS, genotype, strict=True):
            if len(half.nodes) != self.num_nodes:
                raise ValueError(f"{kind} cell: got {len(half.nodes)} nodes; the space has {self.num_nodes}")
            for source, target, name in half.connections:
                if name not in self.allowed[kind][self.place[source, target]]:
                    allowed = ", ".join(self.allowed[kind][self.place[source, target]])
                    raise ValueError(
                        f"{kind} cell, node {target}: unknown operation {name!r} from {source}; allowed are {allowed}"
                    )
            for target, (one, other) in enumerate(half.nodes, start=INPUTS):
                if self.distinct and one[1] == other[1]:
                    raise ValueError(f"{kind} cell, node {target}: both edges come from {one[1]}; give different ones")
            if self.distinct and half.output != every:
                raise ValueError(f"{kind} cell: it gives out {list(half.output)}; the space gives out all nodes")

    def sample(self, rng: random.Random) -> CellPair:
        """The sources of every node and the operations of its edges, drawn uniformly."""
        return CellPair(*(half_cell([edge for t in range(self.num_nodes) for edge in self._node(kind, t, rng)])
                          for kind in KINDS))  # fmt: skip

    def _node(self, kind: str, number: int, rng: random.Random) -> list[Edge]:
        target = INPUTS + number
        sources = rng.sample(range(target), 2)
        return [(rng.choice(self.allowed[kind][self.place[source, target]]), source) for source in sources]

    def neighbours(self, genotype: CellPair) -> list[CellPair]:
        """All that differ in the operation or in the source of one edge."""
        self.check(genotype)
        found: dict[CellPair, None] = {}
        for kind, half in zip(KINDS, genotype, strict=True):
            for number, pair in enumerate(half.nodes):
                target = INPUTS + number
                for (name, source), kept in ((pair[0], pair[1]), (pair[1], pair[0])):
                    others = [(other, source) for other in self.allowed[kind][self.place[source, target]]]
                    others += [
                        (name, other)
                        for other in range(target)
                        if other not in (source, kept[1]) and name in self.allowed[kind][self.place[other, target]]
                    ]
                    for edge in others:
                        if edge != (name, source):
                            found[self._with(genotype, kind, number, [edge, kept])] = None
        return list(found)

    @staticmethod
    def _with(genotype: CellPair, kind: str, number: int, edges: Sequence[Edge]) -> CellPair:
        half: HalfCell = getattr(genotype, kind)
        nodes = [*half.nodes[:number], tuple(edges), *half.nodes[number + 1 :]]
        return genotype._replace(**{kind: half_cell([edge for node in nodes for edge in node], half.output)})

    def mutate(self, genotype: CellPair, rng: random.Random) -> CellPair:
        """A neighbour drawn uniformly: another operation or another source of one edge (Real et al. 2019,
        arXiv:1802.01548, section 3.2)."""
        others = self.neighbours(genotype)
        return rng.choice(others) if others else genotype

    def crossover(self, first: CellPair, second: CellPair, rng: random.Random) -> CellPair:
        """A child that takes the two edges of each node from one of its parents, either with probability one half."""
        halves = []
        for one, other in zip(first, second, strict=True):
            nodes = [rng.choice(pair) for pair in zip(one.nodes, other.nodes, strict=True)]
            halves.append(half_cell([edge for node in nodes for edge in node], one.output))
        return CellPair(*halves)

    @cached_property
    def choices(self) -> tuple[int, ...]:  # type: ignore[override]
        """Three decisions a node: which two sources, and the operation of either edge."""
        pairs = [target * (target - 1) // 2 for target in range(INPUTS, INPUTS + self.num_nodes)]
        return tuple(count for _ in KINDS for pair in pairs for count in (pair, self.number, self.number))

    def decisions(self, genotype: CellPair) -> tuple[int, ...]:
        row: list[int] = []
        for kind, half in zip(KINDS, genotype, strict=True):
            for target, edges in enumerate(half.nodes, start=INPUTS):
                row.append(list(combinations(range(target), 2)).index((edges[0][1], edges[1][1])))
                row += [self.allowed[kind][self.place[source, target]].index(name) for name, source in edges]
        return tuple(row)

    def decided(self, decisions: Sequence[int]) -> CellPair:
        given, halves = iter(decisions), []
        for kind in KINDS:
            edges = []
            for target in range(INPUTS, INPUTS + self.num_nodes):
                pair = list(combinations(range(target), 2))[next(given)]
                edges += [(self.allowed[kind][self.place[source, target]][next(given)], source) for source in pair]
            halves.append(half_cell(edges))
        return CellPair(*halves)

    @property
    def size(self) -> int:
        """Number of genotypes."""
        return prod(self.choices)

    def encode(self, genotype: CellPair) -> list[int]:
        """One-hot code of the operation, edge by edge of both cells; zeros where there is no edge."""
        return [int(choice == place) for choice in self.path(genotype) for place in range(len(self.operations))]

    def connections(self, genotype: CellPair) -> dict[str, tuple[tuple[int, int, str], ...]]:
        return {kind: half.connections for kind, half in zip(KINDS, genotype, strict=True)}

    @cached_property
    def cells(self) -> dict[str, Cell]:  # type: ignore[override]
        """Every node with an edge from all before it."""
        return {
            kind: Cell(self.operations, self.edges, INPUTS, "concat", stride, normalised_pools=True)
            for kind, stride in zip(KINDS, (1, 2), strict=True)
        }

    @property
    def every_edge(self) -> bool:
        return False

    @property
    def allowed_EO(self) -> tuple[tuple[bool, ...], ...] | None:
        if not self.restricted:
            return None
        return tuple(tuple(name in row for name in self.operations) for kind in KINDS for row in self.allowed[kind])

    def strongest(self, weights_EO: Sequence[Sequence[float]]) -> CellPair:
        """For every node the two edges whose best operation, none aside, weighs most, with that operation (section
        2.4)."""
        halves, rows = [], iter(weights_EO)
        for kind in KINDS:
            edges: list[Edge] = []
            for target in range(INPUTS, INPUTS + self.num_nodes):
                found = []
                for source in range(target):
                    weights = dict(zip(self.operations, next(rows), strict=True))
                    name = max(self.allowed[kind][self.place[source, target]], key=weights.__getitem__)
                    found.append((weights[name], (name, source)))
                edges += [edge for _, edge in sorted(found, key=lambda item: -item[0])[:2]]
            halves.append(half_cell(edges))
        return CellPair(*halves)

    def relaxed(self, choice_E: Sequence[int]) -> CellPair:
        halves, given = [], iter(choice_E)
        for kind in KINDS:
            edges = []
            for (source, target), choice in zip(self.edges, given, strict=False):
                if choice != LEFT_OUT and self.operations[choice] != "none":
                    edges.append((target, (self.operations[choice], source)))
            counts = [sum(target == INPUTS + number for target, _ in edges) for number in range(self.num_nodes)]
            if set(counts) != {2}:
                raise ValueError(f"{kind} cell: got {counts} edges into its nodes; give two into each")
            halves.append(half_cell([edge for _, edge in edges]))
        return CellPair(*halves)

    def path(self, genotype: CellPair) -> tuple[int, ...]:
        found: list[int] = []
        for half in genotype:
            names = {(source, target): name for source, target, name in half.connections}
            found += [self.operations.index(names[edge]) if edge in names else LEFT_OUT for edge in self.edges]
        return tuple(found)

    def final_size(self, size: NetworkSize) -> NetworkSize:
        """C=36 and 20 cells, on ImageNet C=48 and 14 cells (section 3.2)."""
        channels, cells = (36, 20) if self.stem == "cifar" else (48, 14)
        return NetworkSize(channels, cells, size.num_classes, size.in_channels, size.image_size)

    def size_text(self, size: NetworkSize) -> str:
        return f"C={size.channels}, {size.cells} cells, {size.data}"

    def network(self, genotype: CellPair, size: NetworkSize, batch_norm: str = "running") -> DartsNetwork:
        from supernet.darts_network import DartsNetwork

        return DartsNetwork(genotype, size, batch_norm, stem=self.stem)

    def supernet(
        self, size: NetworkSize, batch_norm: str = "batch", generator: torch.Generator | None = None
    ) -> DartsSuperNet:
        from supernet.darts_supernet import DartsSuperNet

        return DartsSuperNet(self, size, batch_norm, generator, self.stem)
