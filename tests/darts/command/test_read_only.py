"""A run folder that cannot be written any more: before a run goes on, in the middle of one, and after its end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from darts.cli import main
from tests.compared import left_alone

WORDS = [
    "search", "method=plain", "dataset=fake", "dataset.images=48", "dataset.image_size=4", "network.channels=2",
    "network.cells=1", "data.batch_size=8", "engine.checkpoint_minutes=0", "oracle=none",
]  # fmt: skip


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """By rights; where this is root, who has all of them, by a mount."""
    if os.geteuid():
        inside = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        for path in inside:
            path.chmod(0o555)
        try:
            yield
        finally:
            for path in inside:
                path.chmod(0o755)
        return
    if shutil.which("mount") is None or _mount("--bind", str(folder), str(folder)):
        pytest.skip("root may write everywhere, and cannot mount here")
    try:
        while _mount("-o", "remount,ro,bind", str(folder)):  # it is busy as long as a file there is being written
            time.sleep(0.01)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*words: str) -> int:
    return subprocess.run(["mount", *words], check=False, capture_output=True).returncode


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "whole"
    assert main([*WORDS, "budget.epochs=2", f"run_dir={folder}"]) == 0
    return folder


def test_a_finished_run_is_told_of_all_the_same(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with read_only(whole):
        assert main(["search", f"resume={whole}"]) == 0
    assert json.loads((whole / "result.json").read_text())["cell"] in capsys.readouterr().out


@pytest.mark.parametrize("command", ["search", "compare"])
def test_nothing_is_begun_there(command: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / "result.json").unlink()
    words = {"search": ["search", f"resume={folder}"], "compare": ["compare", str(whole), f"run_dir={folder / 'c'}"]}
    with read_only(folder):
        assert main([*words[command], *(["oracle=none"] if command == "compare" else [])]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(f"darts: {'resume' if command == 'search' else 'run_dir'}: cannot write to {folder}")
    assert "ead-only" in message or "denied" in message


@pytest.mark.slow
def test_in_the_middle_of_a_run_it_ends_with_a_message_and_goes_on_later(tmp_path: Path) -> None:
    folder, other, steps = tmp_path / "run", tmp_path / "other", ["budget.epochs=100"]
    line = [sys.executable, "-m", "darts", *WORDS, *steps, f"run_dir={folder}"]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while not (folder / "checkpoints" / "last-1.pt").exists():
            time.sleep(0.05)
        with read_only(folder):
            error = process.communicate(timeout=100)[1]
    assert process.returncode == 2, error
    assert "Traceback" not in error
    assert "darts: run_dir: cannot write the checkpoint of step" in error
    assert main(["search", f"resume={folder}"]) == 0
    assert main([*WORDS, *steps, f"run_dir={other}"]) == 0
    mine, theirs = (json.loads((run / "result.json").read_text()) for run in (folder, other))
    assert left_alone(mine) == left_alone(theirs)
