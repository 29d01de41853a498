"""The discrete cell: one operation name for every edge, and its text form.

Edges are ordered by target node, then by source node: 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2, ...
The text reads ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`` (NAS-Bench-201, Dong & Yang 2020, arXiv:2001.00326).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple


def edges_of(num_nodes: int) -> tuple[tuple[int, int], ...]:
    """All (source, target) pairs of a cell with `num_nodes` nodes, in edge order."""
    return tuple((source, target) for target in range(1, num_nodes) for source in range(target))


NODES = {nodes * (nodes - 1) // 2: nodes for nodes in range(2, 100)}  # by number of edges


@cache
def _template(num_edges: int) -> str:
    """The cell string with %s in place of every operation."""
    nodes = range(1, NODES[num_edges])
    return "+".join("|" + "".join(f"%s~{source}|" for source in range(target)) for target in nodes)


class _Operations(NamedTuple):
    operations: tuple[str, ...]


class Genotype(_Operations):
    """A cell with one chosen operation on every edge; a tuple, so that sets and dicts find it without Python code.

    Args:
        operations: one operation name an edge, in edge order; 1, 3, 6, 10, ... of them.

    Raises:
        ValueError: the number of operations is not that of a complete cell.
    """

    __slots__ = ()

    def __new__(cls, operations: tuple[str, ...]) -> Genotype:
        if len(operations) not in NODES:
            raise ValueError(f"a cell has 1, 3, 6, 10, ... edges; got {len(operations)} operations")
        return tuple.__new__(cls, (operations,))

    @property
    def num_nodes(self) -> int:
        """Number of nodes, the input node included."""
        return NODES[len(self.operations)]

    @property
    def connections(self) -> tuple[tuple[int, int, str], ...]:
        """(source, target, operation) of every edge, in edge order."""
        pairs = edges_of(self.num_nodes)
        return tuple((source, target, name) for (source, target), name in zip(pairs, self.operations, strict=True))

    @classmethod
    def parse(cls, text: str, allowed: Sequence[str] | None = None) -> Genotype:
        """Read a cell string; `str` of the result gives the same text back.

        Args:
            text: the cell string.
            allowed: operation names that may occur; any name if None.

        Raises:
            ValueError: the text is no cell string; the message names the place.
        """
        shape = "a cell string reads |op~0|+|op~0|op~1|+|op~0|op~1|op~2|"
        operations = []
        for target, node in enumerate(text.strip().split("+"), start=1):
            if len(node) < 2 or node[0] != "|" or node[-1] != "|":
                raise ValueError(f"cell {text!r}: node {target} must start and end with '|', got {node!r}; {shape}")
            terms = node[1:-1].split("|")
            if len(terms) != target:
                raise ValueError(f"cell {text!r}: node {target} needs {target} edges, got {len(terms)}; {shape}")
            for source, term in enumerate(terms):
                name, tilde, number = term.rpartition("~")
                if not tilde or number != str(source):
                    raise ValueError(f"cell {text!r}: expected an edge 'op~{source}' into node {target}, got {term!r}")
                if not name or (allowed is not None and name not in allowed):
                    choices = "" if allowed is None else f"; allowed are {', '.join(allowed)}"
                    raise ValueError(f"cell {text!r}: unknown operation {name!r} on edge {target}<-{source}{choices}")
                operations.append(name)
        return cls(tuple(operations))

    def __str__(self) -> str:
        return _template(len(self.operations)) % self.operations

    def index(self, operations: Sequence[str]) -> int:  # type: ignore[override]
        """Position among all cells over `operations`: digits in edge order, the first edge most significant.

        Raises:
            ValueError: an operation of this cell is not among `operations`.
        """
        digits = {name: digit for digit, name in enumerate(operations)}
        index = 0
        for name in self.operations:
            if name not in digits:
                raise ValueError(f"operation {name!r} is not one of {', '.join(operations)}")
            index = index * len(operations) + digits[name]
        return index

    @classmethod
    def from_index(cls, index: int, operations: Sequence[str], num_nodes: int = 4) -> Genotype:
        """The cell at a position; the inverse of `index`.

        Raises:
            ValueError: the position is outside [0, number of cells).
        """
        num_edges = len(edges_of(num_nodes))
        if not 0 <= index < len(operations) ** num_edges:
            raise ValueError(f"index {index} is outside [0, {len(operations) ** num_edges})")
        chosen = []
        for _ in range(num_edges):
            index, digit = divmod(index, len(operations))
            chosen.append(operations[digit])
        return cls(tuple(reversed(chosen)))
