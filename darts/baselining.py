"""The command `darts baseline`: a black-box method with many seeds, its result, its report."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from darts.baseline_figures import draw_trajectory
from darts.baseline_result import BaselineResult, read_run, result_lines
from darts.black_box import BlackBox, Run
from darts.errors import UserError
from darts.oracle.base import Table
from darts.parts import Problems, build_oracle, build_part
from darts.report import print_lines
from darts.run_folder import make_run_dir, new_run_dir, read_config, remove_empty, resuming, write_config
from darts.tracking import software

INTERRUPTED = 130
RUNS = "runs.jsonl"  # finished runs of a folder, a line each


def baseline_command(settings: dict[str, Any], given: set[str]) -> int:
    """Run a method with every seed; returns the exit status.

    Raises:
        UserError: a mistake to mend.
    """
    if settings["resume"] is not None:
        foreign = sorted(key for key in given if key not in ("resume", "plugins"))
        if foreign:
            raise UserError(f"{', '.join(foreign)}: a resumed run keeps its settings; only plugins can be given")
        folder = Path(settings["resume"])
        stored = read_config(folder, command="baseline")
        if (folder / "result.json").is_file():
            print_lines(result_lines(BaselineResult.read(folder / "result.json"), folder))
            return 0
        return run_all(stored | {"plugins": settings["plugins"]}, folder)
    if settings["run_dir"] == "":
        raise UserError("run_dir: got an empty name; give a folder, or leave it out for outputs/baseline/DATE/TIME")
    chosen = Path(settings["run_dir"]) if settings["run_dir"] is not None else new_run_dir("baseline")
    folder = make_run_dir(chosen, "baseline", ["figures"])
    try:
        prepared = prepare(settings)
    except BaseException:
        remove_empty(folder)
        raise
    write_config(settings, folder)
    return run_all(settings, folder, prepared)


def parse_seeds(given: Any) -> list[int]:
    """The seeds that ``7``, ``0-499`` or a list of such name.

    Raises:
        UserError: something else, or a seed twice.
    """
    seeds: list[int] = []
    for part in given if isinstance(given, list) else [given]:
        first, dash, last = str(part).partition("-")
        if isinstance(part, bool) or not first.isdecimal() or (dash and not last.isdecimal()):
            raise UserError(f"seeds: got {part!r}; give a number, a range such as 0-499, or a list of them: [0-9,20]")
        seeds += range(int(first), int(last or first) + 1)
    if not seeds or len(set(seeds)) != len(seeds):
        raise UserError(f"seeds: got {given!r}, which names {'a seed twice' if seeds else 'none'}; name each once")
    return seeds


def prepare(settings: Mapping[str, Any]) -> tuple[BlackBox, Table | None, list[int]]:
    """Everything that runs, checked against each other.

    Raises:
        UserError: all problems of the settings.
    """
    problems, plugins = Problems(), settings["plugins"]
    parts: dict[str, Any] = {}
    for name in ("space", "dataset", "baseline", "evaluator"):
        with problems.of(name):
            parts[name] = build_part(settings[name], name, plugins)
    with problems.of("seeds"):
        parts["seeds"] = parse_seeds(settings["seeds"])
    with problems.of("oracle"):
        oracle = build_oracle(settings["oracle"], plugins)
        oracle.check()
    problems.stop()
    table = oracle.load() if parts["space"] == Table.space else None
    with problems.of("evaluator"):
        parts["evaluator"].open(parts["space"], table, parts["dataset"])
        if table is not None and parts["evaluator"].truth is not None:
            table.check("truth", parts["evaluator"].truth)
    problems.stop()
    with problems.of("budget"):
        parts["search"] = BlackBox(
            parts["baseline"], parts["space"], parts["evaluator"], settings["budget"]["evaluations"],
            settings["isomorphic_cache"],
        )  # fmt: skip
    problems.stop()
    with problems.of("baseline"):
        parts["search"].start(parts["seeds"][0])
    problems.stop()
    return parts["search"], table, parts["seeds"]


def run_all(
    settings: Mapping[str, Any],
    folder: Path,
    prepared: tuple[BlackBox, Table | None, list[int]] | None = None,
) -> int:
    """Run the seeds that are not done yet, look up what was found, report."""
    search, table, seeds = prepared or prepare(settings)
    begun = time.perf_counter()
    done = finished_runs(folder)
    spent = float(sum(seconds for _, seconds in done.values()))
    try:
        with (folder / RUNS).open("a", encoding="utf-8") as stream, progress(len(seeds)) as bar:
            task = bar.add_task(settings["label"], total=len(seeds), completed=len(done))
            for seed in seeds:
                if seed in done:
                    continue
                start = time.perf_counter()
                run = search.run(seed)
                done[seed] = (run, time.perf_counter() - start)
                stream.write(json.dumps({"seconds": done[seed][1]} | asdict(run)) + "\n")
                bar.update(task, advance=1)
            stream.flush()
            os.fsync(stream.fileno())
    except KeyboardInterrupt:
        hint = resuming(folder, "baseline")
        print(f"interrupted after {len(done)} of {len(seeds)} seeds; go on with: {hint}", file=sys.stderr)
        return INTERRUPTED
    result = BaselineResult(
        settings["label"], dict(settings["baseline"]), search.space.describe(), search.evaluator.describe(), None,
        None, search.evaluations, search.isomorphic_cache, [done[seed][0] for seed in seeds],
        {"total": spent + time.perf_counter() - begun}, software(),
    )  # fmt: skip
    if table is not None and search.evaluator.truth is not None:
        result.look_up(table, search.evaluator.truth)
    result.write(folder / "result.json")
    draw_trajectory(result, folder / "figures" / "trajectory.png")
    (folder / RUNS).unlink()
    print_lines(result_lines(result, folder))
    return 0


def finished_runs(folder: Path) -> dict[int, tuple[Run, float]]:
    """Seed to run and its seconds; what a crash left half written is left out, and cut off.

    Raises:
        UserError: a file that is none of this program's.
    """
    file = folder / RUNS
    if not file.is_file():
        return {}
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    found = {}
    try:
        complete = [line for line in lines if line.endswith("\n")]
        for line in complete:
            content = json.loads(line)
            seconds = content.pop("seconds")
            found[content["seed"]] = (read_run(content), seconds)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"resume: {file} is not what darts baseline writes ({error}); remove it to start anew"
        ) from None
    if len(complete) < len(lines):
        file.write_text("".join(complete), encoding="utf-8")
    return found


def progress(total: int) -> Progress:
    """A bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("[bold]{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn(),
        TextColumn("seeds, left"), TimeRemainingColumn(), console=console, disable=not console.is_terminal or total < 2,
    )  # fmt: skip
