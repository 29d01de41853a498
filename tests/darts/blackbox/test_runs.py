"""From settings to a prepared run: the device that was chosen reaches every part, and one that is none is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from darts.blackbox.evaluators.base import Context
from darts.blackbox.evaluators.train import TrainEvaluator
from darts.blackbox.evaluators.zero_cost import ZeroCostEvaluator
from darts.blackbox.runs import Prepared, prepare
from darts.cli import main
from darts.command.config import compose_config

WORDS = ["dataset=fake", "oracle=none", "seeds=0-1", "baseline=random_search", "budget.evaluations=4"]
SCORE = ["evaluator=zero_cost", "evaluator.proxy=snip", "evaluator.cells=1", "evaluator.batch_size=8"]
TRAIN = ["evaluator=train", "evaluator.lengths=[1]", "evaluator.channels=2", "evaluator.batch_size=16"]


def prepared(*words: str) -> Prepared:
    return prepare(compose_config("baseline", [*WORDS, *words]))


def test_the_device_of_the_settings_reaches_evaluator_and_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chosen by name, once; `meta` stands for one that the settings could not name here."""
    names = []

    def chosen(name: str) -> torch.device:
        names.append(name)
        return torch.device("meta")

    monkeypatch.setattr("darts.blackbox.runs.choose_device", chosen)
    search = prepared(*SCORE, "objective=latency", "device=cuda:7").search
    assert isinstance(search.evaluator, ZeroCostEvaluator)
    assert search.evaluator.batch[0].device == torch.device("meta")
    assert search.objective is not None
    assert search.objective.device == torch.device("meta")
    search = prepared(*TRAIN).search
    assert isinstance(search.evaluator, TrainEvaluator)
    assert search.evaluator.site.device == torch.device("meta")
    search.evaluator.close()
    assert names == ["cuda:7", "auto"]


def test_evaluators_are_opened_with_the_plug_ins_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    contexts: list[Context] = []
    monkeypatch.setattr(ZeroCostEvaluator, "open", lambda evaluator, context: contexts.append(context))
    settings = compose_config("baseline", [*WORDS, *SCORE])
    prepare(settings | {"plugins": ["theirs", "others"]})
    assert contexts[0].plugins == ("theirs", "others")
    assert contexts[0].device == torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("words", [["evaluator=table"], SCORE, TRAIN], ids=lambda words: words[0])
def test_a_device_that_is_none_is_refused_before_anything_is_written(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["baseline", *WORDS, *words, "device=nonsense", "run_dir=run"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, "the one mistake there is"
    assert "device: 'nonsense' cannot be used here" in error
    assert "give auto, cpu, cuda, cuda:N or mps" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="auto is CUDA here")
@pytest.mark.parametrize("words", [SCORE, TRAIN], ids=lambda words: words[0])
def test_the_cpu_by_name_is_what_auto_takes_without_cuda(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found: list[dict[str, Any]] = []
    for device in ("auto", "cpu"):
        assert main(["baseline", *WORDS, *words, f"device={device}", f"run_dir={device}"]) == 0
        found.append(json.loads((tmp_path / device / "result.json").read_text()) | {"seconds": 0})
    assert found[0] == found[1]
    assert len(found[0]["runs"]) == 2
    assert all(run["trajectory"] for run in found[0]["runs"])
