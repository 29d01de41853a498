"""One run of a search or of a black-box method, brought into one form; and what all runs are judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darts.blackbox.result import BaselineResult
from darts.oracle.base import Column, Table
from darts.run.errors import UserError
from darts.search.result import SearchResult
from darts.tasks.base import Metric


@dataclass(frozen=True)
class Measure(Metric):
    """What runs are judged by: a column of a table of known accuracies, or, where no table knows their cells, the
    number that they themselves ended with.

    Attributes:
        name: ``cifar10/test/200``, or ``supernet accuracy on digits``.
        unit, higher_is_better, limits: see `Metric`.
        column, table: of known accuracies; None for the runs' own number.
    """

    unit: str = "%"
    limits: tuple[float | None, float | None] = (0.0, 100.0)
    column: Column | None = None
    table: str | None = None

    @property
    def kind(self) -> str:
        """Of number, for headings."""
        return "own number" if self.column is None else "known accuracy"

    def label(self, what: str) -> str:
        """For an axis: of what it is."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.name} of {what}{unit}" if self.column is None else f"known accuracy of {what}, {self.name}{unit}"


@dataclass
class Trial:
    """One run of a method.

    Attributes:
        folder: where it stands.
        seed: of the run.
        cell, truth: what it found, and how good that is by the measure.
        curve: truth of the incumbent from a place of each axis on: axis to [(place, truth)].
        spent: by axis, at the end.
        failed: evaluations that failed.
        front: known accuracy and price of its front, if it had a second objective.
        hypervolume: of that, as a share of the table's own front.
    """

    folder: Path
    seed: int
    cell: str
    truth: float
    curve: dict[str, list[tuple[float, float]]]
    spent: dict[str, float]
    failed: int = 0
    front: list[tuple[float, float]] = field(default_factory=list)
    hypervolume: float | None = None


Found = tuple[str, str, list[Trial], list[str]]  # label, signal, trials, notes
Result = SearchResult | BaselineResult
PLAIN = "plain"  # a search by this name is called by its parts


def columns_of(result: Result, table: Table | None) -> set[Column]:
    """Of which accuracies the result knows its cells, or the table at hand does."""
    if isinstance(result, BaselineResult):
        known = set() if result.truth is None else {Column.parse(result.truth)}
    else:
        rows = (result.oracle or {"rows": []})["rows"]
        known = {Column(row["dataset"], row["split"], row["epochs"]) for row in rows}
    return known if table is None else known | table.columns.keys()


def table_of(result: Result) -> str | None:
    """The name of the table that it was looked up in."""
    return result.table if isinstance(result, BaselineResult) else (result.oracle or {}).get("table")


def own_measure(result: Result) -> Measure:
    """The number that a run itself ended with."""
    if isinstance(result, BaselineResult):
        return Measure(str(result.evaluator["signal"]), "", limits=(None, None))
    metric = result.judged_by
    return Measure(**vars(metric) | {"name": f"supernet {metric.name} on {result.searched_on}"})


def of_baseline(result: BaselineResult, folder: Path, measure: Measure) -> Found:
    """Trials of a black-box method, one a seed.

    Raises:
        UserError: its truth is another one, or a seed found nothing.
    """
    if measure.column is not None and result.truth != measure.name:
        raise UserError(
            f"{folder}: its truth is {result.truth}, not {measure.name}; give truth={result.truth} if all runs have "
            f"it, or run it again with evaluator.truth={measure.name}"
        )
    trials = []
    for run in result.runs:
        if not (points := run.trajectory):
            raise UserError(f"{folder}: seed {run.seed} found nothing, all of its evaluations failed; leave it out")
        truths = [point.signal if measure.column is None else float(point.truth or 0) for point in points]
        spent = {"cost": run.cost, "evaluations": float(run.evaluations), "images": float(run.images)}
        places = {axis: [float(getattr(point, axis)) for point in points] for axis in spent}
        if run.seconds:
            *places["seconds"], spent["seconds"] = run.seconds
        curve = {axis: list(zip(at, truths, strict=True)) for axis, at in places.items()}
        front = [(float(member.truth or 0), member.price) for member in run.front]
        trials.append(
            Trial(folder, run.seed, points[-1].cell, truths[-1], curve, spent, run.failed, front, run.hypervolume)
        )
    notes = []
    if result.evaluator["signal"] == result.truth:
        notes.append("its signal is the truth: it saw what it is judged by")
    if result.isomorphic_cache:
        notes.append("isomorphic cells were answered from a cache, free of charge")
    return result.label, str(result.evaluator["signal"]), trials, notes


def of_search(
    result: SearchResult, folder: Path, stored: Mapping[str, Any], measure: Measure, table: Table | None
) -> Found:
    """The trial of a search.

    Args:
        result, folder: of the run.
        stored: its settings.
        measure: what it is judged by.
        table: of the measure's accuracies, for cells on its way, if it is at hand.

    Raises:
        UserError: that accuracy of its cell is not known.
    """
    if measure.column is None:
        name = f"valid_{result.metric['name']}"
        value, curve = result.supernet_valid, [(r["step"] / result.steps, r[name]) for r in result.history]
    else:
        key = (measure.column.dataset, measure.column.split, measure.column.epochs)
        rows = (result.oracle or {"rows": []})["rows"]
        known = next((r["value"] for r in rows if (r["dataset"], r["split"], r["epochs"]) == key), None)
        if known is None and table is not None:
            known = table.value(table.space.parse(result.cell), *key)
        if known is None:
            held = ", ".join(str(Column(row["dataset"], row["split"], row["epochs"])) for row in rows)
            raise UserError(
                f"{folder}: the known accuracy {measure.name} of its cell was not looked up (it has {held or 'none'}); "
                "give the table, oracle.path=TABLE, or another truth=DATASET/SPLIT/EPOCHS"
            )
        value, curve = known, [(1.0, known)]
        if table is not None:
            cells = [(r["step"] / result.steps, table.space.parse(r["cell"])) for r in result.history]
            curve = [(share, table.value(cell, *key)) for share, cell in cells]
    spent = {"images": float(result.images), "seconds": result.seconds["total"]}
    curves = {axis: [(share * total, truth) for share, truth in curve] for axis, total in spent.items()}
    label = str(stored.get("label") or PLAIN)
    if label == PLAIN:
        parts = [str(stored[part]["_target_"]).rsplit(".", 1)[-1] for part in ("relaxation", "arch_step")]
        label = ", ".join([*parts, *(stored.get("regularizer") or {})])
    signal = f"images of {result.searched_on}"
    return label, signal, [Trial(folder, result.seed, result.cell, value, curves, spent)], []
