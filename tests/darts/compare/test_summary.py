"""Rows of a comparison against values by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from darts.compare.load import Loaded, Method
from darts.compare.summary import (
    RANDOM,
    agreement,
    choose_axis,
    headline,
    matched_ranks,
    mean_of,
    short,
    summary,
    unequal_cost,
)
from darts.compare.trials import Measure, Trial
from darts.oracle.base import Column, Table
from supernet.spaces.cells import CellSpace

SPACE = CellSpace(3)
TRUTH = Measure("cifar10/test/200", column=Column("cifar10", "test", 200), table="made")


def loaded(methods: Sequence[Method], measure: Measure = TRUTH) -> Loaded:
    return Loaded(SPACE, measure, None, list(methods))


def method(label: str, truths: Sequence[float], target: str = "", signal: str = "") -> Method:
    """Runs whose folders come in falling order of their seeds."""
    cells = [str(SPACE.genotype(seed)) for seed in range(len(truths))]
    trials = [
        Trial(Path(label), seed, cell, truth, {"cost": [(1.0, truth)]}, {"cost": 5.0})
        for seed, (cell, truth) in enumerate(zip(cells, truths, strict=True))
    ]
    settings = {"baseline._target_": target, "baseline.size": label, "evaluator.signal": signal}
    return Method(label, signal, settings, trials[::-1])


def test_the_best_method_comes_first_with_its_own_rank() -> None:
    """Ranks by seed: of a 3, 3, 2; of b 1, 2, 1; of c 2, 1, 3."""
    methods = [method("a", [1, 2, 3]), method("b", [4, 5, 6]), method("c", [2, 9, 1])]
    rows = summary(loaded(methods), "cost", matched_ranks(loaded(methods)))
    assert [row["method"] for row in rows] == ["b", "c", "a"]
    assert [row["rank"] for row in rows] == pytest.approx([4 / 3, 2, 8 / 3])
    assert methods[2].truths == [2, 9, 1]
    assert rows[0]["truth_std"] == 1


def test_the_best_run_is_the_first_of_equal_ones() -> None:
    row = summary(loaded([method("a", [1, 7, 7, 3])]), "cost", None)[0]
    assert (row["best_cell"], row["truth_best"]) == (str(SPACE.genotype(1)), 7)


def test_a_mean_of_what_is_known_in_part_is_not_known() -> None:
    assert mean_of([0.5, 1.0]) == 0.75
    assert mean_of([0.5, None]) is None


def test_curves_stand_over_cost_where_every_run_knows_it() -> None:
    known = method("a", [1.0])
    known.trials[0].spent = {"images": 3.0, "evaluations": 2.0, "cost": 1.0}
    assert choose_axis(loaded([known]), "auto") == "cost"


def test_of_several_random_searches_the_most_alike_is_the_yardstick() -> None:
    peeking, honest = (method(signal, [truth], RANDOM, signal) for signal, truth in (("test", 99.0), ("valid", 90.0)))
    other = method("evolution", [95.0], "Evolution", "valid")
    rows = {row["method"]: row for row in summary(loaded([peeking, honest, other]), "cost", None)}
    assert rows["evolution"]["p_better_than_random"] == 1
    assert rows["test"]["p_better_than_random"] is rows["valid"]["p_better_than_random"] is None
    assert summary(loaded([other]), "cost", None)[0]["p_better_than_random"] is None


def test_the_first_sentence_names_both_costs_where_they_differ() -> None:
    long, small = climbing("long", [(1.0, 9.0)], 2e6), climbing("small", [(1.0, 2.0)], 25_000.0)
    content = loaded([long, small])
    assert headline(content, summary(content, "cost", None), "cost").endswith("2 M against 25,000 full trainings.")


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0.06, "0.06"), (5.0, "5"), (1234.5, "1,234"), (614_400.0, "614,400"), (3e7, "30 M"), (2.54e9, "2.54 G")],
)
def test_what_was_spent_is_written_short(amount: float, text: str) -> None:
    assert short(amount) == text


def climbing(label: str, ends: Sequence[tuple[float, float]], cost: float, target: str = "") -> Method:
    """Runs that begin at one value at cost 1, and have another one from half of the cost on."""
    made = method(label, [end for _, end in ends], target)
    for trial, (first, end) in zip(sorted(made.trials, key=lambda trial: trial.seed), ends, strict=True):
        trial.curve, trial.spent = {"cost": [(1.0, first), (cost / 2, end)]}, {"cost": cost}
    return made


def test_methods_of_unequal_cost_are_compared_with_random_search_at_equal_cost() -> None:
    """Evolution is better at its end, at cost 1000, and worse at 6, where random search ends."""
    long = climbing("evolution", [(80.0, 95.0), (81.0, 96.0)], 1000.0)
    short = climbing("random", [(70.0, 90.0), (71.0, 91.0)], 6.0, RANDOM)
    rows = {row["method"]: row for row in summary(loaded([long, short]), "cost", None)}
    assert (rows["evolution"]["p_better_than_random"], rows["evolution"]["compared_at"]) == (0.0, 6.0)
    assert rows["evolution"]["truth_mean"] == 95.5
    assert "6 (random) to 1,000 (evolution)" in unequal_cost([long, short], "cost")
    assert unequal_cost([long, climbing("other", [(1.0, 2.0)], 900.0)], "cost") == ""


def test_a_method_that_had_nothing_when_random_search_ended_is_not_compared() -> None:
    late, short = climbing("evolution", [(80.0, 95.0)], 1000.0), climbing("random", [(70.0, 90.0)], 6.0, RANDOM)
    late.trials[0].curve = {"cost": [(50.0, 80.0)]}
    rows = {row["method"]: row for row in summary(loaded([late, short]), "cost", None)}
    assert rows["evolution"]["p_better_than_random"] is rows["evolution"]["p_holm"] is None


def test_p_values_are_corrected_for_their_number() -> None:
    """Three against random search: of 20 arrangements of 3 and 3 runs one is as extreme; times three."""
    yardstick = method("random", [1, 2, 3], RANDOM)
    others = [method(label, [4, 5, 6]) for label in "abc"]
    rows = summary(loaded([yardstick, *others]), "cost", None)
    assert [row["p_holm"] for row in rows if row["method"] != "random"] == pytest.approx([3 / 20] * 3)
    assert [row["p_value"] for row in rows if row["method"] != "random"] == pytest.approx([1 / 20] * 3)


def test_intervals_stay_between_the_limits_of_the_measure() -> None:
    """Student's t of 70 and 99 reaches from -99.8 to 268.8."""
    row = summary(loaded([method("a", [70.0, 99.0])]), "cost", None)[0]
    assert (row["truth_low"], row["truth_high"]) == (0.0, 100.0)
    values = np.linspace(40.0, 99.5, SPACE.size)
    table = Table("made", {Column("cifar10", "test", 200): values}, space=SPACE)
    row = summary(Loaded(SPACE, TRUTH, table, [method("a", [70.0, 99.0])]), "cost", None)[0]
    assert (row["truth_low"], row["truth_high"]) == (40.0, 99.5)


def test_where_less_is_better_the_least_comes_first() -> None:
    measure = Measure("supernet error on waves", "px", higher_is_better=False, limits=(0.0, None))
    methods = [method("a", [3.0, 4.0]), method("b", [1.0, 2.0]), method("random", [5.0, 6.0], RANDOM)]
    content = loaded(methods, measure)
    rows = summary(content, "cost", matched_ranks(content))
    assert [row["method"] for row in rows] == ["b", "a", "random"]
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert [row["p_better_than_random"] for row in rows] == [1, 1, None]
    assert rows[0]["truth_best"] == 1.0
    assert rows[0]["truth_low"] == 0.0


def test_agreement_counts_the_most_common_choice_of_each_edge() -> None:
    made = method("a", [1.0, 2.0, 3.0])
    cells = (
        "|skip_connect~0|+|none~0|none~1|", "|skip_connect~0|+|none~0|skip_connect~1|",
        "|none~0|+|none~0|nor_conv_3x3~1|",
    )  # fmt: skip
    for trial, cell in zip(made.trials, cells, strict=True):
        trial.cell = cell
    assert agreement(made, SPACE) == pytest.approx((2 / 3 + 3 / 3 + 1 / 3) / 3)
    assert agreement(method("a", [1.0]), SPACE) is None


@pytest.mark.parametrize(
    ("truths", "others", "said"),
    [
        (
            [4, 5, 6, 7],
            [0, 1, 2, 3],
            "a found 5.50% in the mean of 4 runs, 4.00 better than b: more than luck (p = 0.014",
        ),
        ([4, 5, 6, 7], [3, 4, 5, 6], "1.00 better than b: which may be luck (p = "),
        ([4, 5], [0, 1], "4.00 better than b: too few runs to tell that from luck"),
    ],
)
def test_the_first_sentence_says_who_won_and_whether_it_is_luck(
    truths: list[float], others: list[float], said: str
) -> None:
    """Of the 70 ways to choose 4 of 8 different values, one is as extreme as the first."""
    content = loaded([method("b", others), method("a", truths)])
    sentence = headline(content, summary(content, "cost", None), "cost")
    assert said in sentence
    assert sentence.endswith("both for 5 full trainings.")
    alone = loaded([method("a", truths)])
    assert headline(alone, summary(alone, "cost", None), "cost").startswith("a found ")
