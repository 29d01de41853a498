"""Statistics of methods that were run several times.

Shape suffixes: R runs, M methods, N matched runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FEW = 10  # runs, below which Student's t takes the place of the bootstrap
RESAMPLES = 10_000


NO_LIMITS = -np.inf, np.inf


def mean_interval(
    values_R: Sequence[float], level: float = 0.95, limits: tuple[float, float] = NO_LIMITS
) -> tuple[float, float]:
    """Confidence interval of the mean: quantiles of bootstrap means, taken further out as Student's t asks for so few
    values (Hesterberg 2015, The American Statistician 69:371, "expanded percentile interval"); with fewer than ten
    values Student's t itself, nan with fewer than two. It repeats bit for bit.

    Args:
        values_R: of the runs.
        level: how often it holds the mean.
        limits: between which every value lies, so that the mean does too: what is beyond is cut off.
    """
    low, high = np.clip(_unlimited(values_R, level), *limits)
    return float(low), float(high)


def _unlimited(values_R: Sequence[float], level: float) -> tuple[float, float]:
    values = np.asarray(values_R, dtype=float)
    count = len(values)
    if count < 2:
        return float("nan"), float("nan")
    mean, error = values.mean(), values.std(ddof=1) / count**0.5
    reach = stats.t.ppf((1 + level) / 2, count - 1)
    if count < FEW:
        return float(mean - reach * error), float(mean + reach * error)
    resamples = min(RESAMPLES, max(1000, 20_000_000 // count))  # for many values less memory
    drawn = np.random.default_rng(0).integers(count, size=(resamples, count))
    tail = stats.norm.cdf(-reach * (count / (count - 1)) ** 0.5)
    low, high = np.quantile(values[drawn].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)


def superiority(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Probability that a value beats one of the others, ties counted half, and the one-sided p of Mann and Whitney's
    test (1947) that it is above one half.
    """
    statistic, p = stats.mannwhitneyu(values, others, alternative="greater")
    return float(statistic / (len(values) * len(others))), float(p)


def holm(p_M: Sequence[float]) -> list[float]:
    """p-values of several tests, so that one of them that is below 5% is wrong in 5% of such families at most (Holm
    1979, Scandinavian Journal of Statistics 6:65)."""
    corrected, largest = [0.0] * len(p_M), 0.0
    for place, number in enumerate(sorted(range(len(p_M)), key=p_M.__getitem__)):
        largest = max(largest, min(1.0, (len(p_M) - place) * p_M[number]))
        corrected[number] = largest
    return corrected


@dataclass(frozen=True)
class Ranks:
    """Ranks of methods over matched runs, 1 the best, ties averaged.

    Attributes:
        mean_M: average rank.
        difference: critical difference of average ranks at 5% (Nemenyi; Demsar 2006, JMLR 7, section 3.2.2).
        p: of Friedman's test that all are alike; nan with fewer than three methods or two runs.
        runs: that were matched.
    """

    mean_M: NDArray[np.float64]
    difference: float
    p: float
    runs: int


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
    return Ranks(ranks_NM.mean(axis=0), difference, p, runs)


def alike(rank: Ranks) -> list[tuple[int, int]]:
    """First and last place, in order of average ranks, of every longest row of methods whose average ranks differ by at
    most the critical difference (Demsar 2006, figure 1)."""
    sorted_M = np.sort(rank.mean_M, kind="stable")
    groups: list[tuple[int, int]] = []
    for first, lowest in enumerate(sorted_M):
        last = int(np.flatnonzero(sorted_M - lowest <= rank.difference).max())
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups
