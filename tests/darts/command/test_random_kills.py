"""Runs of every kind, killed dozens of times, against the same run left alone: equal bit for bit.

First at random instants, then at random writes or some milliseconds after one has begun, then at the first write of a
process, the second, the third and so on until one ends: thus at every single write of the start and of the end.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from darts.run.checkpoint import checkpoint_path, load_checkpoint
from supernet.spaces.cells import CellSpace
from tests.compared import left_alone, scalars
from tests.killing import Run, writes

pytestmark = pytest.mark.slow
KILLS = 12  # at random instants, and as many at random writes
LATER = 0.005  # seconds that a kill comes after a write has begun, at most
DATA = ["dataset=fake", "dataset.images=96"]
SMALL = ["network.channels=2", "network.cells=1", "engine.threads=1", "engine.checkpoint_minutes=0"]
STEPS = ["data.batch_size=8", "budget.epochs=null", "budget.steps=60", "oracle=none"]
CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"
KINDS = {
    "gradient": ["search", "method=darts_v2", *DATA, *SMALL, *STEPS],
    "paths and evolution": ["search", "method=spos", *DATA, *SMALL, *STEPS],
    "short trainings": ["search", "method=finalists", *DATA, *SMALL, *STEPS],
    "short trainings in processes": [
        "search", "method=finalists", *DATA, *SMALL, *STEPS, "phases.finalists.executor=process",
    ],
    "cells by shared weights": [
        "search", "method=spos", *DATA, *SMALL, *STEPS, "phases.evolution.share=0", "phases.best_of_k.share=9",
    ],
    "perturbation": ["search", "method=darts_pt", *DATA, *SMALL, *STEPS],
    "pruning, widening, both at once": [
        "search", "method=pc_darts", *DATA, *SMALL, *STEPS, "network.channels=8", "relaxation.k=4",
        "phases.warm_up.share=1", "phases.bilevel.share=0", "phases.single_level.share=2", "phases.widening.share=2",
        "phases.widening.operations=3", "phases.widening.k=2", "phases.pruning.share=2",
    ],
    "pruning by information": ["search", "method=is_darts", *DATA, *SMALL, *STEPS],
    "retraining": [
        "retrain", f"cell={CELL}", *DATA, *SMALL, "data.batch_size=8", "recipe.epochs=40", "recipe.mixup=0.2",
        "recipe.average=0.9", "data.held_out=0.2",
    ],
    "training baseline": [
        "baseline", "baseline=regularized_evolution", "baseline.population=3", "baseline.sample=2", "evaluator=train",
        "evaluator.lengths=[1]", "evaluator.batch_size=16", "evaluator.channels=2", "budget.evaluations=16",
        "seeds=[0,1]", "oracle=none", *DATA,
    ],
    "training-free baseline": [
        "baseline", "baseline=local_search", "evaluator=zero_cost", "budget.evaluations=150", "seeds=[0,1,2]",
        "oracle=none", *DATA,
    ],
    "baseline on shared weights": [
        "baseline", "baseline=regularized_evolution", "baseline.population=10", "evaluator=supernet",
        "evaluator.run=SUPERNET", "budget.evaluations=200", "seeds=[0,1]", "oracle=none", *DATA,
    ],
    "baseline on a table": ["baseline", "budget.evaluations=3000", "seeds=0-149", "oracle.path=TABLE"],
}  # fmt: skip
STUDY = """# @package _global_
# darts compare: a search and two baselines.
common: [dataset=fake, dataset.images=96, evaluator=zero_cost, budget.evaluations=60, 'seeds=0-1']
study:
  random: [baseline=random_search]
  evolution: [baseline=regularized_evolution, baseline.population=10]
  gradient: [search, method=plain, network.channels=2, data.batch_size=8, budget.epochs=null, budget.steps=80]
"""


def leaves(content: Any, name: str = "") -> dict[str, Any]:
    """What a checkpoint holds, by its place; clocks aside."""
    if not isinstance(content, dict | list | tuple):
        return {name: content}
    pairs = content.items() if isinstance(content, dict) else enumerate(content)
    return {
        key: value
        for place, one in pairs
        if place not in ("seconds", "timing", "durations")
        for key, value in leaves(one, f"{name}/{place}").items()
    }


def words_of(words: list[str], folder: Path) -> list[str]:
    """The run, begun or gone on with."""
    begun = words[0] != "compare" and (folder / "config.yaml").exists()
    return [words[0], f"resume={folder}"] if begun else [*words, f"run_dir={folder}"]


def left_to_run(words: list[str], folder: Path) -> float:
    """How long it lasts."""
    begun = time.monotonic()
    assert Run(words_of(words, folder), folder).ended(600)
    return time.monotonic() - begun


def killed(words: list[str], folder: Path, lasts: float, writings: int, rng: random.Random) -> int:
    """Run and kill until a process has ended, and then once more from its last writes on; how often it was killed."""
    kills = 0
    for _ in range(KILLS):
        run = Run(words_of(words, folder), folder)
        if run.ended(lasts / 8 * rng.random()):
            break
        run.kill()
        kills += 1
    for _ in range(KILLS):
        at, later = rng.randint(1, max(2, writings // 16)), rng.choice([0, LATER * rng.random()])
        if Run(words_of(words, folder), folder, at, later).ended(600):
            break
        kills += 1
    return kills + killed_at_every_write(lambda: words_of(words, folder), folder)


def killed_at_every_write(words: Callable[[], list[str]], folder: Path) -> int:
    """Run and kill at the first write, at the second, and so on, until a process has ended."""
    for at in count(1):
        if Run(words(), folder, at).ended(600):
            return at - 1
    raise AssertionError


def same(folder: Path, other: Path) -> None:
    """Files, results, checkpoints and scalars of two runs."""
    files, others = (
        sorted(str(file.relative_to(run)) for file in run.rglob("*") if "tensorboard" not in file.parts)
        for run in (folder, other)
    )
    assert files == others
    for result in other.rglob("result.json"):
        mine, theirs = (json.loads(file.read_text()) for file in (folder / result.relative_to(other), result))
        assert left_alone(mine) == left_alone(theirs)
    for run in (one.parent for one in other.rglob("checkpoints")):
        mine, theirs = (leaves(load_checkpoint(checkpoint_path(one))) for one in (folder / run.relative_to(other), run))
        assert mine.keys() == theirs.keys()
        assert [name for name, value in theirs.items() if not alike(mine[name], value)] == []
        assert scalars(folder / run.relative_to(other)) == scalars(run)


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    return bool(one == other)


def test_a_study_killed_again_and_again_ends_as_one_that_was_left_alone(tmp_path: Path) -> None:
    (tmp_path / "own/experiment").mkdir(parents=True)
    (tmp_path / "own/experiment/mine.yaml").write_text(STUDY)
    words = ["compare", "--config-dir", str(tmp_path / "own"), "experiment=mine", "oracle=none"]
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    lasts = left_to_run(words, whole)
    assert killed(words, folder, lasts, writes(whole), random.Random("study")) >= 20
    same(folder, whole)


def test_a_search_that_is_killed_as_it_gets_a_longer_budget_ends_as_one_that_was_left_alone(tmp_path: Path) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    left_to_run(KINDS["gradient"], whole)
    shutil.copytree(whole, folder)
    longer = ["extend=true", "budget.steps=66"]
    assert Run(["search", f"resume={whole}", *longer], whole).ended(600)
    assert killed_at_every_write(lambda: ["search", f"resume={folder}", *longer], folder) >= 20
    same(folder, whole)


def test_a_tuning_killed_at_random_instants_keeps_every_trial_that_had_ended(tmp_path: Path) -> None:
    """Its trials are drawn by what was begun before, as for several machines, so it is another study from there on."""
    optuna = pytest.importorskip("optuna", reason="Optuna is an extra")
    words = ["tune", f"cell={CELL}", *DATA, "trials=6", "recipe.epochs=9", "parameters.network.channels.choices=[2]"]
    words += ["parameters.network.cells=null", "network.cells=1", "data.held_out=0.2"]
    lasts = left_to_run(words, tmp_path / "whole")
    folder, rng = tmp_path / "killed", random.Random("tune")
    known: dict[int, tuple[str, float | None]] = {}
    kills = 0
    while True:
        run = Run(words_of(words, folder), folder)
        if run.ended(lasts * rng.uniform(0.3, 0.8) if kills < 24 else 600):
            break
        run.kill()
        kills += 1
        if (folder / "study.db").exists() and (folder / "config.yaml").exists():
            study = optuna.load_study(study_name=None, storage=f"sqlite:///{folder / 'study.db'}")
            now = {one.number: (one.state.name, one.value) for one in study.trials if one.state.is_finished()}
            assert known.items() <= now.items()
            known = now
    assert kills >= 2, "it was hardly disturbed"
    trials = {one["number"]: one for one in json.loads((folder / "tune.json").read_text())["trials"]}
    assert sum(one["state"] in ("complete", "pruned", "fail") for one in trials.values()) == 6
    assert all(trials[number]["value"] == value for number, (state, value) in known.items() if state == "COMPLETE")


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A table, and a search whose shared weights judge."""
    folder = tmp_path_factory.mktemp("beside")
    lines = [f"{cell},{place * 7919 % 15625 / 200},{place % 97}" for place, cell in enumerate(CellSpace())]
    (folder / "table.csv").write_text("\n".join(["cell,cifar10_valid_200,cifar10_test_200", *lines, ""]))
    left_to_run(KINDS["gradient"], folder / "search")
    return {"TABLE": str(folder / "table.csv"), "SUPERNET": str(folder / "search")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_again_and_again_ends_as_one_that_was_left_alone(
    kind: str, beside: dict[str, str], tmp_path: Path
) -> None:
    words = KINDS[kind]
    for placeholder, place in beside.items():
        words = [word.replace(placeholder, place) for word in words]
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    lasts = left_to_run(words, whole)
    assert killed(words, folder, lasts, writes(whole), random.Random(kind)) >= 20
    same(folder, whole)
