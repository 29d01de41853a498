"""Runs beside each other: a row of numbers a method."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from darts.compare.load import AXES, Loaded, Method, is_unknown
from darts.compare.significance import Ranks, mean_interval, ranks, superiority
from darts.run.errors import UserError

RANDOM = "darts.blackbox.methods.random_search.RandomSearch"  # the yardstick


def choose_axis(loaded: Loaded, wanted: str) -> str:
    """The axis of the curves.

    Raises:
        UserError: one that a run does not have.
    """
    trials = [trial for method in loaded.methods for trial in method.trials]
    shared = [axis for axis in AXES if all(axis in trial.spent for trial in trials)]
    if wanted != "auto" and wanted not in shared:
        lacking = next(trial for trial in trials if wanted not in trial.spent)
        raise UserError(
            f"axis: {lacking.folder} does not know its {wanted}; all runs have {', '.join(shared) or 'none'}"
        )
    if not shared:
        raise UserError("axis: these runs share no measure of cost; compare fewer kinds of them")
    return shared[0] if wanted == "auto" else wanted


def matched_ranks(methods: Sequence[Method]) -> Ranks | None:
    """Ranks over as many runs as every method has, matched in order of their seeds; None for one method."""
    if len(methods) < 2:
        return None
    count = min(len(method.trials) for method in methods)
    return ranks(np.array([method.truths[:count] for method in methods]).T)


def mean_of(values: Sequence[float | None]) -> float | None:
    """None if one of them is not known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def random_search_beside(method: Method, methods: Sequence[Method]) -> Method | None:
    """What a method is measured by: of several random searches the one with the most settings in common, beside those
    of the method itself; None for a random search, or without one."""

    def differing(other: Method) -> int:
        keys = method.settings.keys() | other.settings.keys()
        return sum(method.settings.get(k) != other.settings.get(k) for k in keys if not k.startswith("baseline."))

    found = [other for other in methods if other.settings.get("baseline._target_") == RANDOM]
    return None if method in found else min(found, key=differing, default=None)


def summary(methods: Sequence[Method], rank: Ranks | None, same: bool = False) -> list[dict[str, Any]]:
    """A row a method, the best first.

    Args:
        methods, rank: what to sum up.
        same: whether there is one second objective, so that hypervolumes can be compared.
    """
    rows = []
    for place, method in enumerate(methods):
        truths = method.truths
        low, high = mean_interval(truths)
        better = p = None
        if (yardstick := random_search_beside(method, methods)) is not None:
            better, p = superiority(truths, yardstick.truths)
        spent = {
            axis: float(np.mean([trial.spent[axis] for trial in method.trials]))
            for axis in AXES
            if all(axis in trial.spent for trial in method.trials)
        }
        rows.append(
            {
                "method": method.label,
                "runs": len(truths),
                "truth_mean": float(np.mean(truths)),
                "truth_low": low,
                "truth_high": high,
                "rank": None if rank is None else float(rank.mean_M[place]),
                "cost": spent.get("cost"),
                "p_better_than_random": better,
                "p_value": p,
                "truth_std": float(np.std(truths, ddof=1)) if len(truths) > 1 else None,
                "truth_best": method.best.truth,
                "images": spent.get("images"),
                "seconds": spent.get("seconds"),
                "hypervolume": mean_of([trial.hypervolume for trial in method.trials]) if same else None,
                "failed": sum(trial.failed for trial in method.trials),
                "best_cell": method.best.cell,
                "notes": "; ".join(method.notes),
            }
        )
    return sorted(rows, key=lambda row: (-row["truth_mean"], row["method"]))


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text; what is not known stays empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: "" if is_unknown(value) else value for key, value in row.items()})
    return stream.getvalue()
