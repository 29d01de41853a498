"""Statistics of runs: coverage on known distributions, brute force, published numbers."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from darts.compare.significance import Ranks, alike, holm, mean_interval, ranks, superiority


@pytest.mark.parametrize(("size", "draw"), [(30, "normal"), (5, "normal"), (60, "exponential")])
def test_intervals_cover_the_mean_as_often_as_they_say(size: int, draw: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darts.compare.significance.RESAMPLES", 1000)
    rng, covered, trials = np.random.default_rng(7), 0, 600
    for _ in range(trials):
        values = getattr(rng, draw)(size=size)
        low, high = mean_interval(values.tolist())
        covered += low <= (draw == "exponential") <= high
    assert covered / trials == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / trials))


def test_intervals_repeat_and_shrink_with_the_level() -> None:
    values = np.random.default_rng(0).normal(size=40).tolist()
    assert mean_interval(values) == mean_interval(values)
    narrow, wide = mean_interval(values, 0.5), mean_interval(values, 0.99)
    assert wide[0] < narrow[0] < np.mean(values) < narrow[1] < wide[1]


def test_what_cannot_be_said_is_not_said() -> None:
    assert all(math.isnan(bound) for bound in mean_interval([3.0]))
    assert mean_interval([2.5] * 40) == (2.5, 2.5)
    low, high = mean_interval([2.5] * 48 + [1.0, 2.0])  # most alike, some far off
    assert 2.3 < low < 2.46 < high <= 2.5
    assert mean_interval([2.5] * 3) == (2.5, 2.5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_superiority_counts_pairs(values: list[int], others: list[int]) -> None:
    pairs = list(product(values, others))
    expected = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
    assert superiority(values, others)[0] == pytest.approx(expected)


def test_the_p_value_is_that_of_all_arrangements() -> None:
    """Of the 20 ways to choose 3 of 6 different values, one is as extreme."""
    assert superiority([4, 5, 6], [1, 2, 3]) == (1.0, pytest.approx(1 / 20))


def test_holms_correction_by_hand() -> None:
    """The smallest of four times 4, the next times 3, and so on; never smaller than the one before, never above 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0.01, 0.5))
def test_holm_rejects_what_his_procedure_does(p: list[float], level: float) -> None:
    """Step down: the smallest against level / M, the next against level / (M - 1), until one is not below."""
    rejected = set()
    for place, number in enumerate(sorted(range(len(p)), key=lambda number: p[number])):
        if p[number] * (len(p) - place) > level:
            break
        rejected.add(number)
    assert {number for number, corrected in enumerate(holm(p)) if corrected <= level} == rejected


def test_ranks_by_hand() -> None:
    """The best gets 1, ties share the mean of their places."""
    found = ranks(np.array([[0.9, 0.8, 0.7], [0.5, 0.5, 0.1], [0.1, 0.4, 0.4]]))
    assert found.mean_M == pytest.approx([(1 + 1.5 + 3) / 3, (2 + 1.5 + 1.5) / 3, (3 + 3 + 1.5) / 3])


@pytest.mark.parametrize(
    ("methods", "quantile"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (8, 3.031), (10, 3.164)]
)
def test_critical_differences_are_the_published_ones(methods: int, quantile: float) -> None:
    """q at 5% from Demsar 2006, JMLR 7, table 5a."""
    found = ranks(np.random.default_rng(0).normal(size=(14, methods)))
    assert found.difference == pytest.approx(quantile * math.sqrt(methods * (methods + 1) / (6 * 14)), abs=1e-3)


def test_methods_that_are_all_alike() -> None:
    found = ranks(np.ones((5, 3)))
    assert found.mean_M.tolist() == [2, 2, 2]
    assert math.isnan(found.p)


def test_intervals_by_hand() -> None:
    """Student's t for few values; for more the bootstrap reaches nearly as far."""
    assert mean_interval([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx((1.037, 4.963), abs=1e-3)
    assert mean_interval(list(range(12))) == pytest.approx((3.209, 7.791), abs=0.05)


def test_friedmans_p_by_hand() -> None:
    """Four runs that agree on three methods: chi squared is 8 at 2 degrees of freedom."""
    assert ranks(np.array([[3.0, 2.0, 1.0]] * 4)).p == pytest.approx(math.exp(-4))


# Groups of methods that a critical difference leaves together


def longest_rows(mean_ranks: list[float], difference: float) -> list[tuple[int, int]]:
    """Of all rows of neighbours in order of rank, those within the difference that lie in no longer one."""
    ordered = sorted(mean_ranks)
    rows = [
        (first, last)
        for first in range(len(ordered))
        for last in range(first + 1, len(ordered))
        if ordered[last] - ordered[first] <= difference
    ]
    return [
        (first, last)
        for first, last in rows
        if not any((a, b) != (first, last) and a <= first and last <= b for a, b in rows)
    ]


quarters = st.integers(4, 48).map(lambda number: number / 4)  # exact in binary, so that equality means something


@settings(max_examples=300, deadline=None)
@given(st.lists(quarters, min_size=2, max_size=12), st.integers(0, 24).map(lambda number: number / 4))
def test_groups_are_the_longest_rows_within_the_difference(mean_ranks: list[float], difference: float) -> None:
    found = alike(Ranks(np.array(mean_ranks), difference, float("nan"), 10))
    assert found == longest_rows(mean_ranks, difference)


def test_groups_by_hand() -> None:
    def groups(*mean_ranks: float) -> list[tuple[int, int]]:
        return alike(Ranks(np.array(mean_ranks), 1.0, float("nan"), 10))

    assert groups(1, 3, 5) == []  # all differ
    assert groups(2, 2, 2) == [(0, 2)]  # none does
    assert groups(5, 1, 3, 2) == [(0, 1), (1, 2)]  # by rank, not as given; just as far as the difference is alike
    assert groups(1, 1.5, 2, 2.5, 3) == [(0, 2), (1, 3), (2, 4)]  # they overlap
    assert groups(1, 1.5, 4, 4, 4) == [(0, 1), (2, 4)]


# Ranks of four trees on fourteen data sets: Demsar 2006, JMLR 7, table 6. C4.5 as it is, with m, with cf, with both.
DEMSAR = """
4 3 2 1      1 2 3 4      4 1 2 3        4 1 3 2    4 2 3 1    1 2.5 4 2.5    3 2 4 1
2.5 2.5 4 1  4 3 2 1      2.5 2.5 2.5 2.5  4 2.5 1 2.5  3 2 4 1  4 1 2 3        3 1 4 2
"""


def test_demsars_example() -> None:
    """At 5% the test finds nothing (1.179 is less than 1.25); at 10% the difference is 1.12, and C4.5 is worse than
    both trees with m (section 3.2.2)."""
    found = ranks(-np.array(DEMSAR.split(), dtype=float).reshape(14, 4))
    assert found.mean_M == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert found.difference == pytest.approx(1.25, abs=5e-3)
    assert alike(found) == [(0, 3)]
    assert alike(Ranks(found.mean_M, 1.12, found.p, 14)) == [(0, 2), (2, 3)]
    # Friedman's statistic is 9.28; of ties, which Demsar leaves, there are three pairs and one row of four
    corrected = 9.28 / (1 - (3 * (2**3 - 2) + (4**3 - 4)) / (14 * (4**3 - 4)))
    assert found.p == pytest.approx(stats.chi2.sf(corrected, 3), rel=5e-3)
