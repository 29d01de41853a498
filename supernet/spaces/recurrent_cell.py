"""The recurrent cell of DARTS (Liu et al. 2019, arXiv:1806.09055, section 2.1): which earlier node each node follows,
and by which activation."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

from supernet.genomes import RecurrentGenotype
from supernet.literal import read_literal
from supernet.size import NetworkSize
from supernet.spaces.base import LEFT_OUT, Space
from supernet.wiring import Cell

if TYPE_CHECKING:
    import torch

    from supernet.recurrent import RecurrentNetwork, RecurrentSuperNet

OPERATIONS = ("none", "tanh", "relu", "sigmoid", "identity")
SHAPE = "a genotype reads |tanh~0|relu~1|...|, activation and source of every node, or Genotype(recurrent=[...])"


class RecurrentCell(Space):
    """Cells of `num_nodes` nodes with one incoming edge each; the new state is the mean of all nodes.

    Args:
        num_nodes: nodes after the first, which the inputs make.
        operations: activations of edges: some of ``none``, which no genotype has, ``tanh``, ``relu``, ``sigmoid`` and
            ``identity``.

    Raises:
        ValueError: too few or too many nodes, or other activations.
    """

    takes = "series"

    def __init__(self, num_nodes: int = 8, operations: Sequence[str] = OPERATIONS) -> None:
        if not 1 <= num_nodes <= 32:
            raise ValueError(f"num_nodes: got {num_nodes}; give 1 to 32")
        names = [name for name in operations if name != "none"]
        if len(names) < 2 or len(set(operations)) != len(operations) or set(operations) - set(OPERATIONS):
            raise ValueError(f"operations: got {list(operations)}; give at least 2 of {', '.join(OPERATIONS[1:])}")
        self.num_nodes, self.operations, self.names = num_nodes, tuple(operations), tuple(names)
        self.edges = tuple((source, target) for target in range(1, num_nodes + 1) for source in range(target))

    def describe(self) -> dict[str, Any]:
        return {"num_nodes": self.num_nodes, "operations": list(self.operations)}

    def parse(self, text: str) -> RecurrentGenotype:
        """Read either text form; a literal is never evaluated.

        Raises:
            ValueError: it is none, or none of this space; the message names the node.
        """
        text = text.strip()
        if len(text) > 5000:
            raise ValueError(f"cell: got {len(text)} characters; {SHAPE}")
        if text.startswith("Genotype"):
            genotype = _literal(text)
        else:
            if not (text.startswith("|") and text.endswith("|") and len(text) > 1):
                raise ValueError(f"cell {text!r}: {SHAPE}")
            nodes = []
            for number, term in enumerate(text[1:-1].split("|"), start=1):
                found = re.fullmatch(r"([a-z]+)~([0-9]{1,3})", term)
                if found is None:
                    raise ValueError(f"node {number}: expected activation~source, got {term!r}; {SHAPE}")
                nodes.append((found[1], int(found[2])))
            genotype = RecurrentGenotype(tuple(nodes))
        self.check(genotype)
        return genotype

    def check(self, genotype: RecurrentGenotype) -> None:
        if len(genotype.nodes) != self.num_nodes:
            raise ValueError(f"cell {genotype}: got {len(genotype.nodes)} nodes; the space has {self.num_nodes}")
        for number, (name, source) in enumerate(genotype.nodes, start=1):
            if name not in self.names:
                raise ValueError(f"node {number}: unknown activation {name!r}; allowed are {', '.join(self.names)}")
            if not 0 <= source < number:
                raise ValueError(f"node {number}: it follows {source}; give a node from 0 to {number - 1}")

    def sample(self, rng: random.Random) -> RecurrentGenotype:
        """Source and activation of every node, drawn uniformly."""
        return RecurrentGenotype(
            tuple((rng.choice(self.names), rng.randrange(number)) for number in range(1, self.num_nodes + 1))
        )

    def neighbours(self, genotype: RecurrentGenotype) -> list[RecurrentGenotype]:
        """All that differ in the activation or the source of one node."""
        self.check(genotype)
        found = []
        for place, (name, source) in enumerate(genotype.nodes):
            others = [(other, source) for other in self.names if other != name]
            others += [(name, other) for other in range(place + 1) if other != source]
            found += [
                RecurrentGenotype((*genotype.nodes[:place], node, *genotype.nodes[place + 1 :])) for node in others
            ]
        return found

    def mutate(self, genotype: RecurrentGenotype, rng: random.Random) -> RecurrentGenotype:
        """A neighbour, drawn uniformly."""
        return rng.choice(self.neighbours(genotype))

    def crossover(self, first: RecurrentGenotype, second: RecurrentGenotype, rng: random.Random) -> RecurrentGenotype:
        """A child that takes each node from one of its parents, either with probability one half."""
        return RecurrentGenotype(tuple(rng.choice(pair) for pair in zip(first.nodes, second.nodes, strict=True)))

    @cached_property
    def choices(self) -> tuple[int, ...]:  # type: ignore[override]
        """Two decisions a node: its source and its activation."""
        return tuple(count for number in range(1, self.num_nodes + 1) for count in (number, len(self.names)))

    def decisions(self, genotype: RecurrentGenotype) -> tuple[int, ...]:
        return tuple(choice for name, source in genotype.nodes for choice in (source, self.names.index(name)))

    def decided(self, decisions: Sequence[int]) -> RecurrentGenotype:
        pairs = zip(decisions[::2], decisions[1::2], strict=True)
        return RecurrentGenotype(tuple((self.names[choice], source) for source, choice in pairs))

    @property
    def size(self) -> int:
        """Number of genotypes."""
        return prod(self.choices)

    def encode(self, genotype: RecurrentGenotype) -> list[int]:
        """One-hot code of the activation, edge by edge; zeros where there is no edge."""
        return [int(choice == place) for choice in self.path(genotype) for place in range(len(self.operations))]

    def connections(self, genotype: RecurrentGenotype) -> dict[str, tuple[tuple[int, int, str], ...]]:
        return {"recurrent": tuple((source, n, name) for n, (name, source) in enumerate(genotype.nodes, start=1))}

    @cached_property
    def cells(self) -> dict[str, Cell]:  # type: ignore[override]
        """Every node with an edge from all before it."""
        return {"recurrent": Cell(self.operations, self.edges, output="sum")}

    @property
    def every_edge(self) -> bool:
        return False

    def strongest(self, weights_EO: Sequence[Sequence[float]]) -> RecurrentGenotype:
        """For every node the edge whose best activation, none aside, weighs most, with that activation."""
        nodes, rows = [], iter(weights_EO)
        for number in range(1, self.num_nodes + 1):
            found = []
            for source in range(number):
                weights = dict(zip(self.operations, next(rows), strict=True))
                name = max(self.names, key=weights.__getitem__)
                found.append((weights[name], (name, source)))
            nodes.append(max(found, key=lambda item: item[0])[1])
        return RecurrentGenotype(tuple(nodes))

    def relaxed(self, choice_E: Sequence[int]) -> RecurrentGenotype:
        chosen = [
            (target, (self.operations[choice], source))
            for (source, target), choice in zip(self.edges, choice_E, strict=True)
            if choice != LEFT_OUT and self.operations[choice] != "none"
        ]
        if [target for target, _ in chosen] != list(range(1, self.num_nodes + 1)):
            raise ValueError("every node has one incoming edge; give one operation and leave the others out")
        return RecurrentGenotype(tuple(node for _, node in chosen))

    def path(self, genotype: RecurrentGenotype) -> tuple[int, ...]:
        of_node = {(source, n): name for n, (name, source) in enumerate(genotype.nodes, start=1)}
        return tuple(self.operations.index(of_node[e]) if e in of_node else LEFT_OUT for e in self.edges)

    def final_size(self, size: NetworkSize) -> NetworkSize:
        """A state of 64 numbers."""
        return NetworkSize(64, 1, size.num_classes, size.in_channels, size.image_size)

    def size_text(self, size: NetworkSize) -> str:
        return f"a state of {size.channels}, {size.image_size} steps of {size.in_channels} columns"

    def network(self, genotype: RecurrentGenotype, size: NetworkSize, batch_norm: str = "running") -> RecurrentNetwork:
        from supernet.recurrent import RecurrentNetwork

        return RecurrentNetwork(genotype, size)

    def supernet(
        self, size: NetworkSize, batch_norm: str = "batch", generator: torch.Generator | None = None
    ) -> RecurrentSuperNet:
        from supernet.recurrent import RecurrentSuperNet

        return RecurrentSuperNet(self, size, generator)


def _literal(text: str) -> RecurrentGenotype:
    (nodes,), (output,) = read_literal(text, ["recurrent"], ["concat"], SHAPE)
    if output is not None and sorted(output) != list(range(1, len(nodes) + 1)):
        raise ValueError(f"concat: got {output}; the new state is the mean of all {len(nodes)} nodes")
    return RecurrentGenotype(tuple(nodes))
