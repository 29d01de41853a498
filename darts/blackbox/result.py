"""What a black-box method found, seed by seed, and its file result.json.

Wall-clock values stand under `seconds` alone; everything else repeats bit for bit.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from darts.blackbox.loop import Point, Run
from darts.blackbox.pareto import Member, TrueFront
from darts.oracle.base import Column, Table
from darts.run.files import write_text
from darts.run.folder import read_result
from darts.run.schema import VERSION

CONFIG_KEYS = ("label", "space", "baseline", "evaluator", "budget", "seeds")
"""What a config of a black-box run holds at least."""


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
        runs: by seed; see `darts.blackbox.loop.Run`.
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
    schema_version: int = VERSION

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
            if not runs:
                raise ValueError("it holds no runs")
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
