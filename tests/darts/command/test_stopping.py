"""Ctrl-C and SIGTERM as shells and clusters send them: the exit status says which, and nothing is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"
SMALL = ["dataset=fake", "network.channels=2", "network.cells=1", "engine.threads=1", "engine.checkpoint_minutes=0"]
COMMANDS: dict[str, tuple[list[str], str]] = {
    "search": (["method=plain", *SMALL, "budget.epochs=2000", "oracle=none"], "checkpoints/last.pt"),
    "retrain": ([f"cell={CELL}", *SMALL, "recipe.epochs=2000"], "checkpoints/last.pt"),
    "baseline": (
        ["dataset=fake", "evaluator=train", "evaluator.lengths=[1]", "evaluator.channels=2", "budget.evaluations=500",
         "seeds=0", "oracle=none"], "answers-0.jsonl",
    ),
}  # fmt: skip


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", COMMANDS)
def test_the_status_says_what_stopped_it(command: str, number: signal.Signals, status: int, tmp_path: Path) -> None:
    (words, file), folder = COMMANDS[command], tmp_path / "run"
    line = [sys.executable, "-m", "darts", command, *words, f"run_dir={folder}"]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: (folder / file).exists() and (folder / file).stat().st_size > 0)
        process.send_signal(number)
        assert process.stderr is not None
        error = process.stderr.read()
    assert process.returncode == status, error
    assert f"go on with: darts {command} resume={folder}" in error
    assert not (folder / "result.json").exists()
    assert not (folder / ".lock").exists()
