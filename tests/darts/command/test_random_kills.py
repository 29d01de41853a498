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
from tests.curves import scalars

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
}  # fmt: skip


def left_alone(content: Any) -> Any:
    """Without what a clock says, at any depth."""
    if isinstance(content, dict):
        return {key: left_alone(value) for key, value in content.items() if key not in ("seconds", "timing")}
    return [left_alone(value) for value in content] if isinstance(content, list) else content


def tensors(content: Any, name: str = "") -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint by its place."""
    if isinstance(content, torch.Tensor):
        return {name: content}
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return {key: value for place, one in pairs for key, value in tensors(one, f"{name}/{place}").items()}


def started(words: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """The run, begun or gone on with."""
    begun = (folder / "config.yaml").exists()
    line = [words[0], f"resume={folder}"] if begun else [*words, f"run_dir={folder}"]
    return subprocess.Popen([sys.executable, "-m", "darts", *line], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_at_random_instants_ends_as_one_that_was_left_alone(kind: str, tmp_path: Path) -> None:
    words, rng = KINDS[kind], random.Random(kind)
    begun = time.monotonic()
    with started(words, tmp_path / "whole") as process:
        error = process.communicate()[1]
    assert process.returncode == 0, error.decode()
    lasts = time.monotonic() - begun
    folder, kills = tmp_path / "killed", 0
    while not (folder / "result.json").exists():
        with started(words, folder) as process:
            try:
                error = process.communicate(timeout=lasts * rng.random() ** 2 if kills < KILLS else 300)[1]
                assert process.returncode == 0, error.decode()
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
    assert kills >= 2, "it was hardly disturbed"
    mine, theirs = (json.loads((run / "result.json").read_text()) for run in (folder, tmp_path / "whole"))
    assert left_alone(mine) == left_alone(theirs)
    if words[0] == "baseline":
        return
    ours, others = (tensors(load_checkpoint(checkpoint_path(run))) for run in (folder, tmp_path / "whole"))
    assert ours.keys() == others.keys()
    assert [name for name, value in others.items() if not torch.equal(ours[name], value)] == []
    assert scalars(folder) == scalars(tmp_path / "whole")
