"""Runs of every kind, killed at random instants a dozen times, against the same run left alone: equal bit for bit."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from darts.run.checkpoint import checkpoint_path, load_checkpoint
from supernet.spaces.cells import CellSpace
from tests.compared import left_alone, scalars

pytestmark = pytest.mark.slow
KILLS = 12
DATA = ["dataset=fake", "dataset.images=96"]
SMALL = ["network.channels=2", "network.cells=1", "engine.threads=1", "engine.checkpoint_minutes=0"]
STEPS = ["data.batch_size=8", "budget.epochs=null", "budget.steps=120", "oracle=none"]
CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"
KINDS = {
    "gradient": ["search", "method=darts_v2", *DATA, *SMALL, *STEPS],
    "paths and evolution": ["search", "method=spos", *DATA, *SMALL, *STEPS],
    "short trainings": ["search", "method=finalists", *DATA, *SMALL, *STEPS],
    "short trainings in processes": [
        "search", "method=finalists", *DATA, *SMALL, *STEPS, "phases.finalists.executor=process",
    ],
    "perturbation": ["search", "method=darts_pt", *DATA, *SMALL, *STEPS],
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


def tensors(content: Any, name: str = "") -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint by its place."""
    if isinstance(content, torch.Tensor):
        return {name: content}
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return {key: value for place, one in pairs for key, value in tensors(one, f"{name}/{place}").items()}


def started(words: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """The run, begun or gone on with."""
    begun = words[0] != "compare" and (folder / "config.yaml").exists()
    line = [words[0], f"resume={folder}"] if begun else [*words, f"run_dir={folder}"]
    return subprocess.Popen([sys.executable, "-m", "darts", *line], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def left_to_run(words: list[str], folder: Path) -> float:
    """How long it lasts."""
    begun = time.monotonic()
    with started(words, folder) as process:
        error = process.communicate()[1]
    assert process.returncode == 0, error.decode()
    return time.monotonic() - begun


def killed(words: list[str], folder: Path, end: str, lasts: float, rng: random.Random) -> int:
    """Run and kill until it has ended, which a file shows; how often it was killed."""
    kills = 0
    while not (folder / end).exists():
        with started(words, folder) as process:
            try:
                error = process.communicate(timeout=lasts * rng.random() ** 2 if kills < KILLS else 300)[1]
                assert process.returncode == 0, error.decode()
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
    return kills


def test_a_study_killed_at_random_instants_ends_as_one_that_was_left_alone(tmp_path: Path) -> None:
    (tmp_path / "own/experiment").mkdir(parents=True)
    (tmp_path / "own/experiment/mine.yaml").write_text(STUDY)
    words = ["compare", "--config-dir", str(tmp_path / "own"), "experiment=mine", "oracle=none"]
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    lasts = left_to_run(words, whole)
    assert killed(words, folder, "report.html", lasts, random.Random("study")) >= 2, "it was hardly disturbed"
    runs = sorted(run.name for run in (whole / "runs").iterdir())
    assert sorted(run.name for run in (folder / "runs").iterdir()) == runs
    for run in runs:
        mine, theirs = (json.loads((one / "runs" / run / "result.json").read_text()) for one in (folder, whole))
        assert left_alone(mine) == left_alone(theirs)


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
        with started(words, folder) as process:
            try:
                error = process.communicate(timeout=lasts * rng.uniform(0.3, 0.8) if kills < 4 else 300)[1]
                assert process.returncode == 0, error.decode()
                break
            except subprocess.TimeoutExpired:
                process.kill()
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
def test_a_run_killed_at_random_instants_ends_as_one_that_was_left_alone(
    kind: str, beside: dict[str, str], tmp_path: Path
) -> None:
    words = KINDS[kind]
    for placeholder, place in beside.items():
        words = [word.replace(placeholder, place) for word in words]
    lasts = left_to_run(words, tmp_path / "whole")
    folder = tmp_path / "killed"
    assert killed(words, folder, "result.json", lasts, random.Random(kind)) >= 2, "it was hardly disturbed"
    mine, theirs = (json.loads((run / "result.json").read_text()) for run in (folder, tmp_path / "whole"))
    assert left_alone(mine) == left_alone(theirs)
    if words[0] == "baseline":
        return
    ours, others = (tensors(load_checkpoint(checkpoint_path(run))) for run in (folder, tmp_path / "whole"))
    assert ours.keys() == others.keys()
    assert [name for name, value in others.items() if not torch.equal(ours[name], value)] == []
    assert scalars(folder) == scalars(tmp_path / "whole")
