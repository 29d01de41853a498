"""The command `darts baseline`: a black-box method with many seeds, its result, its report."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from darts.baseline_figures import draw_trajectory
from darts.baseline_result import BaselineResult, read_run, result_lines
from darts.black_box import Answer, BlackBox, Run
from darts.errors import UserError
from darts.oracle.base import Column, Table
from darts.parts import Problems, build_oracle, build_part
from darts.paths import write_text
from darts.report import print_lines
from darts.run_folder import make_run_dir, new_run_dir, read_config, remove_empty, resuming, write_config
from darts.signals import StopRequest
from darts.tracking import software

INTERRUPTED = 130
RUNS = "runs.jsonl"  # finished runs of a folder, a line each
ANSWER_FILE = "answers-{}.jsonl"  # of a slow run that is not finished, a line each, by seed


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


class Prepared(NamedTuple):
    """What a command runs: the search, its seeds, and by what it is judged in the end."""

    search: BlackBox
    seeds: list[int]
    table: Table | None
    truth: Column | None


def prepare(settings: Mapping[str, Any]) -> Prepared:
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
        truth = parts["evaluator"].judged_by(table)
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
    return Prepared(parts["search"], parts["seeds"], table, truth)


def run_all(settings: Mapping[str, Any], folder: Path, prepared: Prepared | None = None) -> int:
    """Run the seeds that are not done yet, look up what was found, report."""
    search, seeds, table, truth = prepared or prepare(settings)
    begun = time.perf_counter()
    done = finished_runs(folder)
    spent = float(sum(seconds for _, seconds in done.values()))
    try:
        slow, stop = search.evaluator.slow, StopRequest()
        with (
            stop.listening(),
            (folder / RUNS).open("a", encoding="utf-8") as stream,
            progress(len(seeds) == 1 and not slow) as bar,
        ):
            task = bar.add_task(f"{settings['label']}: seeds", total=len(seeds), completed=len(done))
            for seed in seeds:
                if seed in done:
                    continue
                start = time.perf_counter()
                run = one_run(search, seed, folder, bar, stop)
                done[seed] = (run, time.perf_counter() - start)
                stream.write(json.dumps({"seconds": done[seed][1]} | asdict(run)) + "\n")
                if slow or stop.made:
                    flush(stream)
                bar.update(task, advance=1)
                if stop.made and len(done) < len(seeds):
                    raise KeyboardInterrupt
            flush(stream)
    except KeyboardInterrupt:
        hint = resuming(folder, "baseline")
        print(f"interrupted after {len(done)} of {len(seeds)} seeds; go on with: {hint}", file=sys.stderr)
        return INTERRUPTED
    finally:
        search.evaluator.close()
    result = BaselineResult(
        settings["label"], dict(settings["baseline"]), search.space.describe(), search.evaluator.describe(), None,
        None, search.evaluations, search.isomorphic_cache, [done[seed][0] for seed in seeds],
        {"total": spent + time.perf_counter() - begun}, software(),
    )  # fmt: skip
    if table is not None and truth is not None:
        result.look_up(table, truth)
    result.write(folder / "result.json")
    draw_trajectory(result, folder / "figures" / "trajectory.png")
    for file in (folder / RUNS, *folder.glob(ANSWER_FILE.format("*"))):
        file.unlink()
    print_lines(result_lines(result, folder))
    return 0


def one_run(search: BlackBox, seed: int, folder: Path, bar: Progress, stop: StopRequest) -> Run:
    """Run a seed; what a slow evaluator answers is on the disk before the method is told.

    Raises:
        UserError: answers of another run in the folder.
    """
    if not search.evaluator.slow:
        return search.run(seed)
    file = folder / ANSWER_FILE.format(seed)
    known = [Answer(*values) for values in complete_lines(file)]
    with file.open("a", encoding="utf-8") as stream:
        task = bar.add_task(f"seed {seed}", total=search.evaluations, completed=len(known))

        def note(answer: Answer) -> None:
            stream.write(json.dumps(answer) + "\n")
            flush(stream)
            bar.update(task, advance=1)
            if stop.made:
                raise KeyboardInterrupt

        try:
            return search.run(seed, known, note)
        except ValueError as error:
            raise UserError(f"resume: {file}: {error}; remove it to begin this seed anew") from None


def flush(stream: TextIO) -> None:
    """Bring what was written to the disk."""
    stream.flush()
    os.fsync(stream.fileno())


def complete_lines(file: Path) -> list[Any]:
    """JSON values of a file, a line each; what a crash left half written is cut off.

    Raises:
        UserError: a file that is none of this program's.
    """
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    complete = [line for line in lines if line.endswith("\n")]
    if len(complete) < len(lines):
        write_text(file, "".join(complete))
    try:
        return [json.loads(line) for line in complete]
    except ValueError as error:
        raise UserError(
            f"resume: {file} is not what darts baseline writes ({error}); remove it to start anew"
        ) from None


def finished_runs(folder: Path) -> dict[int, tuple[Run, float]]:
    """Seed to run and its seconds.

    Raises:
        UserError: a file that is none of this program's.
    """
    found = {}
    try:
        for content in complete_lines(folder / RUNS):
            seconds = content.pop("seconds")
            found[content["seed"]] = (read_run(content), seconds)
    except (TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"resume: {folder / RUNS} is not what darts baseline writes ({error}); remove it to start anew"
        ) from None
    return found


def progress(quick: bool) -> Progress:
    """A bar on a terminal, nothing elsewhere, nor for what is done at once."""
    console = Console(stderr=True)
    columns = (TextColumn("[bold]{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn())
    return Progress(
        *columns, TextColumn("left"), TimeRemainingColumn(), console=console, disable=quick or not console.is_terminal
    )
