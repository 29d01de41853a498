"""Runs of searches and of black-box methods, brought into one form and grouped by method."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darts.blackbox.result import CONFIG_KEYS as BASELINE_KEYS
from darts.blackbox.result import BaselineResult
from darts.oracle.base import Column, Oracle, Table
from darts.run import moved
from darts.run.errors import UserError
from darts.run.folder import read_config
from darts.run.parts import build_one
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
# What two runs of one method may differ in.
OWN = ("seed", "seeds", "run_dir", "resume", "extend", "label", "monitor", "oracle", "device", "plugins")


@dataclass
class Trial:
    """One run of a method.

    Attributes:
        folder: where it stands.
        seed: of the run.
        cell, truth: what it found, and how accurate that is known to be (%).
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


@dataclass
class Method:
    """Runs of one label and equal settings.

    Attributes:
        label: name in the report.
        settings: flat, without what runs of one method may differ in.
        notes: what a reader must know.
    """

    label: str
    settings: dict[str, Any]
    trials: list[Trial] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def truths(self) -> list[float]:
        """Of all runs, by seed."""
        return [trial.truth for trial in sorted(self.trials, key=lambda trial: trial.seed)]

    @property
    def best(self) -> Trial:
        """The run with the highest truth; of equal ones the one with the lowest seed."""
        return max(self.trials, key=lambda trial: (trial.truth, -trial.seed))


@dataclass
class Loaded:
    """All runs to compare.

    Attributes:
        space: of the cells.
        truth, table_name: the column that all are judged by, and its table's name.
        table: that table, if it is at hand.
        methods: in order of the folders.
        objective: the second objective, if some runs have one, and all of those the same.
        true_front: the table's own front by it.
    """

    space: Space
    truth: Column
    table_name: str
    table: Table | None
    methods: list[Method]
    objective: dict[str, Any] | None = None
    true_front: list[tuple[float, float]] | None = None


def load(folders: Sequence[Path], truth: Column, oracle: Oracle, plugins: Sequence[str] = ()) -> Loaded:
    """Read all results.

    Args:
        folders: of finished runs.
        truth: the column to judge by; runs that were looked up in another one are refused.
        oracle: a table for cells on the way of a search, if it has the one of these runs.
        plugins: packages with parts that these runs use.

    Raises:
        UserError: broken results, other spaces, tables or truths, or runs whose cells were never looked up.
    """
    spaces: dict[Space, list[Path]] = {}
    tables: dict[str, list[Path]] = {}
    table: Table | None = None
    methods: list[Method] = []
    objectives: dict[str, BaselineResult] = {}
    for folder in folders:
        kind, result = read_result(folder)
        stored = {"task": CLASSIFICATION} | read_config(folder, kind, KEYS[kind], "run")
        space = build_one(stored, "space", plugins)
        if not spaces:
            table = oracle.load(space)
        if isinstance(result, BaselineResult):
            objectives.setdefault(json.dumps(result.objective), result)
            name, label, trials, notes = _of_baseline(result, folder, truth)
        else:
            own = table if table is not None and table.space == space else None
            name, label, trials, notes = _of_search(result, folder, stored, truth, own)
        spaces.setdefault(space, []).append(folder)
        tables.setdefault(name, []).append(folder)
        settings = {key: value for key, value in flat(stored).items() if key.split(".")[0] not in OWN}
        same = next((m for m in methods if m.label == label and m.settings == settings), None)
        if same is None:
            methods.append(same := Method(label, settings))
        same.trials += trials
        same.notes += [note for note in notes if note not in same.notes]
    for what, found in (("spaces", spaces), ("tables of known accuracies", tables)):
        if len(found) > 1:
            names = (value if isinstance(value, str) else value.describe() for value in found)
            listed = "; ".join(f"{name}: {places[0]}" for name, places in zip(names, found.values(), strict=True))
            raise UserError(f"these runs are of different {what} and cannot be compared ({listed}); compare each apart")
    for method in methods:
        seeds = [trial.seed for trial in method.trials]
        if twice := {seed for seed in seeds if seeds.count(seed) > 1}:
            raise UserError(f"{method.label}: seed {min(twice)} is there twice; leave out one of the folders")
    _tell_apart(methods)
    (space,), (name,) = spaces, tables
    if table is not None and table.name != name:
        table = None  # of other values than these runs
    loaded = Loaded(space, truth, name, table, methods)
    priced = [result for result in objectives.values() if result.objective is not None]
    if len(priced) == 1:
        loaded.objective, loaded.true_front = priced[0].objective, priced[0].true_front
    if len(objectives) > 1:
        for method in methods:
            if target := method.settings.get("objective._target_"):
                method.notes.append(f"it had a second objective, {target.rsplit('.', 1)[-1].lower()}")
    return loaded


def read_result(folder: Path) -> tuple[str, SearchResult | BaselineResult]:
    """Kind and content of a result.json.

    Raises:
        UserError: it cannot be read.
    """
    file = folder / "result.json"
    try:
        kind = json.loads(file.read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"run: {file} cannot be read ({error}); leave this folder out, or run it again") from None
    if kind not in ("search", "baseline"):
        raise UserError(f"run: {file} is of kind {kind!r}; runs of darts search and darts baseline can be compared")
    return kind, (BaselineResult if kind == "baseline" else SearchResult).read(file)


def _of_baseline(result: BaselineResult, folder: Path, truth: Column) -> tuple[str, str, list[Trial], list[str]]:
    if result.truth != str(truth) or result.table is None:
        raise UserError(
            f"{folder}: its truth is {result.truth}, not {truth}; give truth={result.truth} if all runs have it, "
            f"or run it again with evaluator.truth={truth}"
        )
    trials = []
    for run in result.runs:
        if not run.trajectory:
            raise UserError(f"{folder}: seed {run.seed} found nothing, all of its evaluations failed; leave it out")
        points = run.trajectory
        assert all(point.truth is not None for point in points)
        spent = {"cost": run.cost, "evaluations": float(run.evaluations), "images": float(run.images)}
        truths = [float(point.truth or 0) for point in points]
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
    return result.table, result.label, trials, notes


def _of_search(
    result: SearchResult, folder: Path, stored: Mapping[str, Any], truth: Column, table: Table | None
) -> tuple[str, str, list[Trial], list[str]]:
    known = result.oracle or {"rows": [], "table": None}
    key = (truth.dataset, truth.split, truth.epochs)
    value = next((r["value"] for r in known["rows"] if (r["dataset"], r["split"], r["epochs"]) == key), None)
    if value is None:
        held = ", ".join(str(Column(row["dataset"], row["split"], row["epochs"])) for row in known["rows"])
        raise UserError(
            f"{folder}: the known accuracy {truth} of its cell was not looked up (it has {held or 'none'}); "
            "search with oracle.path=TABLE, or give another truth=DATASET/SPLIT/EPOCHS"
        )
    curve: list[tuple[float, float]] = []
    if table is not None and table.name == known["table"]:
        for record in result.history:
            genotype = table.space.parse(record["cell"])
            curve.append((record["step"] / result.steps, table.value(genotype, *key)))
    else:
        curve = [(1.0, value)]
    spent = {"images": float(result.images), "seconds": result.seconds["total"]}
    curves = {axis: [(share * total, known_truth) for share, known_truth in curve] for axis, total in spent.items()}
    trial = Trial(folder, result.seed, result.cell, value, curves, spent)
    parts = [str(stored[part]["_target_"]).rsplit(".", 1)[-1] for part in ("relaxation", "arch_step")]
    label = ", ".join([*parts, *(stored.get("regularizer") or {})])
    return str(known["table"]), label, [trial], []


def is_unknown(value: Any) -> bool:
    """None or not a number."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level, with dotted keys and the class names of today."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = moved.now(value) if key == "_target_" else value
    return found


def _tell_apart(methods: Sequence[Method]) -> None:
    """Methods of one label get what they differ in added to it: settings that all of them have, if that will do."""
    for label in {method.label for method in methods}:
        same = [method for method in methods if method.label == label]
        if len(same) < 2:
            continue
        keys = sorted({key for method in same for key in method.settings})
        differing = [key for key in keys if len({repr(method.settings.get(key)) for method in same}) > 1]
        shared = [key for key in differing if all(key in method.settings for method in same)]
        for chosen in (shared, differing):
            labels = [f"{label} ({', '.join(_setting(key, method) for key in chosen)})" for method in same]
            if len(set(labels)) == len(same):
                break
        for method, own in zip(same, labels, strict=True):
            method.label = own


def _setting(key: str, method: Method) -> str:
    """``lr=0.1``, or ``evaluator=TrainEvaluator``."""
    value, parts = method.settings.get(key), key.split(".")
    if parts[-1] == "_target_":
        return f"{'.'.join(parts[:-1])}={str(value).rsplit('.', 1)[-1]}"
    return f"{parts[-1]}={value}"
