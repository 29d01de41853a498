"""What a black-box method found, seed by seed, and its file result.json.

Wall-clock values stand under `seconds` alone; everything else repeats bit for bit.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from darts.black_box import Point, Run
from darts.oracle.base import Column, Table
from darts.paths import write_text
from darts.results import SCHEMA_VERSION, read_result


@dataclass
class BaselineResult:
    """One method, many seeds; field by field the content of result.json.

    Attributes:
        label: the method's name in reports.
        baseline: its class and settings.
        space: of the cells.
        evaluator: what answered: name, signal, and what else the values hinge on.
        truth: the column that `truth` values are of, or None.
        table: the table's name, or None.
        evaluations: the budget.
        isomorphic_cache: whether cells that compute the same were answered from memory.
        runs: by seed; see `darts.black_box.Run`.
        seconds: working time.
        versions: of the program and of what it used.
    """

    label: str
    baseline: dict[str, Any]
    space: dict[str, Any]
    evaluator: dict[str, Any]
    truth: str | None
    table: str | None
    evaluations: int
    isomorphic_cache: bool
    runs: list[Run]
    seconds: dict[str, float]
    versions: dict[str, str | int]
    kind: str = "baseline"
    schema_version: int = SCHEMA_VERSION

    def look_up(self, table: Table, column: Column) -> None:
        """Fill in the truth of every incumbent."""
        for run in self.runs:
            for point in run.trajectory:
                genotype = table.space.parse(point.cell)
                point.truth = table.value(genotype, column.dataset, column.split, column.epochs)
        self.truth, self.table = str(column), table.name

    def finals(self) -> list[Point]:
        """What each seed found, without those where every evaluation failed."""
        return [run.trajectory[-1] for run in self.runs if run.trajectory]

    def write(self, path: Path) -> None:
        """Write result.json atomically, one line a run."""
        content = asdict(self)
        runs = ",\n".join("  " + json.dumps(run, allow_nan=False) for run in content.pop("runs"))
        rest = json.dumps(content, indent=1, allow_nan=False)
        write_text(path, f'{rest[:-2]},\n "runs": [\n{runs}\n ]\n}}\n')

    @classmethod
    def read(cls, path: Path) -> BaselineResult:
        """Read result.json.

        Raises:
            UserError: no such file, or no result of this schema.
        """
        return read_result(
            path,
            "baseline",
            lambda content: cls(**content | {"runs": [read_run(run) for run in content["runs"]]}),
        )


def read_run(content: dict[str, Any]) -> Run:
    """A run from its plain values."""
    trajectory = [Point(**point) for point in content.pop("trajectory")]
    return Run(trajectory=trajectory, **content)


def spread(values: Sequence[float]) -> str:
    """``94.05 +- 0.23``: mean and standard deviation over runs."""
    deviation = f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{deviation}"


def result_lines(result: BaselineResult, folder: Path) -> list[tuple[str, str]]:
    """Name and value of everything worth reading after the runs."""
    finals, runs = result.finals(), result.runs
    lines = [("method", f"{result.label}, {len(runs)} run{'s' * (len(runs) > 1)} of {result.evaluations} evaluations")]
    if finals:
        best = max(finals, key=lambda point: point.signal)
        lines += [
            ("best cell", best.cell),
            ("signal", f"{spread([point.signal for point in finals])}  ({result.evaluator['signal']})"),
        ]
        truths = [point.truth for point in finals if point.truth is not None]
        if truths:
            lines.append(("known accuracy", f"{spread(truths)}  ({result.truth}, table {result.table})"))
    if result.truth is not None and result.truth == result.evaluator["signal"]:
        lines.append(("WARNING", "the signal is the truth: these searches saw what they are judged by"))
    count = len(runs)
    mean = {
        name: sum(getattr(run, name) for run in runs) / count
        for name in ("evaluations", "duplicates", "cached", "failed", "cost")
    }
    spent = f"{mean['evaluations']:.1f} answers a run ({mean['duplicates']:.1f} duplicates"
    spent += f", {mean['cached']:.1f} isomorphic ones from the cache)" if result.isomorphic_cache else ")"
    lines.append(("spent", f"{spent}, worth {mean['cost']:.1f} full trainings"))
    if failed := sum(run.failed for run in runs):
        lines.append(("failed", f"{failed} evaluations of {sum(run.evaluations for run in runs)}"))
    if exhausted := sum(run.stopped_by == "exhausted" for run in runs):
        lines.append(("stopped early", f"{exhausted} runs had nothing more to ask"))
    lines += [
        ("time", f"{result.seconds['total']:.1f} s"),
        ("files", str(folder)),
        ("  pictures", str(folder / "figures" / "trajectory.png")),
    ]
    return lines
