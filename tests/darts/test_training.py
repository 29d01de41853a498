"""Candidates trained for real: accuracy, repeatability, divergence, workers that die, runs that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from darts.baselines.random_search import RandomSearch
from darts.black_box import BlackBox
from darts.datasets.fake import Fake
from darts.evaluators.train import TrainEvaluator
from darts.task import Classification
from darts.training import Diverged, train_cell
from supernet.search_space import SearchSpace

SPACE = SearchSpace()
GOOD = SPACE.parse("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|")
DEAD = SPACE.genotype(0)
DATA = Fake(images=96, num_classes=3)


def task() -> Classification:
    return Classification(DATA, 0.5, 16, 0, torch.device("cpu"))


def settings(epochs: int = 6, lr: float = 0.05) -> dict[str, float | int]:
    return {"channels": 4, "cells": 1, "epochs": epochs, "lr": lr, "weight_decay": 5e-4, "seed": 0}


def test_training_learns_and_repeats() -> None:
    first = train_cell(GOOD, task(), **settings())  # type: ignore[arg-type]
    assert first == train_cell(GOOD, task(), **settings())  # type: ignore[arg-type]
    assert len(first) == 6
    longer = train_cell(GOOD, task(), **settings(25))  # type: ignore[arg-type]
    assert longer[-1] > 80 > longer[0]
    other = train_cell(GOOD, task(), **{**settings(), "seed": 1})  # type: ignore[arg-type]
    assert other != first


def test_a_loss_that_is_no_number_is_a_divergence() -> None:
    with pytest.raises(Diverged, match="at step"):
        train_cell(GOOD, task(), **settings(lr=1e30))  # type: ignore[arg-type]


@pytest.fixture
def evaluator() -> Iterator[TrainEvaluator]:
    made = TrainEvaluator([2, 6], channels=4, batch_size=16, lr=0.05)
    made.open(SPACE, None, DATA)
    yield made
    made.close()


def test_a_value_depends_on_the_cell_alone(evaluator: TrainEvaluator) -> None:
    """Not on what was trained before in the same worker, nor on the worker."""
    found = [evaluator.value(cell, epochs) for cell, epochs in ((GOOD, 6), (DEAD, 2), (GOOD, 6), (GOOD, 2))]
    assert found[0] == found[2] == train_cell(GOOD, task(), **settings())[-1]  # type: ignore[arg-type]
    assert found[3] == train_cell(GOOD, task(), **settings(2))[-1]  # type: ignore[arg-type]
    evaluator.close()
    assert evaluator.value(DEAD, 2) == found[1]
    assert evaluator.images(6) == 6 * 48
    assert evaluator.cost(6) == pytest.approx(6 * 48 / (200 * 25_000))


def test_a_worker_that_dies_is_replaced_and_its_candidate_tried_once_more(
    evaluator: TrainEvaluator, caplog: pytest.LogCaptureFixture
) -> None:
    expected = evaluator.value(GOOD, 2)
    assert evaluator.worker is not None
    os.kill(evaluator.worker[0].pid or 0, signal.SIGKILL)
    again = evaluator.value(GOOD, 2)
    assert again is not None
    assert "died (exit status -9)" in caplog.text
    assert evaluator.value(GOOD, 2) == expected


def test_a_candidate_that_always_diverges_fails_and_the_search_goes_on() -> None:
    evaluator = TrainEvaluator([1], channels=2, batch_size=16, lr=1e30)
    evaluator.open(SPACE, None, DATA)
    try:
        run = BlackBox(RandomSearch(), SPACE, evaluator, 3).run(0)
    finally:
        evaluator.close()
    assert (run.evaluations, run.failed, run.trajectory) == (3, 3, [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lengths": []}, "lengths: got"),
        ({"lengths": [4, 2]}, "ascending"),
        ({"lengths": [1], "lr": 0.0}, "lr, weight_decay: got 0.0"),
        ({"lengths": [1], "channels": 0}, "channels: got 0"),
    ],
)
def test_settings_that_cannot_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainEvaluator(**options)  # type: ignore[arg-type]


def test_a_killed_run_loses_no_answer(darts: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    words = ["baseline", "baseline=hyperband", "evaluator=train", "evaluator.lengths=[1,2]", "evaluator.channels=4"]
    words += ["evaluator.batch_size=16", "dataset=fake", "budget.evaluations=6", "seeds=0-1", "oracle=none"]
    whole = darts(*words, "run_dir=whole")
    assert whole.returncode == 0, whole.stderr
    command = [sys.executable, "-c", "from darts.cli import console; console()", *words, "run_dir=killed"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    answers = tmp_path / "killed/answers-1.jsonl"
    while not (answers.is_file() and answers.read_text().count("\n") >= 3):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = answers.read_text()
    answers.write_text(kept + '["|nor_')  # torn by the kill
    done = darts("baseline", "resume=killed")
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "killed"))
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
    assert first["evaluator"]["signal"] == "fake, 2 epochs"
    assert first["truth"] is None
    assert not list((tmp_path / "killed").glob("*.jsonl"))
