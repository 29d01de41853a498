"""Whether what was read from a file is as large as it looks, and has the types that its class says."""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from functools import cache
from typing import Any

MOST = 1_000_000  # values of a config
ODD = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, halves of characters
ESCAPED = re.compile(r"\\[bfu]|[\x7f-\x9f]")  # of JSON's text, where there may be such
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
        fits = isinstance(value, list | tuple) and (Ellipsis in inner or len(value) == len(inner))
    else:
        fits = isinstance(value, kind)
    if not fits:
        raise TypeError(f"{name}: got {_short(value)}, not {getattr(hint, '__name__', hint)}")
    for place, part, one in _parts(value, kind, inner):
        check_types(part, one, f"{name}, {place}")


def _parts(value: Any, kind: Any, inner: tuple[Any, ...]) -> Iterator[tuple[Any, Any, Any]]:
    """What it holds: places, parts and what those should be."""
    if fields := _fields(kind):
        yield from ((name, getattr(value, name), one) for name, one in fields.items())
    elif (kind is list and inner) or Ellipsis in inner:
        yield from ((place, part, inner[0]) for place, part in enumerate(value))
    elif kind is tuple:
        yield from zip(range(len(inner)), value, inner, strict=True)
    elif isinstance(value, Mapping) and inner:
        yield from (("keys", key, inner[0]) for key in value)
        yield from ((key, part, inner[1]) for key, part in value.items())


@cache
def _fields(kind: Any) -> Mapping[str, Any]:
    return typing.get_type_hints(kind) if is_dataclass(kind) or hasattr(kind, "_fields") else {}


def check_plain(content: Any, most: int | None = None) -> None:
    """Refuse texts that would do something to a terminal, or cannot be written; and very many values, since YAML's
    aliases make much of little, or a value that is inside itself.

    Args:
        content: plain values of a file: mappings, lists, texts, numbers.
        most: how many there may be, with aliases written out; any number if None.

    Raises:
        ValueError: there are.
        RecursionError: it is inside itself.
    """
    for number, value in enumerate(_all(content), start=1):
        if isinstance(value, str) and ODD.search(value):
            raise ValueError(f"control characters in {_short(value)}")
        if number == most:
            raise ValueError(f"{most:,} values or more, aliases written out")


def _all(content: Any) -> Iterator[Any]:
    yield content
    if isinstance(content, Mapping):
        yield from content.keys()
    for part in content.values() if isinstance(content, Mapping) else content if isinstance(content, list) else ():
        yield from _all(part)


def _short(value: Any) -> str:
    text = ascii(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
    return text if len(text) <= SHORT else f"{text[:SHORT]}..."
