"""What a black-box method found, seed by seed, and its file result.json.

Wall-clock values stand under `seconds` alone; everything else repeats bit for bit.
"""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from darts.black_box import Point, Run
from darts.oracle.base import Column, Table
from darts.pareto import Member, TrueFront
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
        objective: the second objective: name, unit, the network that is priced; or None.
        true_front: the table's own, as pairs of known accuracy and price, if there is a second objective.
        rank_correlation: of what slow searches saw with known accuracy: `spearman`, `kendall`, number of `cells`.
        runs: by seed; see `darts.black_box.Run`.
        seconds: working time: `total`, and of slow evaluators `runs`: at every point of a trajectory, and at its end.
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
    objective: dict[str, str | bool] | None
    true_front: list[tuple[float, float]] | None
    rank_correlation: dict[str, float] | None
    runs: list[Run]
    seconds: dict[str, Any]
    versions: dict[str, str | int]
    kind: str = "baseline"
    schema_version: int = SCHEMA_VERSION

    def look_up(self, table: Table, column: Column, best: TrueFront | None = None) -> None:
        """Fill in the truth of every incumbent and member of a front, and the fronts' shares of the best one."""

        def known(cell: str) -> float:
            return table.value(table.space.parse(cell), column.dataset, column.split, column.epochs)

        for run in self.runs:
            for point in run.trajectory:
                point.truth = known(point.cell)
            run.front = [member._replace(truth=known(member.cell)) for member in run.front]
            if best is not None:
                run.hypervolume = best.share(run.front)
        self.true_front = None if best is None else best.pairs
        self.truth, self.table = str(column), table.name

    def finals(self) -> list[Point]:
        """What each seed found, without those where every evaluation failed."""
        return [run.trajectory[-1] for run in self.runs if run.trajectory]

    def write(self, path: Path) -> None:
        """Write result.json atomically, one line a run."""
        content = asdict(self)
        seconds = [run.pop("seconds") for run in content["runs"]]
        if any(seconds):
            content["seconds"]["runs"] = seconds
        for run in content["runs"]:
            run["front"] = [member._asdict() for member in run["front"]]
        runs = ",\n".join("  " + json.dumps(run, allow_nan=False) for run in content.pop("runs"))
        rest = json.dumps(content, indent=1, allow_nan=False)
        write_text(path, f'{rest[:-2]},\n "runs": [\n{runs}\n ]\n}}\n')

    @classmethod
    def read(cls, path: Path) -> BaselineResult:
        """Read result.json.

        Raises:
            UserError: no such file, or no result of this schema.
        """

        def build(content: dict[str, Any]) -> BaselineResult:
            seconds = content["seconds"].pop("runs", [[] for _ in content["runs"]])
            runs = [read_run(run | {"seconds": own}) for run, own in zip(content["runs"], seconds, strict=True)]
            return cls(**content | {"runs": runs})

        return read_result(path, "baseline", build)

    def front_csv(self) -> str:
        """The fronts of all runs, a line a cell."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["seed", *Member._fields])
        for run in self.runs:
            writer.writerows([run.seed, *member] for member in run.front)
        return stream.getvalue()


def read_run(content: dict[str, Any]) -> Run:
    """A run from its plain values."""
    trajectory = [Point(**point) for point in content["trajectory"]]
    front = [Member(**member) if isinstance(member, dict) else Member(*member) for member in content["front"]]
    return Run(**content | {"trajectory": trajectory, "front": front})


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
    if correlation := result.rank_correlation:
        lines.append(
            (
                "rank correlation",
                f"{correlation['spearman']:.2f}  (Spearman's, of the signal with known accuracy, over "
                f"{correlation['cells']} cells)",
            )
        )
    if result.objective is not None:
        sizes = [len(run.front) for run in runs]
        lines.append(("front", f"{statistics.fmean(sizes):.1f} cells, by {result.objective['name']}"))
        volumes = [run.hypervolume for run in runs if run.hypervolume is not None]
        if volumes:
            lines.append(("hypervolume", f"{spread([100 * volume for volume in volumes])}% of the table's own front"))
    if result.truth is not None and result.truth == result.evaluator["signal"]:
        lines.append(("WARNING", "the signal is the truth: these searches saw what they are judged by"))
    count = len(runs)
    mean = {
        name: sum(getattr(run, name) for run in runs) / count
        for name in ("evaluations", "duplicates", "cached", "failed", "cost")
    }
    spent = f"{mean['evaluations']:.1f} answers a run ({mean['duplicates']:.1f} duplicates"
    spent += f", {mean['cached']:.1f} isomorphic ones from the cache)" if result.isomorphic_cache else ")"
    lines.append(("spent", f"{spent}, worth {mean['cost']:.4g} full trainings"))
    if failed := sum(run.failed for run in runs):
        lines.append(("failed", f"{failed} evaluations of {sum(run.evaluations for run in runs)}"))
    if stopped := sum(run.stopped for run in runs):
        lines.append(("stopped trainings", f"{stopped} of {sum(run.evaluations for run in runs)}"))
    errors = [run.report["extrapolation_error"] for run in runs if "extrapolation_error" in run.report]
    if errors:
        off = f"off by {statistics.fmean(errors):.2f} points on average, from half of the epochs"
        lines.append(("extrapolation", f"{off}, over trainings that went to their end"))
    if exhausted := sum(run.stopped_by == "exhausted" for run in runs):
        lines.append(("stopped early", f"{exhausted} runs had nothing more to ask"))
    lines += [
        ("time", f"{result.seconds['total']:.1f} s"),
        ("files", str(folder)),
        ("  pictures", str(folder / "figures" / "trajectory.png")),
    ]
    return lines
