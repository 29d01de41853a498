"""Known accuracy over what was spent, against values by hand and by scipy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from darts.compare.curves import PLACES, anytime, curves, values_at
from darts.compare.load import Method
from darts.compare.trials import Trial

Points = Sequence[tuple[float, float]]


def method(*runs: tuple[Points, float]) -> Method:
    """Runs as curves over cost and what they cost in the end."""
    trials = [
        Trial(Path(), seed, "", points[-1][1], {"cost": list(points)}, {"cost": spent})
        for seed, (points, spent) in enumerate(runs)
    ]
    return Method("made up", "", {}, trials)


def incumbent(points: Points, place: float) -> float:
    """The last value at or before a place, found by walking."""
    found = float("nan")
    for start, value in points:
        if start <= place:
            found = value
    return found


def test_a_value_stands_from_its_place_on() -> None:
    at_K = np.array([0.0, 0.999, 1.0, 2.9, 3.0, 3.1, 7.0, 1e9])
    found = values_at([1, 3, 7], [10.0, 20.0, 5.0], at_K)
    np.testing.assert_array_equal(found, [np.nan, np.nan, 10, 10, 20, 20, 5, 5])


def test_of_several_values_at_one_place_the_last_stands() -> None:
    np.testing.assert_array_equal(values_at([1, 1, 2], [10, 11, 12], np.array([0.5, 1, 1.5, 2])), [np.nan, 11, 11, 12])


def test_what_is_not_known_is_nan() -> None:
    np.testing.assert_array_equal(values_at([1, 2], [None, 4.0], np.array([1.0, 2.0])), [np.nan, 4])
    np.testing.assert_array_equal(values_at([], [], np.array([1.0, 2.0])), [np.nan, np.nan])


def test_curves_are_nan_before_the_first_incumbent_and_after_the_end() -> None:
    runs = method(([(1, 50.0), (10, 60.0)], 100), ([(2, 40.0), (20, 70.0)], 50))
    found = curves(runs, "cost", np.array([0.5, 1, 2, 9, 10, 20, 50, 50.1, 100, 101]))
    nan = np.nan
    expected = [[nan, 50, 50, 50, 60, 60, 60, 60, 60, nan], [nan, nan, 40, 40, 40, 70, 70, nan, nan, nan]]
    np.testing.assert_array_equal(found, expected)


def test_rounding_takes_no_place_from_a_curve() -> None:
    """0.1 three times is a little more than 0.3, and what was spent a little less."""
    place, spent = 0.1 + 0.1 + 0.1, 0.9 - 2e-16
    assert place > 0.3
    assert spent < 0.9
    np.testing.assert_array_equal(curves(method(([(place, 7.0)], spent)), "cost", np.array([0.3, 0.9])), [[7, 7]])


def test_the_band_by_hand() -> None:
    """Three runs at 50, 56 and 62, later at 60, 60 and 75: t at 2 degrees of freedom is 4.3027."""
    band = anytime(
        method(([(1, 50.0), (10, 60.0)], 100), ([(1, 56.0), (10, 60.0)], 100), ([(1, 62.0), (10, 75.0)], 100)), "cost"
    )
    assert band is not None
    assert band.reach_K is not None
    assert len(band.at_K) == len(band.mean_K) == len(band.reach_K) == PLACES
    assert band.at_K[[0, -1]] == pytest.approx([1, 100])
    assert band.at_K[1:] / band.at_K[:-1] == pytest.approx(np.full(PLACES - 1, 100 ** (1 / (PLACES - 1))))
    early = band.at_K < 10
    assert 0 < early.sum() < PLACES
    assert band.mean_K[early] == pytest.approx(56)
    assert band.reach_K[early] == pytest.approx(4.3027 * 6 / 3**0.5, rel=1e-4)
    assert band.mean_K[~early] == pytest.approx(65)
    assert band.reach_K[~early] == pytest.approx(4.3027 * 75**0.5 / 3**0.5, rel=1e-4)


def test_the_band_is_where_all_runs_are_under_way() -> None:
    runs = method(([(1, 50.0), (10, 60.0)], 100), ([(2, 40.0), (20, 70.0)], 50))
    band = anytime(runs, "cost")
    assert band is not None
    every_K = np.geomspace(1, 100, PLACES)
    assert band.at_K == pytest.approx(every_K[(every_K >= 2) & (every_K <= 50)])


def test_the_end_of_equally_long_runs_is_what_they_found() -> None:
    """Nothing of the last incumbent is lost to rounding, at 300 ends that are no powers of two."""
    for end in np.random.default_rng(0).uniform(3, 1e6, 300):
        band = anytime(method(([(1, 10.0), (end, 90.0)], end), ([(1, 20.0), (end, 80.0)], end)), "cost")
        assert band is not None
        assert (band.mean_K[0], band.mean_K[-1]) == (15, 85)


def test_a_single_run_has_no_band() -> None:
    band = anytime(method(([(1, 50.0), (10, 60.0)], 100)), "cost")
    assert band is not None
    assert band.reach_K is None
    assert set(band.mean_K) == {50, 60}


def test_runs_that_never_overlap_have_no_mean() -> None:
    assert anytime(method(([(1, 50.0)], 2), ([(3, 60.0)], 4)), "cost") is None


def test_a_curve_that_begins_at_nothing_has_a_place_on_a_logarithmic_axis() -> None:
    band = anytime(method(([(0, 50.0)], 8), ([(0, 60.0)], 8)), "cost")
    assert band is not None
    assert 0 < band.at_K[0] < 1e-6
    assert set(band.mean_K) == {55}


def test_parts_of_a_full_training_count() -> None:
    band = anytime(method(([(0.02, 50.0)], 0.5), ([(0.04, 60.0)], 0.5)), "cost")
    assert band is not None
    assert band.at_K[[0, -1]] == pytest.approx([0.04, 0.5], rel=0.02)


def test_a_run_of_one_place() -> None:
    """A search alone knows its cell at its end only."""
    band = anytime(method(([(7, 50.0)], 7)), "cost")
    assert band is not None
    assert (band.at_K.tolist(), band.mean_K.tolist(), band.reach_K) == ([7], [50], None)


@st.composite
def made_up_runs(draw: st.DrawFn) -> list[tuple[Points, float]]:
    runs = []
    for _ in range(draw(st.integers(2, 5))):
        places = sorted(draw(st.sets(st.integers(1, 60), min_size=1, max_size=6)))
        values = draw(st.lists(st.integers(0, 20), min_size=len(places), max_size=len(places)))
        spent = places[-1] + draw(st.integers(0, 40))
        runs.append(([(float(p), float(v)) for p, v in zip(places, values, strict=True)], float(spent)))
    return runs


@settings(max_examples=60, deadline=None)
@given(made_up_runs())
def test_the_band_is_students_interval_of_the_mean(runs: list[tuple[Points, float]]) -> None:
    band = anytime(method(*runs), "cost")
    lowest, highest = max(points[0][0] for points, _ in runs), min(spent for _, spent in runs)
    if band is None:
        first, last = min(points[0][0] for points, _ in runs), max(spent for _, spent in runs)
        every_K = np.geomspace(first, last, PLACES)
        assert not ((every_K > lowest) & (every_K < highest)).any()
        return
    assert band.reach_K is not None
    assert lowest <= band.at_K[0] * (1 + 1e-11)
    assert band.at_K[-1] <= highest * (1 + 1e-11)
    for place, mean, reach in zip(*band, strict=True):
        values = [incumbent(points, place * (1 + 1e-12)) for points, _ in runs]
        assert mean == pytest.approx(np.mean(values))
        error = stats.sem(values)
        if error == 0:
            assert reach == pytest.approx(0, abs=1e-9)
        else:
            interval = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=error)
            assert (mean - reach, mean + reach) == pytest.approx(interval)
