"""Ctrl-C and SIGTERM as shells and clusters send them: the exit status says which, and nothing is lost."""

from __future__ import annotations

import os
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


@pytest.mark.parametrize(
    ("command", "number", "status"),
    [
        ("search", signal.SIGINT, 130),
        pytest.param("search", signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param("retrain", signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param("retrain", signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param("baseline", signal.SIGINT, 130, marks=pytest.mark.slow),
        ("baseline", signal.SIGTERM, 143),
    ],
)
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


STUDY = """# @package _global_
# darts compare: a search that takes long
common: [dataset=fake]
study: {gradient: [search, method=plain, network.channels=2, engine.checkpoint_minutes=0, budget.epochs=2000]}
"""


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow),
    ],
)
def test_the_search_of_a_study_ends_with_it(number: signal.Signals, status: int, tmp_path: Path) -> None:
    (tmp_path / "own/experiment").mkdir(parents=True)
    (tmp_path / "own/experiment/long.yaml").write_text(STUDY)
    run = tmp_path / "study/runs/gradient-search-0"
    words = ["compare", "--config-dir", str(tmp_path / "own"), "experiment=long", f"run_dir={tmp_path / 'study'}"]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen([sys.executable, "-m", "darts", *words], stdout=said, stderr=said)
    wait_for(lambda: (run / "checkpoints/last-1.pt").exists())
    searching = int((run / ".lock").read_text().split()[1])
    assert searching != process.pid
    process.send_signal(number)
    assert process.wait(60) == status, (tmp_path / "said").read_text()
    wait_for(lambda: not is_running(searching))
    assert ("go on with" in (tmp_path / "said").read_text()) == (number != signal.SIGKILL)
    assert not (run / "result.json").exists()


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"  # ended, not buried
    except (ProcessLookupError, FileNotFoundError):
        return False


SLEEPER = """
import time
from pathlib import Path
from darts.search.monitors.base import Monitor


class Sleeper(Monitor):
    def on_step(self, search, numbers):
        if search.state.step == 12 and not Path("slept").exists():
            Path("slept").touch()
            time.sleep(100)
"""


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once_and_loses_nothing_older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a step that would last for long."""
    (tmp_path / "sleeping.py").write_text(SLEEPER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.chdir(tmp_path)
    own, folder = ["plugins=[sleeping]", "+monitor.sleeper._target_=sleeping.Sleeper"], tmp_path / "run"
    darts = [sys.executable, "-m", "darts", "search"]
    line = [*darts, "method=plain", *SMALL, "budget.epochs=10", "oracle=none", *own, f"run_dir={folder}"]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        wait_for((tmp_path / "slept").exists)
        checkpoint = (folder / "checkpoints/last.pt").read_bytes()
        process.send_signal(signal.SIGINT)
        time.sleep(1)  # it sleeps on
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        assert process.stderr is not None
        error = process.stderr.read()
        assert process.wait() == 130, error
    assert time.monotonic() - begun < 20
    assert "stopping after this step; once more stops at once" in error
    assert "Traceback" not in error
    assert (folder / "checkpoints/last.pt").read_bytes() == checkpoint
    subprocess.run([*darts, f"resume={folder}", own[0]], check=True, capture_output=True)
    assert (folder / "result.json").exists()
