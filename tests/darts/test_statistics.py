"""Statistics of runs: coverage on known distributions, brute force, published numbers."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darts.statistics import mean_interval, ranks, superiority


@pytest.mark.parametrize(("size", "draw"), [(30, "normal"), (5, "normal"), (60, "exponential")])
def test_intervals_cover_the_mean_as_often_as_they_say(size: int, draw: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darts.statistics.RESAMPLES", 1000)
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
