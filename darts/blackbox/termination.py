"""When to stop a training early: rules that compare its curve with those of trainings that went to their end.

A curve holds the accuracy (%) after every epoch.
"""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

LEAST = 5  # complete curves before a rule stops anything
EXPONENTS = np.geomspace(0.05, 3.0, 25)


class Termination(ABC):
    """A rule; it knows the complete curves of one length of training, in the order in which they came."""

    def __init__(self) -> None:
        self.complete: list[tuple[float, ...]] = []

    def learn(self, curve: Sequence[float]) -> None:
        """Take note of a training that went to its end."""
        self.complete.append(tuple(curve))

    def knowing(self, known: int) -> Callable[[Sequence[float]], bool]:
        """Whether to stop a training that has come so far, by the first `known` complete curves."""
        return partial(self.stops, complete=tuple(self.complete[:known]))

    @classmethod
    def stops(cls, curve: Sequence[float], complete: Sequence[tuple[float, ...]]) -> bool:
        """Whether to stop a training that has come so far, by complete curves."""
        return len(complete) >= LEAST and len(curve) < len(complete[0]) and cls.worse(curve, complete)

    @classmethod
    @abstractmethod
    def worse(cls, curve: Sequence[float], complete: Sequence[tuple[float, ...]]) -> bool:
        """Whether it is hopeless beside these."""

    def report(self) -> dict[str, float]:
        """Numbers about the rule itself that a reader should know."""
        return {}


class MedianRule(Termination):
    """Stop where the best accuracy so far is below the median of the others' running means up to the same epoch
    (Golovin et al. 2017, KDD, "Google Vizier", section 3.2.2)."""

    @classmethod
    def worse(cls, curve: Sequence[float], complete: Sequence[tuple[float, ...]]) -> bool:
        return max(curve) < statistics.median(statistics.fmean(other[: len(curve)]) for other in complete)


class ExtrapolatedCurve(Termination):
    """Stop where the accuracy at the end, extrapolated by a power law, is below the best known one even after two
    standard errors are added (after Domhan et al. 2015, IJCAI, which has more families of curves).

    The extrapolation's bias and standard error are those that it had, from the same epoch, for the complete curves.
    Under a falling learning rate accuracy rises towards the end, and the bias is what accounts for that.
    """

    @classmethod
    def worse(cls, curve: Sequence[float], complete: Sequence[tuple[float, ...]]) -> bool:
        if len(curve) < 3:
            return False
        length = len(complete[0])
        errors = [extrapolate(other[: len(curve)], length) - other[-1] for other in complete]
        expected = extrapolate(curve, length) - statistics.fmean(errors)
        return expected + 2 * statistics.stdev(errors) < max(other[-1] for other in complete)

    def report(self) -> dict[str, float]:
        """Error of the extrapolation from half of the epochs, its mean taken away, over the trainings that went to
        their end: ``extrapolation_error`` (mean absolute value, %), ``extrapolation_bias`` (%), ``extrapolated``."""
        half = [(curve[: (len(curve) + 1) // 2], curve) for curve in self.complete if len(curve) >= 5]
        if len(half) < LEAST:
            return {}
        errors = [extrapolate(start, len(curve)) - curve[-1] for start, curve in half]
        bias = statistics.fmean(errors)
        return {
            "extrapolation_error": statistics.fmean(abs(error - bias) for error in errors),
            "extrapolation_bias": bias,
            "extrapolated": len(errors),
        }


def extrapolate(curve: Sequence[float], length: int) -> float:
    """Value at epoch `length` of c - a n^-b, a >= 0, fitted to a curve by least squares; at least 2 epochs.

    b is the best of 25 exponents from 0.05 to 3; c and a follow in closed form.
    """
    values, epochs = np.asarray(curve, dtype=float), np.arange(1, len(curve) + 1)
    powers = epochs ** -EXPONENTS[:, None]
    centred, rest = powers - powers.mean(1, keepdims=True), values - values.mean()
    slopes = np.maximum(-(centred @ rest) / (centred**2).sum(1), 0)
    misfit = ((rest + slopes[:, None] * centred) ** 2).sum(1)
    best = int(misfit.argmin())
    return float(values.mean() + slopes[best] * (powers[best].mean() - length ** -EXPONENTS[best]))


RULES: dict[str, type[Termination]] = {"median": MedianRule, "curve": ExtrapolatedCurve}
