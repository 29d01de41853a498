"""Genotypes as the literature writes them, ``Genotype(name=[('op', 0), ...])``: read, never evaluated. No torch."""

from __future__ import annotations

import ast
from collections.abc import Sequence

Edge = tuple[str, int]
"""Operation and source."""


def read_literal(
    text: str, kinds: Sequence[str], concats: Sequence[str], shape: str
) -> tuple[list[list[Edge]], list[list[int] | None]]:
    """Lists of edges, one for each kind, and the lists of nodes that are given out, None where they are not said.

    Args:
        text: what was given.
        kinds, concats: names of the words that hold them, in pairs.
        shape: what a genotype looks like, for messages.

    Raises:
        ValueError: it is something else; the message names the word.
    """
    try:
        call = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"cell: {text[:60]!r} is no Python literal; {shape}") from None
    if not isinstance(call, ast.Call) or call.args or getattr(call.func, "id", "") != "Genotype":
        raise ValueError(f"cell: {text[:60]!r} is no Genotype({kinds[0]}=[...], ...); {shape}")
    given = {str(word.arg): word.value for word in call.keywords}
    if odd := [name for name in given if name not in (*kinds, *concats)] + [
        kind for kind in kinds if kind not in given
    ]:
        raise ValueError(f"cell: Genotype has {', '.join((*kinds, *concats))}; look at {odd[0]}")
    edges, outputs = [_edges(given[kind], kind) for kind in kinds], []
    for concat in concats:
        nodes = _values(given[concat], concat) if concat in given else None
        if nodes is not None and not all(type(node) is int for node in nodes):
            raise ValueError(f"{concat}: expected a list of nodes such as [2, 3, 4, 5]")
        outputs.append(nodes)
    return edges, outputs  # type: ignore[return-value]


def _edges(node: ast.expr, name: str) -> list[Edge]:
    found = _values(node, name)
    for edge in found:
        if not isinstance(edge, tuple) or len(edge) != 2 or not isinstance(edge[0], str) or type(edge[1]) is not int:
            raise ValueError(f"{name}: expected a list of pairs of operation and source, such as ('skip_connect', 0)")
    return found  # type: ignore[return-value]


def _values(node: ast.expr, name: str) -> list[object]:
    """A list, or a tuple, or range(a, b)."""
    try:
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "range" and not node.keywords:
            first, last = (ast.literal_eval(argument) for argument in node.args)
            if type(first) is int and type(last) is int and 0 <= first <= last < 1000:
                return list(range(first, last))
        found = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, list | tuple):
        raise ValueError(f"{name}: expected a list")
    return list(found)
