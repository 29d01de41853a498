"""What a file holds is of the types that its class announces, or it is refused by name."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

from darts.run.typed import check_types


class Member(NamedTuple):
    cell: str
    price: float | None = None


@dataclass
class Point:
    place: int
    value: float


@dataclass
class Result:
    points: list[Point]
    members: list[Member] = field(default_factory=list)
    pairs: list[tuple[float, str]] | None = None
    named: dict[str, str | int] = field(default_factory=dict)
    anything: dict[str, Any] = field(default_factory=dict)
    sure: bool = False


def test_right_types_pass() -> None:
    check_types(Result([]), Result)
    pairs: Any = json.loads('[[1, "a"]]')  # JSON has no tuples
    whole = Result([Point(1, 2.5), Point(1, 2)], [Member("a"), Member("b", 1)], pairs, {"a": 1, "b": "c"}, {"a": {}})
    check_types(whole, Result)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": None}, "it, points: got None, not list"),
        ({"points": [Point(1.5, 1.0)]}, "it, points, 0, place: got 1.5, not int"),  # type: ignore[arg-type]
        ({"points": [Point(True, 1.0)]}, "place: got True, not int"),
        ({"points": [Point(1, "2")]}, "value: got '2', not float"),  # type: ignore[arg-type]
        ({"points": [Point(1, float("nan"))]}, "value: got nan"),
        ({"points": [Point(1, float("inf"))]}, "value: got inf"),
        ({"points": [{"place": 1, "value": 1.0}]}, "it, points, 0: got a dict, not Point"),
        ({"members": [Member("a", "b")]}, "it, members, 0, price: got 'b'"),  # type: ignore[arg-type]
        ({"pairs": [[1.0]]}, "it, pairs: got a list"),
        ({"pairs": [["a", 1.0]]}, "it, pairs: got a list"),
        ({"named": {"a": 0.5}}, "it, named, a: got 0.5"),
        ({"named": {1: "a"}}, "it, named, keys: got 1, not str"),
        ({"sure": 1}, "it, sure: got 1, not bool"),
        ({"named": "x" * 100}, f"it, named: got '{'x' * 39}..., not dict"),
    ],
)
def test_other_types_are_named(change: dict[str, Any], message: str) -> None:
    result = Result([])
    vars(result).update(change)
    with pytest.raises(TypeError) as error:
        check_types(result, Result)
    assert message in str(error.value)
