"""Statistics of methods that were run several times.

Shape suffixes: R runs, M methods, N matched runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FEW = 20  # runs, below which Student's t takes the place of the bootstrap
RESAMPLES = 10_000


def mean_interval(values_R: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of the mean: bootstrap-t (Efron & Tibshirani 1993, section 12.5), with fewer than twenty
    values Student's t; nan with fewer than two. It repeats bit for bit.
    """
    values = np.asarray(values_R, dtype=float)
    if len(values) < 2:
        return float("nan"), float("nan")
    mean, error = values.mean(), values.std(ddof=1) / len(values) ** 0.5
    tail = (1 - level) / 2
    if error < 1e-12 * max(1.0, abs(mean)):
        return float(mean), float(mean)
    if len(values) < FEW:
        reach = stats.t.ppf(1 - tail, len(values) - 1) * error
        return float(mean - reach), float(mean + reach)
    resamples = min(RESAMPLES, max(1000, 20_000_000 // len(values)))  # for many values less memory
    drawn = values[np.random.default_rng(0).integers(len(values), size=(resamples, len(values)))]
    errors = drawn.std(axis=1, ddof=1) / len(values) ** 0.5
    usable = errors > 1e-12 * max(1.0, abs(mean))
    pivots = (drawn.mean(axis=1)[usable] - mean) / errors[usable]
    low, high = np.quantile(pivots, [tail, 1 - tail])
    return float(mean - high * error), float(mean - low * error)


def superiority(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Probability that a value beats one of the others, ties counted half, and the one-sided p of Mann and Whitney's
    test (1947) that it is above one half.
    """
    statistic, p = stats.mannwhitneyu(values, others, alternative="greater")
    return float(statistic / (len(values) * len(others))), float(p)


@dataclass(frozen=True)
class Ranks:
    """Ranks of methods over matched runs, 1 the best, ties averaged.

    Attributes:
        mean_M: average rank.
        difference: critical difference of average ranks at 5% (Nemenyi; Demsar 2006, JMLR 7, section 3.2.2).
        p: of Friedman's test that all are alike; nan with fewer than three methods or two runs.
    """

    mean_M: NDArray[np.float64]
    difference: float
    p: float


def ranks(values_NM: NDArray[np.float64]) -> Ranks:
    """Rank the methods in every matched run."""
    runs, methods = values_NM.shape
    ranks_NM = stats.rankdata(-values_NM, axis=1)
    p = float("nan")
    if methods > 2 and runs > 1 and (ranks_NM != ranks_NM.mean(axis=1, keepdims=True)).any():
        p = float(stats.friedmanchisquare(*values_NM.T).pvalue)
    difference = float("nan")
    if methods > 1:
        quantile = stats.studentized_range.ppf(0.95, methods, np.inf) / 2**0.5
        difference = float(quantile * (methods * (methods + 1) / (6 * runs)) ** 0.5)
    return Ranks(ranks_NM.mean(axis=0), difference, p)
