from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence

import pytest
import torch

from darts.search.discretizers.argmax import Argmax
from supernet.spaces.cells import CellSpace

SPACE = CellSpace()


@pytest.mark.parametrize("exclude", [(), ("none",), ("none", "nor_conv_3x3")])
@pytest.mark.parametrize("pace", [0.7, 1.9, 2.6])
def test_no_cell_of_the_space_is_likelier(pace: float, exclude: tuple[str, ...]) -> None:
    """Of all 15,625 cells, the one with the largest product of its edges' weights."""
    weights = torch.softmax(2 * torch.sin(pace * torch.arange(30, dtype=torch.float64)), dim=0).reshape(6, 5)
    names = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    products = {
        "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*chosen): math.prod(
            float(weights[edge, names.index(name)]) for edge, name in enumerate(chosen)
        )
        for chosen in itertools.product(names, repeat=6)
        if not set(chosen) & set(exclude)
    }
    assert len(products) == (5 - len(exclude)) ** 6
    found = str(Argmax(exclude)(weights, SPACE))
    best, second = heapq.nlargest(2, products.values())
    assert products[found] == best > second


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
    space = CellSpace(3, ["skip_connect", "none"])
    weights = torch.tensor([[0.1, 0.9], [0.6, 0.4], [0.2, 0.8]])
    assert str(Argmax()(weights, space)) == "|none~0|+|skip_connect~0|none~1|"


def test_the_space_says_which_genotype_a_choice_is() -> None:
    """Candidates of the supernet need not be the decisions of the space, nor in their order."""

    class Words(CellSpace):
        def relaxed(self, choice_E: Sequence[int]) -> str:  # type: ignore[override]
            return "-".join(str(choice) for choice in choice_E)

    weights = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])
    space = Words(3, ["none", "skip_connect", "avg_pool_3x3"])
    assert Argmax()(weights, space) == "2-0-1"
    assert Argmax(["avg_pool_3x3"])(weights, space) == "1-0-1"


@pytest.mark.parametrize("exclude", [["conv_7x7"], list(SPACE.operations), ["none", "conv_7x7"]])
def test_unknown_or_too_many_exclusions_are_refused(exclude: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^exclude: got .*skip_connect"):
        Argmax(exclude)(torch.zeros(6, 5), SPACE)
