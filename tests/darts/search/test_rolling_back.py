"""Numbers that stop being finite: back to the last checkpoint, with smaller learning rates, so many times."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from darts.cli import main
from darts.run.checkpoint import checkpoint_path, load_checkpoint
from tests.compared import scalars

SEARCH = [
    "search", "dataset=fake", "method=darts_v1", "network.channels=2", "network.cells=1", "data.batch_size=16",
    "budget.epochs=null", "budget.steps=20", "engine.checkpoint_minutes=0", "oracle=none", "plugins=[poison]",
    "monitor=[progress,tensorboard,poison]",
]  # fmt: skip
POISON = """
from darts.search.monitors.base import Monitor


class Poison(Monitor):
    def __init__(self, steps, always):
        self.steps, self.always = list(steps), always

    def on_step(self, search, numbers):
        state = search.state
        with open(search.run_dir / "rates.txt", "a") as file:
            file.write(repr([state.step, numbers["lr"], state.arch_optimizer.param_groups[0]["lr"]]) + "\\n")
        if state.step in self.steps and (not self.always or state.rate == 1):
            if not self.always:
                self.steps.remove(state.step)
            next(state.network.parameters()).data.fill_(float("nan"))
"""
NODE = """# @package monitor.poison
_target_: poison.Poison
steps: []
always: false
"""


@pytest.fixture(autouse=True)
def poison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plug-in that spoils a weight after a step: once, or as long as no rate was lowered."""
    package = tmp_path / "plugins" / "poison"
    (package / "configs" / "monitor").mkdir(parents=True)
    (package / "configs" / "monitor" / "poison.yaml").write_text(NODE)
    (package / "__init__.py").write_text(POISON)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "poison", raising=False)


def result_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return {key: value for key, value in content.items() if key not in ("seconds", "timing")}


def rates_of(folder: Path) -> list[list[float]]:
    return [json.loads(line) for line in (folder / "rates.txt").read_text().splitlines()]


def test_with_the_same_rates_a_passing_fault_leaves_no_trace_but_its_record(tmp_path: Path) -> None:
    """In both kinds of place: between two checkpoints of an epoch, and after the last step of one."""
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert main([*SEARCH, f"run_dir={whole}"]) == 0
    more = ["monitor.poison.steps=[5,16]", "engine.retries=2", "engine.retry_rate=1"]
    assert main([*SEARCH, *more, f"run_dir={folder}"]) == 0
    mine, theirs = result_of(folder), result_of(whole)
    back = mine.pop("rolled_back")
    assert [(one["step"], one["rate"]) for one in back] == [(4, 1), (15, 1)]
    assert back[0]["why"].startswith("step 5 of 20 (bilevel): a network weight")
    assert theirs.pop("rolled_back") == []
    assert mine == theirs
    assert scalars(folder) == scalars(whole), "nothing twice in TensorBoard"


def test_a_diverged_run_says_how_to_go_on_and_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    assert main([*SEARCH, "monitor.poison.steps=[9]", "monitor.poison.always=true", f"run_dir={folder}"]) == 2
    error = capsys.readouterr().err
    assert "step 9 of 20" in error or "step 10 of 20" in error
    assert f"darts search resume={folder} engine.retries=1" in error
    assert not (folder / "result.json").exists()
    before = len(rates_of(folder))
    assert main(["search", f"resume={folder}", "plugins=[poison]", "engine.retries=1"]) == 0
    assert "back to step 8, learning rates times 0.5 (1 of 1 retries)" in caplog.text
    found = rates_of(folder)
    assert yaml.safe_load((folder / "config.yaml").read_text())["engine"]["retries"] == 1
    (one,) = result_of(folder)["rolled_back"]
    assert (one["step"], one["rate"]) == (8, 0.5)
    old = {step: (weights, architecture) for step, weights, architecture in found[:before]}
    new = {step: (weights, architecture) for step, weights, architecture in found[before + 1 :]}
    assert new[9] == pytest.approx([rate / 2 for rate in old[9]])
    assert sorted(new) == list(range(9, 21))
    assert load_checkpoint(checkpoint_path(folder))["state"]["rate"] == 0.5


def test_more_faults_than_retries_end_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["monitor.poison.steps=[5,9,12]", "engine.retries=2", f"run_dir={tmp_path / 'run'}"]
    assert main([*SEARCH, *more]) == 2
    assert "engine.retries=3" in capsys.readouterr().err
    content = load_checkpoint(checkpoint_path(tmp_path / "run"))["state"]
    assert [one["rate"] for one in content["rolled_back"]] == [0.5, 0.25]
    assert content["rate"] == 0.25


@pytest.mark.parametrize(
    "word", ["engine.retries=-1", "engine.retries=1.5", "engine.retry_rate=0", "engine.retry_rate=2"]
)
def test_wrong_values_are_refused(word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SEARCH, word, f"run_dir={tmp_path / 'run'}"]) == 2
    assert capsys.readouterr().err.startswith(f"darts: engine.{word.partition('=')[0].partition('.')[2]}")
