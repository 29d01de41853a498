"""Runs of searches and of black-box methods, read and grouped by method."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from darts.blackbox.result import CONFIG_KEYS as BASELINE_KEYS
from darts.blackbox.result import BaselineResult
from darts.compare.trials import (
    Measure,
    Result,
    Trial,
    columns_of,
    of_baseline,
    of_search,
    own_measure,
    table_of,
)  # fmt: skip
from darts.oracle.base import Column, Oracle, Table
from darts.run.errors import UserError, understood
from darts.run.folder import read_config
from darts.run.parts import build_one
from darts.run.settings import PATHS, RUNNING, flat
from darts.search.result import CONFIG_KEYS as SEARCH_KEYS
from darts.search.result import SearchResult
from darts.tasks.build import CLASSIFICATION
from supernet.spaces.base import Space

AXES = {
    "cost": "cost (full trainings)",
    "evaluations": "evaluations (answers)",
    "images": "images through the network",
    "seconds": "seconds",
}

KEYS = {"search": SEARCH_KEYS, "baseline": BASELINE_KEYS}
USUAL = Column("cifar10", "test", 200)  # what runs are judged by if nothing else is asked for
GIVEN = ("baseline.cells", "baseline.upfront")  # what a search found, and what that took
# What two runs of one method may differ in.
OWN = (
    "seed", "seeds", "run_dir", "resume", "extend", "label", "monitor", "oracle", "device", "plugins",
    "ray_address", "storage",
)  # fmt: skip


@dataclass
class Method:
    """Runs of one label and equal settings.

    Attributes:
        label: name in the report.
        signal: what its runs saw of a cell.
        settings: flat, without what runs of one method may differ in.
        notes: what a reader must know.
    """

    label: str
    signal: str
    settings: dict[str, Any]
    trials: list[Trial] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def truths(self) -> list[float]:
        """Of all runs, by seed."""
        return [trial.truth for trial in sorted(self.trials, key=lambda trial: trial.seed)]

    def spent(self, axis: str) -> float | None:
        """At the end, the mean of the runs; None if one of them does not know."""
        known = [trial.spent.get(axis) for trial in self.trials]
        return None if None in known else float(np.mean(known))  # type: ignore[arg-type]

    def best(self, measure: Measure) -> Trial:
        """The run with the best truth; of equal ones the one with the lowest seed."""
        return max(self.trials, key=lambda trial: (measure.worth(trial.truth), -trial.seed))


@dataclass
class Loaded:
    """All runs to compare.

    Attributes:
        space: of the cells.
        measure: what all are judged by.
        table: of known accuracies, if it is at hand.
        methods: the best first, by the mean of their runs.
        objective: the second objective, if some runs have one, and all of those the same.
        true_front: the table's own front by it.
    """

    space: Space
    measure: Measure
    table: Table | None
    methods: list[Method]
    objective: dict[str, Any] | None = None
    true_front: list[tuple[float, float]] | None = None

    @property
    def limits(self) -> tuple[float, float]:
        """Between which every value and every mean lies: of the table, if it is at hand, else of the measure."""
        if self.table is None or self.measure.column is None:
            low, high = self.measure.limits
            return -math.inf if low is None else low, math.inf if high is None else high
        values = self.table.columns[self.measure.column]
        return float(values.min()), float(values.max())


def load(folders: Sequence[Path], truth: Column | None, oracle: Oracle, plugins: Sequence[str] = ()) -> Loaded:
    """Read all results.

    Args:
        folders: of finished runs.
        truth: the column to judge by; None for one that all runs know, or, if none knows any, their own numbers.
        oracle: a table for cells on the way of a search, and for cells that were never looked up.
        plugins: packages with parts that these runs use.

    Raises:
        UserError: broken results, other spaces or tables, or runs that no common measure can judge.
    """
    read: list[tuple[Path, Result, dict[str, Any]]] = []
    spaces: dict[Space, list[Path]] = {}
    for folder in folders:
        kind, result = read_result(folder)
        stored = {"task": CLASSIFICATION} | read_config(folder, kind, KEYS[kind], "run")
        spaces.setdefault(build_one(stored, "space", plugins), []).append(folder)
        read.append((folder, result, stored))
    _one_alone("spaces", {str(space.describe()): places for space, places in spaces.items()})
    (space,) = spaces
    table = oracle.load(space)
    tables: dict[str, list[Path]] = {}
    for folder, result, _ in read:
        if (name := table_of(result)) is not None:
            tables.setdefault(name, []).append(folder)
    _one_alone("tables of known accuracies", tables)
    if table is not None and tables and table.name not in tables:
        table = None  # of other values than these runs
    measure = _measure(read, truth, table, next(iter(tables), None if table is None else table.name))
    methods: list[Method] = []
    objectives: dict[str, BaselineResult] = {}
    for folder, result, stored in read:
        with _understood(folder, result):
            if isinstance(result, BaselineResult):
                if measure.column is not None and result.truth != measure.name and table is not None:
                    result.look_up(table, measure.column)
                    for run in result.runs:
                        run.hypervolume = None  # of a front by another accuracy
                objectives.setdefault(json.dumps(result.objective), result)
                label, signal, trials, notes = of_baseline(result, folder, measure)
            else:
                label, signal, trials, notes = of_search(result, folder, stored, measure, table)
        settings = {
            key: value
            for key, value in flat(stored).items()
            if key.split(".")[0] not in OWN and key not in (*RUNNING, *GIVEN) and value is not None
        }
        same = next((m for m in methods if m.label == label and m.settings == settings), None)
        if same is None:
            methods.append(same := Method(label, signal, settings))
        same.trials += trials
        same.notes += [note for note in notes if note not in same.notes]
    for method in methods:
        seeds = [trial.seed for trial in method.trials]
        if twice := {seed for seed in seeds if seeds.count(seed) > 1}:
            raise UserError(f"{method.label}: seed {min(twice)} is there twice; leave out one of the folders")
    _tell_apart(methods)
    methods.sort(key=lambda method: (-measure.worth(float(np.mean(method.truths))), method.label))
    loaded = Loaded(space, measure, table, methods)
    priced = [result for result in objectives.values() if result.objective is not None]
    if len(priced) == 1:
        loaded.objective, loaded.true_front = priced[0].objective, priced[0].true_front
    if len(objectives) > 1:
        for method in methods:
            if target := method.settings.get("objective._target_"):
                method.notes.append(f"it had a second objective, {target.rsplit('.', 1)[-1].lower()}")
    return loaded


def _one_alone(what: str, found: Mapping[str, Sequence[Path]]) -> None:
    """Refuse runs of several spaces or tables.

    Raises:
        UserError: they are.
    """
    if len(found) > 1:
        listed = "; ".join(f"{name}: {places[0]}" for name, places in found.items())
        raise UserError(f"these runs are of different {what} and cannot be compared ({listed}); compare each apart")


def _measure(
    read: Sequence[tuple[Path, Result, dict[str, Any]]], truth: Column | None, table: Table | None, name: str | None
) -> Measure:
    """What all of them can be judged by; `name`: of the table that they were looked up in, or at hand.

    Raises:
        UserError: nothing.
    """
    known: dict[Path, set[Column]] = {}
    for folder, result, _ in read:
        with _understood(folder, result):
            known[folder] = columns_of(result, table)
    shared = set.intersection(*known.values())
    if truth is None and shared:
        truth = min(shared, key=lambda column: (column != USUAL, column.split != "test", str(column)))
    if truth is not None:
        return Measure(str(truth), column=truth, table=name)
    if any(known.values()):
        listed = "; ".join(f"{folder}: {', '.join(sorted(map(str, of))) or 'none'}" for folder, of in known.items())
        raise UserError(
            f"truth: these runs know no accuracy in common ({listed}); give the table that knows all of their cells, "
            "oracle.path=TABLE, or compare fewer"
        )
    own: dict[Measure, Path] = {}
    for folder, result, _ in read:
        with _understood(folder, result):
            own.setdefault(own_measure(result), folder)
    if len(own) > 1:
        listed = "; ".join(f"{measure.name}: {folder}" for measure, folder in own.items())
        raise UserError(
            f"truth: no table knows the cells of these runs, and their own numbers are different ones ({listed}); "
            "give a table, oracle.path=TABLE, or compare each kind apart"
        )
    return next(iter(own))


def _understood(folder: Path, result: Result) -> AbstractContextManager[None]:
    return understood(folder / "result.json", result.kind)


def read_result(folder: Path) -> tuple[str, SearchResult | BaselineResult]:
    """Kind and content of a result.json.

    Raises:
        UserError: it cannot be read.
    """
    file = folder / "result.json"
    try:
        kind = json.loads(file.read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"run: {file} cannot be read ({error}); leave this folder out, or run it again") from None
    if kind not in ("search", "baseline"):
        raise UserError(f"run: {file} is of kind {kind!r}; runs of darts search and darts baseline can be compared")
    return kind, (BaselineResult if kind == "baseline" else SearchResult).read(file)


def is_unknown(value: Any) -> bool:
    """None or not a number."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _tell_apart(methods: Sequence[Method]) -> None:
    """Methods of one label get what they differ in added to it: settings that all of them have, if that will do, and
    of a part that is another one its name, not its options."""
    for label in {method.label for method in methods}:
        same = [method for method in methods if method.label == label]
        if len(same) < 2:
            continue
        keys = sorted({key for method in same for key in method.settings})
        differing = [key for key in keys if len({repr(method.settings.get(key)) for method in same}) > 1]
        parts = tuple(key.removesuffix("_target_") for key in differing if key.endswith("._target_"))
        named = [key for key in differing if key.endswith("._target_") or not key.startswith(parts)]
        shared = [key for key in differing if all(key in method.settings for method in same)]
        for chosen in ([key for key in named if key in shared], shared, named, differing):
            labels = [f"{label} ({', '.join(_setting(key, method, same) for key in chosen)})" for method in same]
            if len(set(labels)) == len(same):
                break
        for method, own in zip(same, labels, strict=True):
            method.label = own


def _setting(key: str, method: Method, same: Sequence[Method]) -> str:
    """``lr=0.1``, or ``evaluator=TrainEvaluator``; of paths what they do not have in common."""
    value, parts = method.settings.get(key), key.split(".")
    if parts[-1] == "_target_":
        return f"{'.'.join(parts[:-1])}={str(value).rsplit('.', 1)[-1]}"
    others = [str(other.settings.get(key)) for other in same]
    if key in PATHS and all(map(os.path.isabs, others)):
        value = os.path.relpath(str(value), os.path.commonpath(others))
    return f"{parts[-1]}={value:g}" if isinstance(value, float) else f"{parts[-1]}={value}"
