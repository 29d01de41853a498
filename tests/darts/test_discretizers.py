from __future__ import annotations

import math

import pytest
import torch

from darts.discretizers.argmax import Argmax
from supernet.search_space import SearchSpace

SPACE = SearchSpace()


def heaviest(rows: list[list[float]], names: tuple[str, ...], exclude: tuple[str, ...] = ()) -> str:
    """The cell string by hand: first of the largest weights, edges in the design's order."""
    chosen = []
    for row in rows:
        best, choice = -math.inf, ""
        for weight, name in zip(row, names, strict=True):
            if name not in exclude and weight > best:
                best, choice = weight, name
        chosen.append(choice)
    a, b, c, d, e, f = chosen
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


@pytest.mark.parametrize("exclude", [(), ("none",), ("none", "nor_conv_3x3")])
@pytest.mark.parametrize("pace", [0.7, 1.9, 2.6])
def test_takes_the_heaviest_operation_that_is_allowed(pace: float, exclude: tuple[str, ...]) -> None:
    weights = torch.sin(pace * torch.arange(30)).reshape(6, 5)
    assert str(Argmax(exclude)(weights, SPACE)) == heaviest(weights.tolist(), SPACE.operations, exclude)


def test_none_can_win() -> None:
    weights = torch.eye(5)[[0, 0, 0, 0, 0, 0]]
    assert str(Argmax()(weights, SPACE)) == "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    assert "none" not in str(Argmax(["none"])(weights, SPACE))


def test_the_first_of_equals_is_taken() -> None:
    weights = torch.zeros(6, 5)
    weights[1, [2, 4]] = weights[2, [1, 2, 3]] = 0.5
    expected = "|none~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|none~1|none~2|"
    assert str(Argmax()(weights, SPACE)) == expected
    assert str(Argmax(["none"])(weights, SPACE)) == expected.replace("none", "skip_connect")


def test_other_spaces() -> None:
    space = SearchSpace(3, ["skip_connect", "none"])
    weights = torch.tensor([[0.1, 0.9], [0.6, 0.4], [0.2, 0.8]])
    assert str(Argmax()(weights, space)) == "|none~0|+|skip_connect~0|none~1|"


@pytest.mark.parametrize("exclude", [["conv_7x7"], list(SPACE.operations), ["none", "conv_7x7"]])
def test_unknown_or_too_many_exclusions_are_refused(exclude: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^exclude: got .*skip_connect"):
        Argmax(exclude)(torch.zeros(6, 5), SPACE)
