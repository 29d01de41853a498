"""Known accuracy over what was spent.

Shape suffixes: R runs, K places of an axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from darts.compare.load import Method

Array = NDArray[np.float64]
PLACES = 250


def values_at(places: Sequence[float], values: Sequence[float | None], at_K: Array) -> Array:
    """A step function that takes each value from its place on; nan before the first."""
    known = np.array([np.nan, *values], dtype=float)
    return known[np.searchsorted(np.asarray(places, dtype=float), at_K, side="right")]


def curves(method: Method, axis: str, at_K: Array) -> Array:
    """Truth of every run's incumbent at places of an axis, (R, K); nan before the first and after the end."""
    rows = []
    for trial in method.trials:
        places, values = zip(*trial.curve[axis], strict=True)
        row_K = values_at(places, values, at_K * (1 + 1e-12))
        row_K[at_K > trial.spent[axis] * (1 + 1e-12)] = np.nan
        rows.append(row_K)
    return np.array(rows)


class Band(NamedTuple):
    """Mean of all runs over an axis.

    Attributes:
        at_K: places.
        mean_K: of all runs, where all of them are under way.
        reach_K: half the width of the mean's 95% interval (Student's t); None for a single run.
    """

    at_K: Array
    mean_K: Array
    reach_K: Array | None


def anytime(method: Method, axis: str) -> Band | None:
    """How good the incumbent was after how much; None where the runs never overlap."""
    first = min(trial.curve[axis][0][0] for trial in method.trials)
    last = max(trial.spent[axis] for trial in method.trials)
    at_K = np.unique(np.geomspace(max(first, 1e-9), max(last, first), PLACES))
    curves_RK = curves(method, axis, at_K)
    known_K = ~np.isnan(curves_RK).any(axis=0)
    if not known_K.any():
        return None
    known_RK, runs = curves_RK[:, known_K], len(curves_RK)
    reach_K = None
    if runs > 1:
        reach_K = special.stdtrit(runs - 1, 0.975) * known_RK.std(0, ddof=1) / runs**0.5
    return Band(at_K[known_K], known_RK.mean(0), reach_K)
