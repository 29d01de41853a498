"""The command `darts compare`: tables, pictures and one page about any mixture of runs."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from darts.baselining import baseline_command
from darts.compare_figures import draw_all
from darts.comparison import AXES, Loaded, Method, is_unknown, load, run_folders
from darts.config import compose_config, quoted
from darts.errors import UserError
from darts.evaluators.base import column
from darts.parts import Problems, build_oracle
from darts.paths import write_text
from darts.report import print_lines
from darts.report_page import page
from darts.run_folder import chosen_run_dir, read_config, write_config
from darts.statistics import Ranks, mean_interval, ranks, superiority

RANDOM = "darts.baselines.random_search.RandomSearch"  # the yardstick


def compare_command(settings: dict[str, Any], words: Sequence[str]) -> int:
    """Compare; returns the exit status.

    Raises:
        UserError: a mistake to mend.
    """
    problems = Problems()
    with problems.of():
        truth = column("truth", settings["truth"])
    with problems.of():
        if settings["axis"] not in ("auto", *AXES):
            raise ValueError(f"axis: got {settings['axis']!r}; allowed are auto, {', '.join(AXES)}")
    with problems.of("oracle"):
        oracle = build_oracle(settings["oracle"], settings["plugins"])
        oracle.check()
    problems.stop()
    folder = chosen_run_dir(settings["run_dir"], "compare")
    if (folder / "config.yaml").exists():
        read_config(folder, "run_dir", "compare")  # of another command it would be overwritten
    given = [*words, *run_study(settings, folder)]
    table = oracle.load()
    loaded = load(run_folders(given), truth, table)
    if table is not None and table.name != loaded.table:
        table = None  # of other values than these runs
    axis = choose_axis(loaded, settings["axis"])
    rank = matched_ranks(loaded.methods)
    rows = summary(loaded.methods, rank, loaded.objective is not None)
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"run_dir: cannot write to {folder} ({error.strerror}); give run_dir=FOLDER") from None
    write_config(settings | {"runs": [str(name) for name in given]}, folder)
    write_text(folder / "compare.csv", as_csv(rows))
    figures = draw_all(loaded, axis, rank, table, folder / "figures")
    write_text(folder / "report.html", page(loaded, rows, figures, rank))
    print_lines(report_lines(loaded, rows, folder))
    return 0


def run_study(settings: Mapping[str, Any], folder: Path) -> list[str]:
    """Make the runs of a study that are not finished; returns all of its folders.

    Raises:
        UserError: words that darts baseline refuses.
    """
    found = []
    for name, words in (settings["study"] or {}).items():
        run = folder / "runs" / str(name)
        found.append(str(run))
        if (run / "result.json").is_file():
            continue
        print(f"--- {name}", file=sys.stderr)
        if (run / "config.yaml").is_file():
            overrides = [f"resume={run}"]
        else:
            overrides = [*settings["common"], *words, f"run_dir={run}", f"label={name}"]
            if settings["seeds"] is not None:
                overrides.append(f"seeds={str(settings['seeds']).replace(' ', '')}")
            if settings["oracle"].get("path"):
                overrides.append(f"oracle.path={settings['oracle']['path']}")
        composed = compose_config("baseline", [quoted(word) for word in overrides])
        if baseline_command(composed, {word.partition("=")[0] for word in overrides}) != 0:
            raise KeyboardInterrupt
    return found


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


def report_lines(loaded: Loaded, rows: Sequence[Mapping[str, Any]], folder: Path) -> list[tuple[str, str]]:
    """A line a method, and where the files are."""
    lines = [("known accuracy", f"{loaded.truth}, table {loaded.table}; mean of the runs and its 95% interval")]
    for row in rows:
        interval = "" if is_unknown(row["truth_low"]) else f"  [{row['truth_low']:.3f}, {row['truth_high']:.3f}]"
        better = row["p_better_than_random"]
        beside = (
            "" if better is None else f"  better than random in {100 * better:.0f}% of pairs (p={row['p_value']:.2g})"
        )
        if row["hypervolume"] is not None:
            beside += f"  hypervolume {100 * row['hypervolume']:.2f}%"
        runs = f"{row['runs']} run{'s' * (row['runs'] > 1)}"
        lines.append((row["method"], f"{row['truth_mean']:.3f}{interval}  {runs}{beside}"))
        if row["notes"]:
            lines.append(("  NOTE", row["notes"]))
    return [*lines, ("table", str(folder / "compare.csv")), ("report", str(folder / "report.html"))]
