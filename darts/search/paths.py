"""Paths: the candidate on every edge of a space, by its number."""

from __future__ import annotations

from collections.abc import Sequence

from supernet.spaces.base import Space

Path = Sequence[int]


def living(space: Space, path_E: Path) -> tuple[int, ...]:
    """A path with none on all edges that nothing goes through; of a space whose genotypes have all edges."""
    found: list[int] = []
    for cell in space.cells.values():
        own = path_E[len(found) : len(found) + len(cell.edges)]
        none = cell.candidates.index("none") if "none" in cell.candidates else None
        live_E = cell.live([choice != none for choice in own])
        found += [choice if live or none is None else none for choice, live in zip(own, live_E, strict=True)]
    return tuple(found)


def changed(path_E: Path, *changes: tuple[int, int]) -> tuple[int, ...]:
    """A path with other operations on some edges."""
    found = list(path_E)
    for edge, choice in changes:
        found[edge] = choice
    return tuple(found)
