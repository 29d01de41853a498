"""Runs beside each other: a row of numbers a method."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from darts.compare.curves import curves
from darts.compare.load import AXES, Loaded, Method, is_unknown
from darts.compare.significance import Ranks, holm, mean_interval, ranks, superiority
from darts.run.errors import UserError
from supernet.spaces.base import Space

RANDOM = "darts.blackbox.methods.random_search.RandomSearch"  # the yardstick
UNEQUAL = 1.2  # by what factor the most of what methods spent may exceed the least, to be called equal


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


def matched_ranks(loaded: Loaded) -> Ranks | None:
    """Ranks over as many runs as every method has, matched in order of their seeds; None for one method."""
    if len(loaded.methods) < 2:
        return None
    count = min(len(method.trials) for method in loaded.methods)
    worth = loaded.measure.worth
    return ranks(np.array([[worth(truth) for truth in method.truths[:count]] for method in loaded.methods]).T)


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


def at_equal_cost(method: Method, other: Method, axis: str) -> tuple[float, list[float], list[float]] | None:
    """What two methods had found when both had spent as much as the shortest of their runs in the end, and how much
    that was; None if one of their runs had nothing then."""
    place = min(trial.spent[axis] for one in (method, other) for trial in one.trials)
    own_R, others_R = (curves(one, axis, np.array([place]))[:, 0] for one in (method, other))
    if np.isnan(own_R).any() or np.isnan(others_R).any():
        return None
    return place, own_R.tolist(), others_R.tolist()


def short(amount: float) -> str:
    """Of something spent: ``0.06``, ``614,400``, ``30 M``."""
    for size, letter in ((1e9, " G"), (1e6, " M")):
        if amount >= size:
            return f"{amount / size:.4g}{letter}"
    return f"{amount:,.0f}" if amount >= 1e4 else f"{amount:,.4g}"


def unequal_cost(methods: Sequence[Method], axis: str) -> str:
    """What a reader must know where methods spent different amounts in the mean; empty if they did not."""
    spent = {method.label: method.spent(axis) or 0.0 for method in methods}
    least, most = min(spent, key=spent.__getitem__), max(spent, key=spent.__getitem__)
    if spent[most] <= UNEQUAL * spent[least]:
        return ""
    return (
        f"costs differ: {short(spent[least])} ({least}) to {short(spent[most])} ({most}), {AXES[axis]}; means and "
        "ranks are of what each found at its own end, only the comparison with random search is at equal cost"
    )


def agreement(method: Method, space: Space) -> float | None:
    """Share of runs that chose the same on an edge, the mean over edges: 1 if all found one cell; None for one run or a
    space whose genotypes are no rows of as many decisions."""
    if len(method.trials) < 2 or "decided" not in space.abilities:
        return None
    rows = [space.decisions(space.parse(trial.cell)) for trial in method.trials]
    if len({len(row) for row in rows}) > 1:
        return None
    chosen = list(zip(*rows, strict=True))
    return float(np.mean([max(map(of_edge.count, of_edge)) / len(of_edge) for of_edge in chosen]))


def summary(loaded: Loaded, axis: str, rank: Ranks | None) -> list[dict[str, Any]]:
    """A row a method, the best first.

    Args:
        loaded: the methods.
        axis: of cost; at equal cost of it methods are compared with random search.
        rank: of `matched_ranks`.
    """
    methods, measure = loaded.methods, loaded.measure
    rows: list[dict[str, Any]] = []
    for place, method in enumerate(methods):
        truths, best = method.truths, method.best(measure)
        low, high = mean_interval(truths, limits=loaded.limits)
        better = p = at = None
        yardstick = random_search_beside(method, methods)
        if yardstick is not None and (found := at_equal_cost(method, yardstick, axis)) is not None:
            at, own, others = found
            better, p = superiority(list(map(measure.worth, own)), list(map(measure.worth, others)))
        rows.append(
            {
                "method": method.label,
                "runs": len(truths),
                "truth_mean": float(np.mean(truths)),
                "truth_low": low,
                "truth_high": high,
                "rank": None if rank is None else float(rank.mean_M[place]),
                "cost": method.spent("cost"),
                "p_better_than_random": better,
                "p_value": p,
                "p_holm": None,
                "compared_at": at,
                "truth_std": float(np.std(truths, ddof=1)) if len(truths) > 1 else None,
                "truth_best": best.truth,
                "images": method.spent("images"),
                "seconds": method.spent("seconds"),
                "agreement": agreement(method, loaded.space),
                "hypervolume": None if loaded.objective is None else mean_of([t.hypervolume for t in method.trials]),
                "failed": sum(trial.failed for trial in method.trials),
                "best_cell": best.cell,
                "measure": measure.name,
                "notes": "; ".join(method.notes),
            }
        )
    tested = [(row, p) for row in rows if (p := row["p_value"]) is not None]
    for (row, _), corrected in zip(tested, holm([p for _, p in tested]), strict=True):
        row["p_holm"] = corrected
    return sorted(rows, key=lambda row: (-measure.worth(row["truth_mean"]), row["method"]))


def number(value: float, digits: int = 2) -> str:
    """With so many digits behind the point; small ones, such as errors, with two more."""
    return f"{value:.{digits if abs(value) >= 1 else digits + 2}f}"


def headline(loaded: Loaded, rows: Sequence[Mapping[str, Any]], axis: str) -> str:
    """Who won, by how much, at what cost, and whether that is more than luck: one sentence."""
    measure, by_label = loaded.measure, {method.label: method for method in loaded.methods}
    unit = AXES[axis].partition("(")[2].rstrip(")") or AXES[axis]
    first = by_label[rows[0]["method"]]
    own = short(first.spent(axis) or 0)
    found = f"{number(rows[0]['truth_mean'])}{measure.unit}"
    runs = f"{len(first.trials)} run{'s' * (len(first.trials) > 1)}"
    if len(rows) == 1:
        return f"{first.label} found {found} in the mean of {runs}, for {own} {unit}."
    second = by_label[rows[1]["method"]]
    ahead = abs(rows[0]["truth_mean"] - rows[1]["truth_mean"])
    worths = [list(map(measure.worth, method.truths)) for method in (first, second)]
    others = short(second.spent(axis) or 0)
    cost = f"{own} against {others} {unit}" if own != others else f"both for {own} {unit}"
    _, p = superiority(*worths)
    if min(map(len, worths)) < 4:
        luck = "too few runs to tell that from luck"
    elif p < 0.05:
        luck = f"more than luck (p = {p:.2g}, Mann and Whitney)"
    else:
        luck = f"which may be luck (p = {p:.2g}, Mann and Whitney)"
    lead = f"{ahead:.{2 if abs(rows[0]['truth_mean']) >= 1 else 4}f} better than {second.label}"
    return f"{first.label} found {found} in the mean of {runs}, {lead}: {luck}; {cost}."


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text; what is not known stays empty, and no name is a formula to a spreadsheet."""

    def cell(value: Any) -> Any:
        if isinstance(value, str) and value.startswith(("=", "+", "-", "@")):
            return f"'{value}"
        return "" if is_unknown(value) else value

    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: cell(value) for key, value in row.items()})
    return stream.getvalue()
