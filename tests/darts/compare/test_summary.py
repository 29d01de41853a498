"""Rows of a comparison against values by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from darts.compare.load import Loaded, Method, Trial
from darts.compare.summary import RANDOM, choose_axis, matched_ranks, mean_of, summary
from darts.oracle.base import Column
from supernet.spaces.cells import CellSpace


def method(label: str, truths: Sequence[float], target: str = "", signal: str = "") -> Method:
    """Runs whose folders come in falling order of their seeds."""
    trials = [Trial(Path(label), seed, f"{label} {seed}", truth, {}, {}) for seed, truth in enumerate(truths)]
    settings = {"baseline._target_": target, "baseline.size": label, "evaluator.signal": signal}
    return Method(label, settings, trials[::-1])


def test_the_best_method_comes_first_with_its_own_rank() -> None:
    """Ranks by seed: of a 3, 3, 2; of b 1, 2, 1; of c 2, 1, 3."""
    methods = [method("a", [1, 2, 3]), method("b", [4, 5, 6]), method("c", [2, 9, 1])]
    rows = summary(methods, matched_ranks(methods))
    assert [row["method"] for row in rows] == ["b", "c", "a"]
    assert [row["rank"] for row in rows] == pytest.approx([4 / 3, 2, 8 / 3])
    assert methods[2].truths == [2, 9, 1]
    assert rows[0]["truth_std"] == 1


def test_the_best_run_is_the_first_of_equal_ones() -> None:
    row = summary([method("a", [1, 7, 7, 3])], None)[0]
    assert (row["best_cell"], row["truth_best"]) == ("a 1", 7)


def test_a_mean_of_what_is_known_in_part_is_not_known() -> None:
    assert mean_of([0.5, 1.0]) == 0.75
    assert mean_of([0.5, None]) is None


def test_curves_stand_over_cost_where_every_run_knows_it() -> None:
    known = method("a", [1.0])
    known.trials[0].spent = {"images": 3.0, "evaluations": 2.0, "cost": 1.0}
    loaded = Loaded(CellSpace(3), Column("cifar10", "test", 200), "made", None, [known])
    assert choose_axis(loaded, "auto") == "cost"


def test_of_several_random_searches_the_most_alike_is_the_yardstick() -> None:
    peeking, honest = (method(signal, [truth], RANDOM, signal) for signal, truth in (("test", 99.0), ("valid", 90.0)))
    other = method("evolution", [95.0], "Evolution", "valid")
    rows = {row["method"]: row for row in summary([peeking, honest, other], None)}
    assert rows["evolution"]["p_better_than_random"] == 1
    assert rows["test"]["p_better_than_random"] is rows["valid"]["p_better_than_random"] is None
    assert summary([other], None)[0]["p_better_than_random"] is None
