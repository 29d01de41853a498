"""Genotypes of the DARTS space: a normal and a reduction cell, and their two text forms.

The short text reads ``NORMAL/REDUCE``, each of them ``|op~source|op~source|+|...|``: two edges for every node, where 0
and 1 are the cell's inputs and 2 is the first node. A cell that does not give out all of its nodes ends in ``>4.5.6``.
The literature writes ``Genotype(normal=[('op', source), ...], normal_concat=[...], reduce=[...], ...)``, which is read
as a literal and never evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from supernet.literal import Edge, read_literal

INPUTS = 2
LONGEST = 10_000  # characters of a text
KINDS = ("normal", "reduce")
SHAPE = "a genotype reads |op~0|op~1|+|op~0|op~2|+.../|op~0|op~1|+..., or Genotype(normal=[('op', 0), ...], ...)"


class HalfCell(NamedTuple):
    """One of the two cells.

    Attributes:
        nodes: two edges each, ordered by source and operation.
        output: nodes that the cell gives out, ascending.
    """

    nodes: tuple[tuple[Edge, Edge], ...]
    output: tuple[int, ...]

    @property
    def connections(self) -> tuple[tuple[int, int, str], ...]:
        """(source, target, operation) of every edge, in order of target."""
        return tuple(
            (source, target, name) for target, edges in enumerate(self.nodes, start=INPUTS) for name, source in edges
        )

    def __str__(self) -> str:
        text = "+".join(f"|{a}~{i}|{b}~{j}|" for (a, i), (b, j) in self.nodes)
        complete = self.output == tuple(range(INPUTS, INPUTS + len(self.nodes)))
        return text if complete else f"{text}>{'.'.join(map(str, self.output))}"


class CellPair(NamedTuple):
    """A genotype: the normal and the reduction cell."""

    normal: HalfCell
    reduce: HalfCell

    def __str__(self) -> str:
        return f"{self.normal}/{self.reduce}"

    @property
    def literal(self) -> str:
        """In the notation of the literature."""
        parts = []
        for kind, half in zip(KINDS, self, strict=True):
            edges = [edge for node in half.nodes for edge in node]
            parts.append(f"{kind}={edges}, {kind}_concat={list(half.output)}")
        return f"Genotype({', '.join(parts)})"


def half_cell(edges: Sequence[Edge], output: Iterable[int] | None = None) -> HalfCell:
    """A cell from its edges, two a node, in any order within a node.

    Args:
        edges: operation and source, node after node.
        output: nodes that it gives out; all if None.

    Raises:
        ValueError: an odd number of edges, a source that is no earlier node, or an output that is no node.
    """
    if not edges or len(edges) % 2:
        raise ValueError(f"a cell has two edges a node; got {len(edges)} edges")
    nodes = []
    for place in range(0, len(edges), 2):
        target = INPUTS + place // 2
        for name, source in edges[place : place + 2]:
            if not 0 <= source < target:
                raise ValueError(f"node {target}: {name} comes from {source}; give a source from 0 to {target - 1}")
        one, other = sorted(edges[place : place + 2], key=lambda edge: (edge[1], edge[0]))
        nodes.append((one, other))
    last = INPUTS + len(nodes) - 1
    given = tuple(range(INPUTS, last + 1)) if output is None else tuple(sorted(output))
    if not given or len(set(given)) != len(given) or not INPUTS <= given[0] <= given[-1] <= last:
        raise ValueError(f"output: got {list(given)}; give different nodes from {INPUTS} to {last}")
    return HalfCell(tuple(nodes), given)


def parse_pair(text: str) -> CellPair:
    """Read either text form; `str` of the result is the short one.

    Raises:
        ValueError: it is neither; the message names the place.
    """
    text = text.strip()
    if len(text) > LONGEST:
        raise ValueError(f"cell: got {len(text)} characters; {SHAPE}")
    if text.startswith("Genotype"):
        return _literal(text)
    halves = text.split("/")
    if len(halves) != len(KINDS):
        raise ValueError(f"cell {text!r}: got {len(halves)} cells, joined by '/'; {SHAPE}")
    return CellPair(*(_half(half, kind) for half, kind in zip(halves, KINDS, strict=True)))


def _half(text: str, kind: str) -> HalfCell:
    body, sign, numbers = text.partition(">")
    edges = []
    for target, node in enumerate(body.split("+"), start=INPUTS):
        found = re.fullmatch(r"\|([^|~]+)~([0-9]{1,3})\|([^|~]+)~([0-9]{1,3})\|", node)
        if found is None:
            raise ValueError(f"{kind} cell, node {target}: expected |op~source|op~source|, got {node!r}; {SHAPE}")
        edges += [(found[1], int(found[2])), (found[3], int(found[4]))]
    if sign and not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})*", numbers):
        raise ValueError(f"{kind} cell: expected its output nodes behind '>', such as 4.5.6, got {numbers!r}")
    return _named(kind, edges, map(int, numbers.split(".")) if sign else None)


def _named(kind: str, edges: Sequence[Edge], output: Iterable[int] | None) -> HalfCell:
    try:
        return half_cell(edges, output)
    except ValueError as error:
        raise ValueError(f"{kind} cell, {error}") from None


def _literal(text: str) -> CellPair:
    edges, outputs = read_literal(text, KINDS, [f"{kind}_concat" for kind in KINDS], SHAPE)
    return CellPair(*(_named(*one) for one in zip(KINDS, edges, outputs, strict=True)))
