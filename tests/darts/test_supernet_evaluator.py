"""Shared weights: values beside networks that inherit them, cost, the way from a search to a cell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from darts.cli import main
from darts.datasets.fake import Fake
from darts.errors import UserError
from darts.evaluators.supernet import SupernetEvaluator
from darts.task import Classification
from supernet.search_space import SearchSpace

SPACE = SearchSpace()
WORDS = ["search", "dataset=fake", "network.channels=4", "data.batch_size=16", "budget.epochs=3", "oracle=none"]
WORDS += ["relaxation=single_path", "phases.warm_up.share=1", "phases.bilevel.share=0", "monitor=[]", "device=cpu"]
WORDS += ["data.split=0.75", "seed=3"]


@pytest.fixture(scope="module", params=["batch", "running"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("search") / "run"
    assert main([*WORDS, f"network.batch_norm={request.param}", f"run_dir={folder}"]) == 0
    return folder


def opened(run: Path) -> SupernetEvaluator:
    evaluator = SupernetEvaluator(str(run))
    evaluator.open(SPACE, None, Fake())
    return evaluator


def test_a_value_is_the_accuracy_of_the_network_that_inherits_the_weights(run: Path) -> None:
    """With the statistics of each batch; nothing in the supernet changes."""
    evaluator = opened(run)
    network = evaluator.compute.network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    values = []
    for index in (15_624, 12_345, 7_000, 0):
        cell = SPACE.genotype(index)
        values.append(evaluator.value(cell, 1))
        alone = network.inherit(cell).train()
        correct = images = 0
        with torch.no_grad():
            for images_BCHW, labels_B in evaluator.task.evaluation_batches():
                correct += int((alone(images_BCHW).argmax(1) == labels_B).sum())
                images += len(labels_B)
        assert values[-1] == 100 * correct / images
    assert len(set(values)) > 1
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert all(name.endswith("num_batches_tracked") for name in changed), "a counter that nothing reads"


def test_the_images_that_trained_the_weights_are_charged(run: Path) -> None:
    evaluator = opened(run)
    content = json.loads((run / "result.json").read_text())
    assert evaluator.upfront == content["images"] > 0
    assert evaluator.images(1) == 64


def test_cells_are_judged_by_images_that_the_run_kept_apart(run: Path) -> None:
    kept = Classification(Fake(), 0.75, 16, 3, torch.device("cpu")).valid
    assert torch.equal(opened(run).task.valid.images_NCHW.cpu(), kept.images_NCHW)


def test_from_shared_weights_to_a_cell(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["search", f"resume={run}"]) == 0
    assert "no phase trained the architecture, so this cell is arbitrary" in capsys.readouterr().out
    words = ["baseline", "evaluator=supernet", f"evaluator.run={run}", "baseline.population=5", "baseline.sample=2"]
    assert main([*words, "budget.evaluations=20", "seeds=0-1", "run_dir=found", "oracle=none"]) == 0
    content = json.loads((tmp_path / "found/result.json").read_text())
    first = content["runs"][0]
    assert first["images"] == opened(run).upfront + 20 * 64
    assert first["cost"] == pytest.approx(first["images"] / 5e6)
    assert content["evaluator"]["signal"].startswith("shared weights after 36 steps")
    cell = first["trajectory"][-1]
    assert opened(run).value(SPACE.parse(cell["cell"]), 1) == cell["signal"]


def test_runs_that_do_not_fit_are_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"run: .* is of another space"):
        SupernetEvaluator(str(run)).open(SearchSpace(3), None, Fake())
    with pytest.raises(UserError, match=r"evaluator\.run: .* is no run folder"):
        opened(tmp_path)
    (tmp_path / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    with pytest.raises(UserError, match=r"evaluator\.run: .* holds no checkpoint"):
        opened(tmp_path)
    assert main(["baseline", "evaluator=supernet", "oracle=none", f"run_dir={tmp_path / 'new'}"]) == 2
    assert "evaluator.run" in capsys.readouterr().err
