"""The command `darts baseline`: a black-box method with many seeds, its result, its report."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from darts.baseline_figures import draw_front, draw_trajectory
from darts.baseline_result import BaselineResult, read_run, result_lines
from darts.black_box import Answer, BlackBox, Run
from darts.errors import UserError
from darts.evaluations import as_csv, complete_lines, flush, foreign, rank_correlation, read_answers
from darts.oracle.base import Column, Table
from darts.pareto import TrueFront
from darts.parts import Problems, build_oracle, build_part, check_arguments
from darts.paths import write_text
from darts.report import print_lines
from darts.run_folder import chosen_run_dir, make_run_dir, read_config, remove_empty, resuming, write_config
from darts.signals import StopRequest
from darts.tracking import software

INTERRUPTED = 130
RUNS = "runs.jsonl"  # finished runs of a folder, a line each
ANSWER_FILE = "answers-{}.jsonl"  # of slow evaluations, a line each, by seed
WORK = "work-{}"  # folder of an evaluator, by seed


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
    folder = make_run_dir(chosen_run_dir(settings["run_dir"], "baseline"), "baseline", ["figures"])
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
    for name in ("space", "dataset", "baseline", "evaluator", "objective"):
        with problems.of(name):
            parts[name] = build_part(settings[name], name, plugins) if settings.get(name) else None
    with problems.of("seeds"):
        parts["seeds"] = parse_seeds(settings["seeds"])
    with problems.of("oracle"):
        oracle = build_oracle(settings["oracle"], plugins)
        oracle.check()
    for path, arguments in (("budget", settings["budget"]), ("", {"isomorphic_cache": settings["isomorphic_cache"]})):
        with problems.of():
            check_arguments(BlackBox, arguments, path)
    problems.stop()
    table = oracle.load() if parts["space"] == Table.space else None
    with problems.of("evaluator"):
        if parts["evaluator"].inherits and not parts["baseline"].names_parents:
            raise ValueError(
                f"inherit: {settings['label']} names no parents; choose an evolution, or give inherit=false"
            )
        parts["evaluator"].open(parts["space"], table, parts["dataset"])
        truth = parts["evaluator"].judged_by(table)
    problems.stop()
    with problems.of("budget"):
        parts["search"] = BlackBox(
            parts["baseline"], parts["space"], parts["evaluator"], settings["budget"]["evaluations"],
            settings["isomorphic_cache"], parts["objective"],
        )  # fmt: skip
    problems.stop()
    with problems.of("baseline"):
        parts["search"].start(parts["seeds"][0])
    problems.stop()
    return Prepared(parts["search"], parts["seeds"], table, truth)


def run_all(settings: Mapping[str, Any], folder: Path, prepared: Prepared | None = None) -> int:
    """Run the seeds that are not done yet, look up what was found, report."""
    prepared = prepared or prepare(settings)
    search, seeds = prepared.search, prepared.seeds
    done = finished_runs(folder)
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
                done[seed] = one_run(search, seed, folder, bar, stop)
                stream.write(json.dumps(asdict(done[seed])) + "\n")
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
    report(settings, folder, prepared, [done[seed] for seed in seeds])
    (folder / RUNS).unlink()
    for file in folder.glob(ANSWER_FILE.format("*")):
        file.unlink()
    return 0


def report(settings: Mapping[str, Any], folder: Path, prepared: Prepared, runs: list[Run]) -> None:
    """Look up what was found, write and draw it."""
    search, _, table, truth = prepared
    objective = search.objective
    result = BaselineResult(
        settings["label"], dict(settings["baseline"]), search.space.describe(), search.evaluator.describe(), None,
        None, search.evaluations, search.isomorphic_cache, None if objective is None else objective.describe(), None,
        None, runs, {"total": sum(run.seconds[-1] for run in runs)}, software(),
    )  # fmt: skip
    best = None
    if table is not None and truth is not None:
        if objective is not None and objective.exact:
            best = TrueFront(table.columns[truth], np.array([objective(genotype) for genotype in table.space]))
        result.look_up(table, truth, best)
    if search.evaluator.slow:
        answers = {run.seed: read_answers(folder / ANSWER_FILE.format(run.seed)) for run in runs}
        result.rank_correlation = rank_correlation(answers, table, truth)
        write_text(folder / "evaluations.csv", as_csv(answers, table, truth))
    else:
        for run in runs:
            run.seconds = []  # of looking up, which says nothing about the method
    if objective is not None:
        write_text(folder / "front.csv", result.front_csv())
        draw_front(result, best, folder / "figures" / "front.png")
    result.write(folder / "result.json")
    draw_trajectory(result, folder / "figures" / "trajectory.png")
    print_lines(result_lines(result, folder))


def one_run(search: BlackBox, seed: int, folder: Path, bar: Progress, stop: StopRequest) -> Run:
    """Run a seed; what a slow evaluator answers is on the disk before the method is told.

    Raises:
        UserError: answers of another run in the folder.
    """
    if not search.evaluator.slow:
        return search.run(seed)
    file = folder / ANSWER_FILE.format(seed)
    known, work = read_answers(file), folder / WORK.format(seed)
    work.mkdir(exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        task = bar.add_task(f"seed {seed}", total=search.evaluations, completed=len(known))

        def note(answer: Answer) -> None:
            stream.write(json.dumps(answer) + "\n")
            flush(stream)
            bar.update(task, advance=1)
            if stop.made:
                raise KeyboardInterrupt

        try:
            run = search.run(seed, known, note, work)
        except ValueError as error:
            raise UserError(f"resume: {file}: {error}; remove it to begin this seed anew") from None
    shutil.rmtree(work)
    return run


def finished_runs(folder: Path) -> dict[int, Run]:
    """Seed to run.

    Raises:
        UserError: a file that is none of this program's.
    """
    found = {}
    try:
        for content in complete_lines(folder / RUNS):
            run = read_run(content)
            found[run.seed] = run
    except (TypeError, KeyError, AttributeError) as error:
        raise foreign(folder / RUNS, error) from None
    return found


def progress(quick: bool) -> Progress:
    """A bar on a terminal, nothing elsewhere, nor for what is done at once."""
    console = Console(stderr=True)
    columns = (TextColumn("[bold]{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn())
    return Progress(
        *columns, TextColumn("left"), TimeRemainingColumn(), console=console, disable=quick or not console.is_terminal
    )
