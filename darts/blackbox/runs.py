"""A black-box method with many seeds: prepared from settings, run in a folder, looked up, written down."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from darts.blackbox.evaluators.base import Context
from darts.blackbox.journal import as_csv, complete_lines, flush, foreign, line_of, rank_correlation, read_answers
from darts.blackbox.loop import Answer, BlackBox, Run
from darts.blackbox.pareto import TrueFront
from darts.blackbox.result import BaselineResult, read_run
from darts.oracle.base import Column, Table
from darts.run.devices import check_threads, choose_device, threads_of
from darts.run.environment import software
from darts.run.errors import UserError
from darts.run.files import config_dir, naming, write_text
from darts.run.folder import tidy
from darts.run.parts import Problems, allowed_class, build_one, build_part, check_arguments
from darts.run.signals import StopRequest
from darts.run.typed import check_types
from darts.tasks.build import build_task
from darts.training.executors import check_address
from supernet.spaces.base import Space, require

RUNS = "runs.jsonl"  # finished runs of a folder, a line each
ANSWER_FILE = "answers-{}.jsonl"  # of slow evaluations, a line each, by seed
WORK = "work-{}"  # folder of an evaluator, by seed


class Unfinished(Exception):
    """The runs were asked to stop; what is done is on the disk. The message says how much that is."""


MOST_SEEDS = 1_000_000


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
        if int(last or first) - int(first) >= MOST_SEEDS:
            raise UserError(f"seeds: got {part!r}; give {MOST_SEEDS:,} seeds or fewer")
        seeds += range(int(first), int(last or first) + 1)
    if not seeds or len(set(seeds)) != len(seeds):
        raise UserError(f"seeds: got {given!r}, which names {'a seed twice' if seeds else 'none'}; name each once")
    return seeds


def methods_for(space: Space) -> str:
    """What can search a space, for messages."""
    nodes = {file.stem: yaml.safe_load(file.read_text("utf-8")) for file in config_dir().glob("baseline/*.yaml")}
    classes: dict[str, Any] = {name: allowed_class(node["_target_"], "baseline") for name, node in nodes.items()}
    able = [n for n, one in sorted(classes.items()) if one.searches and set(one.requires) <= space.abilities]
    return f"; these can search it: {', '.join(able)}"


class Prepared(NamedTuple):
    """What is run: the search, its seeds, by what it is judged in the end, and the threads of the CPU."""

    search: BlackBox
    seeds: list[int]
    table: Table | None
    truth: Column | None
    threads: int | None


def prepare(settings: Mapping[str, Any]) -> Prepared:
    """Everything that runs, checked against each other.

    Raises:
        UserError: all problems of the settings.
    """
    problems, plugins = Problems(), tuple(settings["plugins"])
    parts: dict[str, Any] = {}
    for name in ("space", "dataset", "baseline", "evaluator", "objective"):
        with problems.of(name):
            parts[name] = build_part(settings[name], name, plugins) if settings.get(name) else None
    with problems.of("seeds"):
        parts["seeds"] = parse_seeds(settings["seeds"])
    with problems.of("device"):
        parts["device"] = choose_device(str(settings.get("device", "auto")))  # configs of version 0.1 have none
    threads = settings.get("engine", {}).get("threads")  # configs of version 0.1 have none
    with problems.of("engine"):
        check_threads(threads)
    with problems.of():
        oracle = build_one(settings, "oracle", plugins)
        oracle.check()
    for path, arguments in (("budget", settings["budget"]), ("", {"isomorphic_cache": settings["isomorphic_cache"]})):
        with problems.of():
            check_arguments(BlackBox, arguments, path)
    problems.stop()
    space, baseline, evaluator, objective = (parts[n] for n in ("space", "baseline", "evaluator", "objective"))
    with problems.of("baseline"):
        if not set(baseline.requires) <= space.abilities:  # the methods that can are looked up for the message alone
            require(space, baseline.requires, settings["label"], methods_for(space))
    problems.stop()
    with problems.of():
        check_address(settings.get("ray_address"), [evaluator.executor])
    if settings.get("storage"):
        with problems.of():
            baseline.share(settings["storage"], f"{settings['label']} in {type(space).__name__}")
    table = oracle.load(space)
    make_task = build_task(settings, parts["dataset"], {}, "task")
    with problems.of("evaluator"):
        if evaluator.inherits and not baseline.names_parents:
            raise ValueError(
                f"inherit: {settings['label']} names no parents; choose an evolution, or give inherit=false"
            )
        evaluator.open(Context(space, table, make_task, parts["device"], plugins, settings.get("ray_address")))
        truth = evaluator.judged_by(table)
    if objective is not None:
        with problems.of("objective"):
            objective.open(space, parts["device"])
    problems.stop()
    with problems.of("budget"):
        parts["search"] = BlackBox(
            baseline, space, evaluator, settings["budget"]["evaluations"], settings["isomorphic_cache"], objective
        )
    problems.stop()
    with problems.of("baseline"):
        parts["search"].start(parts["seeds"][0])
    problems.stop()
    if threads is None and not evaluator.slow:
        threads = 1  # small steps wait for threads more than they gain
    return Prepared(parts["search"], parts["seeds"], table, truth, threads)


def run_all(settings: Mapping[str, Any], folder: Path, prepared: Prepared) -> tuple[BaselineResult, TrueFront | None]:
    """Run the seeds that are not done yet, look up what was found, write it down.

    Returns:
        The result, and the table's own front, if it is known.

    Raises:
        Unfinished: asked to stop.
        UserError: files of another run in the folder.
    """
    search, seeds = prepared.search, prepared.seeds
    done = finished_runs(folder)
    try:
        slow, stop = search.evaluator.slow, StopRequest("evaluation")
        with (
            threads_of(prepared.threads),
            stop.listening(),
            naming(folder / RUNS),
            (folder / RUNS).open("a", encoding="utf-8") as stream,
            progress(len(seeds) == 1 and not slow) as bar,
        ):
            task = bar.add_task(f"{settings['label']}: seeds", total=len(seeds), completed=len(done))
            for seed in seeds:
                if seed in done:
                    continue
                done[seed] = one_run(search, seed, folder, bar, stop)
                stream.write(line_of(asdict(done[seed])))
                if slow or stop.made:
                    flush(stream)
                bar.update(task, advance=1)
                if stop.made and len(done) < len(seeds):
                    raise KeyboardInterrupt
            flush(stream)
    except KeyboardInterrupt:
        raise Unfinished(f"interrupted after {len(done)} of {len(seeds)} seeds") from None
    finally:
        search.evaluator.close()
    return write_down(settings, folder, prepared, [done[seed] for seed in seeds])


def tidy_run(folder: Path) -> None:
    """The result and its pictures are written: what was kept to go on from is not needed any more."""
    with suppress(OSError):  # it cannot be written any more
        for file in (folder / RUNS, *folder.glob(ANSWER_FILE.format("*"))):
            file.unlink(missing_ok=True)
    tidy(folder)


def true_front(prepared: Prepared) -> TrueFront | None:
    """The table's own front, if there is a second objective that can be computed."""
    table, truth, objective = prepared.table, prepared.truth, prepared.search.objective
    if table is None or truth is None or objective is None or not objective.exact:
        return None
    return TrueFront(table.columns[truth], np.array([objective(genotype) for genotype in table.space]))


def write_down(
    settings: Mapping[str, Any], folder: Path, prepared: Prepared, runs: Sequence[Run]
) -> tuple[BaselineResult, TrueFront | None]:
    """Look up what was found; write result.json and what goes with it."""
    search, _, table, truth, _ = prepared
    objective = search.objective
    result = BaselineResult(
        settings["label"], dict(settings["baseline"]), search.space.describe(), search.evaluator.describe(), None,
        None, search.evaluations, search.isomorphic_cache, None if objective is None else objective.describe(), None,
        None, list(runs), {"total": sum(run.seconds[-1] for run in runs)}, software(),
    )  # fmt: skip
    best = true_front(prepared)
    if table is not None and truth is not None:
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
    result.write(folder / "result.json")
    return result, best


def one_run(search: BlackBox, seed: int, folder: Path, bar: Progress, stop: StopRequest) -> Run:
    """Run a seed; what a slow evaluator answers is on the disk before the method is told.

    Raises:
        UserError: answers of another run in the folder.
    """
    if not search.evaluator.slow:
        return search.run(seed, stopped=lambda: stop.made)
    file = folder / ANSWER_FILE.format(seed)
    known, work = read_answers(file), folder / WORK.format(seed)
    work.mkdir(exist_ok=True)
    with naming(file), file.open("a", encoding="utf-8") as stream:
        task = bar.add_task(f"seed {seed}", total=search.evaluations, completed=len(known))

        def note(answer: Answer) -> None:
            stream.write(line_of(answer))
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
            check_types(run, Run)
            if not run.seconds:
                raise ValueError("a run without seconds")
            found[run.seed] = run
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise foreign(folder / RUNS, error) from None
    return found


def progress(quick: bool) -> Progress:
    """A bar on a terminal, nothing elsewhere, nor for what is done at once."""
    console = Console(stderr=True)
    columns = (TextColumn("[bold]{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn())
    return Progress(
        *columns, TextColumn("left"), TimeRemainingColumn(), console=console, disable=quick or not console.is_terminal
    )
