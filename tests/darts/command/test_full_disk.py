"""The disk is full, at every kind of write of every command: a message, nothing half written, and it can go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from darts.cli import main
from supernet.spaces.cells import CellSpace
from tests.quickly import slow_but

ROOT = Path(__file__).resolve().parents[3]
DATA = ["dataset=fake", "dataset.images=48", "dataset.image_size=4"]
CELL = "cell=|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"
TINY = ["network.channels=2", "network.cells=1", "data.batch_size=8"]
TABLE = ["oracle.path=TABLE", "run_dir=FOLDER"]
COMMANDS: dict[str, list[str]] = {
    "search": ["search", "method=plain", *DATA, *TINY, "budget.epochs=2", "oracle=none", "run_dir=FOLDER"],
    "search with finalists": [
        "search", *DATA, *TINY, "data.resolution=null", "budget.epochs=null", "budget.steps=12",
        "phases.finalists.channels=2", "phases.finalists.cells=1", "phases.finalists.rungs=[2]",
        "phases.finalists.candidates=2", "phases.finalists.together=1", "oracle=none", "run_dir=FOLDER",
    ],
    "rank": ["rank", "run=BASE/search", "cells=4", *TABLE],
    "retrain": ["retrain", CELL, *DATA, *TINY, "recipe.epochs=2", "data.held_out=0.2", "run_dir=FOLDER"],
    "baseline that trains": [
        "baseline", "baseline=regularized_evolution", "baseline.population=2", "baseline.sample=2", "evaluator=train",
        "evaluator.lengths=[1]", "evaluator.batch_size=16", "evaluator.channels=2", "evaluator.inherit=true",
        "evaluator.executor=serial", "budget.evaluations=3", "seeds=[0]", "oracle=none", *DATA, "run_dir=FOLDER",
    ],
    "baseline on a table": ["baseline", "objective=flops", "baseline=pareto_evolution",
                            "budget.evaluations=8", "seeds=2", *TABLE],
    "study": ["compare", "--config-dir", "OWN", "experiment=mine", "oracle=none", "run_dir=FOLDER"],
    "compare": ["compare", "BASE/b1", "BASE/b2", *TABLE],
    "tune": ["tune", CELL, *DATA, "trials=1", "recipe.epochs=2", "recipe.warm_up=0", "parameters.network=null",
             *TINY, "data.held_out=0.2", "run_dir=FOLDER"],
    "onnx": ["export", "run=BASE/model1", "quantize=true", "output=FOLDER/m.onnx", "overwrite=true"],
    "safetensors": ["export", "run=BASE/model1", "format=safetensors", "output=FOLDER/m.safetensors", "overwrite=true"],
    "torch program": ["export", "run=BASE/model1", "format=torch_export", "output=FOLDER/m.pt2", "overwrite=true"],
    "latency": ["latency", "cells=8", "left_out=4", "objective=column", "objective.path=TABLE",
                "objective.column=phone_ms", "run_dir=FOLDER"],
    "profile": ["profile", "model=BASE/model1", "batches=[1]", "run_dir=FOLDER"],
    "ensemble": ["ensemble", "BASE/model1", "BASE/model2", "run_dir=FOLDER"],
    "data": ["data", *DATA, "run_dir=FOLDER"],
}  # fmt: skip
STUDY = """# @package _global_
common: [dataset=fake, dataset.images=96, evaluator=zero_cost, budget.evaluations=3, 'seeds=[0]']
study:
  random: [baseline=random_search]
  evolution: [baseline=regularized_evolution, baseline.population=2, baseline.sample=2]
"""
QUICK = {"search": 8, "retrain": 13}  # and which of their files


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table and a study."""
    folder = tmp_path_factory.mktemp("base")
    lines = [f"{cell},{place / 200},{place / 300},{1 + place % 17}" for place, cell in enumerate(CellSpace())]
    text = "\n".join(["cell,cifar10_valid_200,cifar10_test_200,phone_ms", *lines, ""])
    (folder / "table.csv").write_text(text)
    (folder / "own/experiment").mkdir(parents=True)
    (folder / "own/experiment/mine.yaml").write_text(STUDY)
    return folder


@pytest.fixture(scope="module")
def runs(base: Path) -> None:
    """A search, two baselines and two trained networks."""
    words = [*COMMANDS["search"][1:-1], f"run_dir={base / 'search'}"]
    assert main(["search", *words]) == 0
    for name, seed in (("b1", 0), ("b2", 2)):
        words = ["baseline=random_search", "budget.evaluations=5", f"seeds=[{seed}]", f"label={name}"]
        assert main(["baseline", *words, f"oracle.path={base / 'table.csv'}", f"run_dir={base / name}"]) == 0
        words = [CELL, *DATA, *TINY, "recipe.epochs=2", f"seed={seed}"]
        assert main(["retrain", *words, f"run_dir={base / name.replace('b', 'model')}"]) == 0


def tried(name: str, base: Path, tmp_path: Path, first: int, every: int) -> list[dict[str, Any]]:
    """Reports of a command on a disk that was full from one file or another on."""
    places = {"TABLE": str(base / "table.csv"), "BASE": str(base), "OWN": str(base / "own")}
    words = COMMANDS[name]
    for placeholder, place in places.items():
        words = [word.replace(placeholder, place) for word in words]
    line = [sys.executable, str(ROOT / "tests/full_disk.py"), str(tmp_path), str(first), str(every), *words]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(reports: list[dict[str, Any]]) -> None:
    assert any(report["status"] == 2 for report in reports)
    for report in reports:
        messages = report["messages"]
        assert "Traceback" not in messages, report
        if report["status"] != 0:  # 0: it had written all
            assert report["status"] == 2, report
            assert messages.strip().splitlines()[-1].startswith("darts: "), report
        assert report["halves"] == [], report
        assert report["again"][0] == 0, report
        assert all(report["same"].values()), report


@pytest.mark.parametrize("name", slow_but(["search"], QUICK))
def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(name: str, base: Path, tmp_path: Path) -> None:
    check(tried(name, base, tmp_path, 5, QUICK[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_at_every_single_file(name: str, base: Path, runs: None, tmp_path: Path) -> None:
    check(tried(name, base, tmp_path, 1, 1))
