"""Runs in several processes: what the first one writes, a worker that is killed, and another number of processes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from darts.run.checkpoint import checkpoint_path, load_checkpoint
from tests import several
from tests.compared import scalars

DATA = ["dataset=fake", "dataset.images=96"]
SMALL = ["network.channels=2", "network.cells=1", "data.batch_size=8", "engine.checkpoint_minutes=0"]
CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"
STEPS = ["budget.epochs=null", "budget.steps=32", "phases.bilevel.share=1", "phases.finalists.share=1"]
SEARCH = ["search", "method=finalists", *DATA, *SMALL, *STEPS, "oracle=none"]
RETRAIN = ["retrain", f"cell={CELL}", *DATA, *SMALL, "recipe.epochs=6", "recipe.mixup=0.2", "data.held_out=0.2"]
KILLS = 4


def torchrun(words: list[str], restarts: int = 0) -> subprocess.Popen[str]:
    return several.torchrun("-m", "darts", *words, restarts=restarts)


def ended(process: subprocess.Popen[str], status: int | None = 0) -> str:
    """What it said on standard error."""
    error = process.communicate(timeout=240)[1]
    assert status is None or process.returncode == status, error
    return error


def workers(process: subprocess.Popen[str]) -> list[int]:
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in found if b"darts" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def content(folder: Path) -> str:
    result = json.loads((folder / "result.json").read_text())
    return json.dumps({key: value for key, value in result.items() if key not in ("seconds", "timing", "oracle")})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = load_checkpoint(checkpoint_path(folder))["state"]
    return {**state["network"], **state.get("params", {})}


def same(one: Path, other: Path) -> None:
    assert content(one) == content(other)
    found, expected = weights(one), weights(other)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert scalars(one) == scalars(other)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several") / "whole"
    ended(torchrun([*SEARCH, f"run_dir={folder}"]))
    return folder


def test_the_first_process_writes_and_all_have_the_same(whole: Path) -> None:
    result = json.loads((whole / "result.json").read_text())
    epochs = json.loads((whole / "ranks.json").read_text())["epochs"]
    assert [one["epoch"] for one in epochs] == list(range(1, 1 + len(result["history"])))
    assert all(one["processes"] == one["groups"] == 2 for one in epochs)
    assert all(len(one["fingerprints"]) == 2 and len(set(one["fingerprints"])) == 1 for one in epochs)
    assert len({one["fingerprints"][0] for one in epochs}) > 1
    assert "groups: 2" in (whole / "config.yaml").read_text()
    assert result["versions"]["processes"] == 2
    assert {len(values) for tag, values in scalars(whole).items() if tag == "train/loss"} <= {32, len(epochs)}


@pytest.mark.slow
def test_a_killed_worker_ends_the_run_within_seconds_and_it_goes_on_to_the_same_bits(
    whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = torchrun([*SEARCH, f"run_dir={folder}"])
    while not checkpoint_path(folder, 1).is_file():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    os.kill(workers(process)[-1], signal.SIGKILL)
    begun = time.monotonic()
    ended(process, None)
    assert process.returncode != 0
    assert time.monotonic() - begun < 20
    assert not (folder / "result.json").exists()
    assert "resuming at step" in ended(torchrun(["search", f"resume={folder}"]))
    same(folder, whole)


SPOILER = """
import torch
from darts.search.monitors.base import Monitor


class Spoiler(Monitor):
    def on_step(self, search, numbers):
        if search.state.step == 3:
            with torch.no_grad():
                next(search.state.network.parameters()).mul_(1 + 2**-20)
"""


@pytest.mark.slow
def test_processes_that_differ_end_the_run_and_are_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Monitors, which should change nothing, are in the first process alone: one moves a weight by some bits."""
    (tmp_path / "spoiling.py").write_text(SPOILER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    words = [*SEARCH, "plugins=[spoiling]", "+monitor.spoil._target_=spoiling.Spoiler", f"run_dir={tmp_path / 'run'}"]
    process = torchrun(words)
    assert "the processes [1] have other weights, parameters or generators than the first" in ended(process, None)
    assert process.returncode != 0
    epochs = json.loads((tmp_path / "run/ranks.json").read_text())["epochs"]
    assert [len(set(one["fingerprints"])) for one in epochs] == [2]
    assert not (tmp_path / "run/result.json").exists()


@pytest.mark.slow
def test_mistakes_are_told_once(tmp_path: Path) -> None:
    error = ended(torchrun(["baseline"]), None)
    assert error.count("darts baseline runs in one process") == 1
    error = ended(torchrun([*SEARCH, "weight_step.lr=-1", f"run_dir={tmp_path / 'run'}"]), None)
    assert error.count("weight_step.lr, lr_min: got -1") == 1
    assert not (tmp_path / "run").exists()
    error = ended(torchrun(["search", "-m", "seed=0,1"]), None)
    assert error.count("-m: torchrun shares one run among processes") == 1


@pytest.mark.slow
@pytest.mark.parametrize("words", [SEARCH, RETRAIN], ids=["search", "retrain"])
def test_a_run_whose_workers_are_killed_ends_as_one_that_was_left_alone(words: list[str], tmp_path: Path) -> None:
    """torchrun starts all processes again, and the run goes on."""
    ended(torchrun([*words, f"run_dir={tmp_path / 'whole'}"]))
    folder, kills, rng = tmp_path / "killed", 0, random.Random(0)
    process = torchrun([*words, f"run_dir={folder}"], restarts=KILLS)
    last, file = 0, checkpoint_path(folder)
    while process.poll() is None and kills < KILLS:
        time.sleep(0.01)
        if file.is_file() and file.stat().st_mtime_ns != last:  # it is under way
            time.sleep(rng.uniform(0, 0.5))
            for worker in rng.sample(found := workers(process), min(1, len(found))):
                os.kill(worker, signal.SIGKILL)
                kills += 1
            time.sleep(2)  # until the others are gone too
            last = file.stat().st_mtime_ns
    ended(process)
    assert kills > 1
    same(folder, tmp_path / "whole")


@pytest.mark.slow
def test_another_number_of_processes_goes_on_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = torchrun([*SEARCH, f"run_dir={folder}"])
    while not checkpoint_path(folder, 1).is_file():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    ended(process, None)
    assert not (folder / "result.json").exists()
    with subprocess.Popen(
        [sys.executable, "-m", "darts", "search", f"resume={folder}"], stderr=subprocess.PIPE, text=True
    ) as alone:
        assert "processes: 2 -> 1" in ended(alone)


@pytest.mark.slow
def test_the_largest_batch_is_the_same_for_all(tmp_path: Path) -> None:
    """400 images, 200 for the weights: ten steps an epoch leave 20 an epoch, 10 a process, of which 8 are tried."""
    words = [word for word in SEARCH if not word.startswith(("data.batch_size", "dataset.images"))]
    words += ["dataset.images=400", "data.batch_size=auto", f"run_dir={tmp_path / 'run'}"]
    said = ended(torchrun(words))
    assert said.count("data.batch_size: 16") == 1
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["data"]["batch_size"] == 16
