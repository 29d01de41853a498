"""How far an answer is decided: against numbers worked out by hand, and on searches that ran."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from darts.report.text import verdict_lines
from darts.search.verdict import verdict
from supernet.spaces.cells import CellSpace
from tests.searching import made

SPACE = CellSpace(3)  # edges 1<-0, 2<-0, 2<-1
CELL = "|nor_conv_3x3~0|+|skip_connect~0|none~1|"
OTHER = "|nor_conv_3x3~0|+|skip_connect~0|skip_connect~1|"
NONE, SKIP, THREE = (SPACE.candidates.index(name) for name in ("none", "skip_connect", "nor_conv_3x3"))


def records(*cells: str, **more: Any) -> list[dict[str, Any]]:
    return [{"step": 10 * (place + 1), "cell": cell, **more} for place, cell in enumerate(cells)]


def uniform(count: int) -> torch.Tensor:
    return torch.full((count, 3, 5), 0.2, dtype=torch.float64)


def test_an_edge_is_decided_if_its_operation_led_clearly_throughout_the_last_quarter() -> None:
    weights_KEO = uniform(8)
    weights_KEO[:, 0, THREE] += 0.05  # always ahead
    weights_KEO[:4, 1, SKIP] -= 0.1  # behind at first, ahead from the fifth record on
    weights_KEO[4:, 1, SKIP] += 0.03
    weights_KEO[:, 2, NONE] += 0.0004  # hardly ahead
    found = verdict(SPACE, CELL, records(*[OTHER] * 3, *[CELL] * 5), weights_KEO, None)
    assert [edge["decided"] for edge in found["edges"]] == [True, True, False]
    assert [edge["lead"] for edge in found["edges"]] == pytest.approx([0.05, 0.03, 0.0004], abs=1e-12)
    assert [edge["weight"] for edge in found["edges"]] == pytest.approx([0.25, 0.23, 0.2004], abs=1e-12)
    assert [edge["edge"] for edge in found["edges"]] == ["1<-0", "2<-0", "2<-1"]
    assert [edge["operation"] for edge in found["edges"]] == ["nor_conv_3x3", "skip_connect", "none"]
    assert (found["undecided"], found["unchanged_since"], found["stable"]) == (1, 40, True)
    text = [line for _, line in verdict_lines(found, 80)]
    assert text[0] == "UNDECIDED on 2<-1"
    assert text[1].startswith("least on 2<-1: none 0.2004, skip_connect 0.2000; a lead is 0.02 or more")
    assert text[-1] == "this cell stands since step 40 of 80"


def test_an_edge_that_came_to_lead_at_last_is_not_decided() -> None:
    weights_KEO = uniform(8)
    weights_KEO[:, 0, THREE] += 0.5
    weights_KEO[:, 2, NONE] += 0.5
    weights_KEO[7, 1, SKIP] += 0.5  # the last record alone; of 80 steps the quarter begins at 60
    found = verdict(SPACE, CELL, records(*[OTHER] * 7, CELL), weights_KEO, None)
    assert [edge["decided"] for edge in found["edges"]] == [True, False, True]
    assert (found["unchanged_since"], found["stable"]) == (80, False)


def test_an_operation_that_is_behind_has_a_lead_below_zero() -> None:
    weights_KEO = uniform(1)
    weights_KEO[0, 0, NONE] = 0.3  # a discretizer that never takes none
    edge = verdict(SPACE, CELL, records(CELL), weights_KEO, None)["edges"][0]
    assert edge["lead"] == pytest.approx(-0.1, abs=1e-12)
    assert (edge["rivals"], edge["decided"]) == (["none"], False)


def standing(*rows: tuple[str, float, float | None]) -> dict[str, Any]:
    undecided = None if rows[0][2] is None else sum(value < 2 * deviation for _, value, deviation in rows[1:])  # type: ignore[operator]
    cells = [{"cell": cell, "value": value, "deviation": deviation, "times": 1} for cell, value, deviation in rows]
    return {"cells": cells, "undecided": undecided}


def test_judged_cells_that_are_as_good_say_which_edges_are_open() -> None:
    far = "|none~0|+|avg_pool_3x3~0|none~1|"
    found = verdict(
        SPACE, CELL, records(OTHER, CELL), uniform(2), standing((CELL, 0, 0.0), (OTHER, 0.01, 0.02), (far, 0.1, 0.02))
    )
    assert (found["by"], found["undecided"]) == ("judging", 1)
    assert [edge["decided"] for edge in found["edges"]] == [True, True, False]
    assert found["edges"][2]["rivals"] == ["skip_connect"]
    text = [line for _, line in verdict_lines(found, 20)]
    assert text[0].startswith("UNDECIDED: other cells did as well")
    assert text[1] == "they agree on 1<-0 nor_conv_3x3, 2<-0 skip_connect"
    assert text[2] == "and differ on 2<-1 none or skip_connect"


def test_cells_as_good_that_were_not_kept_may_differ_anywhere() -> None:
    judged = standing((CELL, 0, 0.0), (OTHER, 0.01, 0.02))
    found = verdict(SPACE, CELL, records(CELL), uniform(1), judged | {"undecided": 7})
    assert [edge["decided"] for edge in found["edges"]] == [None, None, False]


def test_judged_cells_that_all_are_worse_leave_nothing_open() -> None:
    found = verdict(SPACE, CELL, records(CELL), uniform(1), standing((CELL, 0, 0.0), (OTHER, 0.05, 0.02)))
    assert found["undecided"] == 0
    assert verdict_lines(found, 10)[0][1].startswith("decided: no other cell")


def test_without_a_deviation_nothing_is_said_of_it() -> None:
    found = verdict(SPACE, CELL, records(CELL), uniform(1), standing((CELL, 90.0, None), (OTHER, 89.0, None)))
    assert found["undecided"] is None
    assert {edge["decided"] for edge in found["edges"]} == {None}


def test_a_search_says_what_its_edges_rest_on() -> None:
    search = made("budget.steps=12", "relaxation.init_scale=0.5")
    first = {name: value.tolist() for name, value in search.state.params.items()}
    result = search.run()
    assert result.initial_alphas == first
    assert result.verdict is not None
    assert result.verdict["by"] == "edge weights"
    for row, edge in zip(result.alphas["alpha_EO"], result.verdict["edges"], strict=True):
        total = sum(math.exp(alpha) for alpha in row)
        best, second, *_ = sorted((math.exp(alpha) / total for alpha in row), reverse=True)
        assert edge["weight"] == pytest.approx(best, abs=1e-6)
        assert edge["lead"] == pytest.approx(best - second, abs=1e-6)


def test_a_resumed_search_says_the_same(tmp_path: Path) -> None:
    whole = made("budget.steps=12").run()
    search = made("budget.steps=12", folder=tmp_path)
    search._checkpoint()
    again = made("budget.steps=12", folder=tmp_path)
    again.resume()
    assert again.run().verdict == whole.verdict


def test_eliminations_are_called_so() -> None:
    result = made("budget.steps=20", "phases.pruning.share=1", "phases.bilevel.share=1").run()
    assert result.verdict is not None
    assert result.verdict["by"] == "elimination"
    assert result.verdict["undecided"] is None
