"""Whether what was read from a file has the types that its class says."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from functools import cache
from typing import Any

SHORT = 40  # characters of a value in a message


def check_types(value: Any, hint: Any, name: str = "it") -> None:
    """Refuse other types than a dataclass or NamedTuple announces, in whatever it holds too; numbers have to be finite.

    Args:
        value: to look at.
        hint: what it should be: a class, or lists, tuples, mappings and unions of such; a list will do for a tuple.
        name: for the message.

    Raises:
        TypeError: what is otherwise.
    """
    if hint is Any:
        return
    kind, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in (types.UnionType, typing.Union):
        for one in inner:
            with suppress(TypeError):
                check_types(value, one, name)
                return
        fits = False
    elif kind in (int, float):
        fits = type(value) in (int, kind) and math.isfinite(value)
    elif kind is tuple:
        fits = isinstance(value, list | tuple) and len(value) == len(inner)
    else:
        fits = isinstance(value, kind)
    if not fits:
        shown = repr(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
        shown = shown if len(shown) <= SHORT else f"{shown[:SHORT]}..."
        raise TypeError(f"{name}: got {shown}, not {getattr(hint, '__name__', hint)}")
    for place, part, one in _parts(value, kind, inner):
        check_types(part, one, f"{name}, {place}")


def _parts(value: Any, kind: Any, inner: tuple[Any, ...]) -> Iterator[tuple[Any, Any, Any]]:
    """What it holds: places, parts and what those should be."""
    if fields := _fields(kind):
        yield from ((name, getattr(value, name), one) for name, one in fields.items())
    elif kind is tuple:
        yield from zip(range(len(inner)), value, inner, strict=True)
    elif kind is list and inner:
        yield from ((place, part, inner[0]) for place, part in enumerate(value))
    elif kind is dict and inner:
        yield from (("keys", key, inner[0]) for key in value)
        yield from ((key, part, inner[1]) for key, part in value.items())


@cache
def _fields(kind: Any) -> Mapping[str, Any]:
    return typing.get_type_hints(kind) if is_dataclass(kind) or hasattr(kind, "_fields") else {}
