"""Rules that stop trainings: the median rule by hand, extrapolation of curves of known form, and of real ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts.blackbox.termination import ExtrapolatedCurve, MedianRule, Termination, extrapolate


def knowing(rule: Termination, *curves: list[float]) -> Termination:
    for curve in curves:
        rule.learn(curve)
    return rule


def test_the_median_rule_compares_the_best_so_far_with_running_means() -> None:
    """Running means after two epochs are 15, 25, 35, 45, 55: the median is 35."""
    rule = knowing(MedianRule(), *([10.0 * n, 10.0 * n + 10, 99.0] for n in range(1, 6)))
    assert rule.knowing(5)([34.9, 20.0])
    assert not rule.knowing(5)([35.0, 20.0])
    assert not rule.knowing(4)([0.0, 0.0]), "too few trainings were known when this one began"
    assert not rule.knowing(5)([0.0, 0.0, 0.0]), "it has ended anyway"


@given(st.floats(20, 95), st.floats(5, 60), st.integers(0, 24), st.integers(4, 12), st.integers(13, 200))
def test_power_laws_are_extrapolated_exactly(c: float, a: float, place: int, seen: int, length: int) -> None:
    b = np.geomspace(0.05, 3.0, 25)[place]
    curve = [c - a * n**-b for n in range(1, seen + 1)]
    assert extrapolate(curve, length) == pytest.approx(c - a * length**-b, abs=1e-6)


def test_a_falling_curve_stays_where_it_is_on_average() -> None:
    assert extrapolate([50.0, 40.0, 30.0], 100) == pytest.approx(40)


def curves(ends: list[float], length: int = 12, noise: float = 0.0) -> list[list[float]]:
    """Power laws that end at given accuracies, with a rise at the end that no power law has."""
    rng = np.random.default_rng(0)
    epochs = np.arange(1, length + 1)
    exponent = np.geomspace(0.05, 3.0, 25)[15]
    shape = epochs**-exponent - length**-exponent
    rise = np.where(epochs > length - 2, 3.0, 0.0)
    return [(end - 3 - 40 * shape + rise + rng.normal(0, noise, length)).tolist() for end in ends]


def test_the_hopeless_are_stopped_and_the_best_is_not() -> None:
    rule = knowing(ExtrapolatedCurve(), *curves([60.0, 65.0, 70.0, 72.0, 74.0, 75.0], noise=0.3))
    hopeless, best = curves([40.0, 80.0], noise=0.3)
    assert rule.knowing(6)(hopeless[:4])
    assert not any(rule.knowing(6)(best[:n]) for n in range(1, 12))
    assert not rule.knowing(6)(hopeless[:2]), "two epochs say too little"


def test_the_error_of_the_extrapolation_is_reported_with_its_bias() -> None:
    """All curves rise by 3 points where no power law sees it coming; beside that they are exact."""
    assert knowing(ExtrapolatedCurve(), *curves([60.0] * 4)).report() == {}
    found = knowing(ExtrapolatedCurve(), *curves([60.0, 62.0, 70.0, 72.0, 74.0, 75.0])).report()
    assert found["extrapolated"] == 6
    assert found["extrapolation_bias"] == pytest.approx(-3, abs=1e-6)
    assert found["extrapolation_error"] == pytest.approx(0, abs=1e-6)
    noisy = knowing(ExtrapolatedCurve(), *curves([60.0, 62.0, 70.0, 72.0, 74.0, 75.0], noise=1.0)).report()
    assert 0.5 < noisy["extrapolation_error"] < 5
    assert knowing(MedianRule(), *curves([60.0] * 6)).report() == {}


def test_an_extrapolation_is_put_right_by_its_bias_and_two_standard_errors() -> None:
    """Flat curves that end 10 to 18 higher: bias -14, standard error 3.16; the best end is 68."""
    rule = knowing(ExtrapolatedCurve(), *([50.0] * 4 + [end] for end in (60.0, 62.0, 64.0, 66.0, 68.0)))
    assert rule.knowing(5)([47.6] * 4)
    assert not rule.knowing(5)([47.7] * 4)


def test_the_report_is_of_the_first_three_of_five_epochs() -> None:
    rule = knowing(ExtrapolatedCurve(), *([50.0, 50.0, 20.0, 40.0, end] for end in (60.0, 62.0, 64.0, 66.0, 68.0)))
    assert rule.report() == pytest.approx({"extrapolation_error": 2.4, "extrapolation_bias": -24, "extrapolated": 5})
