"""Locks of run folders, between real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from darts.run.errors import UserError
from darts.run.folder import begin, check_goes_on
from darts.run.lock import NAME, lock, release

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks on Windows")
HOLD = "import sys; from pathlib import Path; from darts.run.lock import lock; lock(Path(sys.argv[1]), 'run_dir'); "
READY = "print('held', flush=True); "


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    yield
    release()


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the lock of a folder until its input ends."""
    words = [sys.executable, "-c", HOLD + READY + "sys.stdin.read()", str(folder)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("end", ["input", "kill"])
def test_a_folder_is_in_use_until_its_process_ends_however_that_ends(tmp_path: Path, end: str) -> None:
    with holder(tmp_path) as process:
        with pytest.raises(UserError, match=rf"^resume: .* is in use by process {process.pid} on .*; wait"):
            check_goes_on(tmp_path)
        if end == "kill":
            process.send_signal(signal.SIGKILL)
        else:
            process.communicate("")
        process.wait()
    check_goes_on(tmp_path)


def test_a_refused_process_takes_nothing_from_the_one_that_holds_it(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        for _ in range(2):
            with pytest.raises(UserError, match="in use"):
                lock(tmp_path, "run_dir")
        process.communicate("")


def test_a_forked_worker_that_lives_on_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A killed run may leave workers behind for a while."""
    words = (
        HOLD
        + "import os, time; child = os.fork(); child or time.sleep(60); print(child); "
        + READY
        + "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", words, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert process.stdout.readline() == "held\n"
        try:
            with pytest.raises(UserError, match="in use"):
                lock(tmp_path, "run_dir")
            process.kill()
            process.wait()
            os.kill(child, 0)  # it is there
            lock(tmp_path, "run_dir")
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_link_in_a_stranger_s_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "mine.txt").write_text("precious")
    (tmp_path / "run" / NAME).symlink_to(tmp_path / "mine.txt")
    with pytest.raises(UserError, match="is a link to"):
        check_goes_on(tmp_path / "run")
    with pytest.raises(OSError, match="symbolic links"):
        lock(tmp_path / "run", "resume")
    assert (tmp_path / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize("name", ["checkpoints", "runs.jsonl", "tensorboard"])
def test_a_run_does_not_go_on_through_a_link_that_leads_out_of_its_folder(name: str, tmp_path: Path) -> None:
    """Whoever made it may have meant something else of ours to be written to; links within it are its own affair."""
    folder, other = tmp_path / "run", tmp_path / "precious"
    folder.mkdir()
    other.mkdir()
    (folder / "inside").mkdir()
    (folder / "also").symlink_to(folder / "inside")
    check_goes_on(folder)
    release(folder)
    (folder / name).symlink_to(other)
    with pytest.raises(UserError, match=f"{name} is a link to {other}, and a run writes inside its own folder"):
        check_goes_on(folder)
    assert not list(other.iterdir())


def test_a_copy_of_a_folder_is_free(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with holder(tmp_path / "run") as process:
        shutil.copytree(tmp_path / "run", tmp_path / "copy")
        lock(tmp_path / "copy", "resume")
        process.communicate("")


def test_the_same_process_is_refused_until_it_has_released(tmp_path: Path) -> None:
    lock(tmp_path, "resume")
    with pytest.raises(UserError, match="in use by this process"):
        lock(tmp_path / ".", "resume")
    release()
    assert not (tmp_path / NAME).exists()
    lock(tmp_path, "resume")


def test_a_run_that_cannot_be_built_leaves_no_folder(tmp_path: Path) -> None:
    def build() -> None:
        raise UserError("seed: no")

    with pytest.raises(UserError, match="seed: no"):
        begin(tmp_path / "new" / "run", "search", {}, build)
    assert not (tmp_path / "new").exists()


def test_of_two_that_begin_at_once_one_is_refused(tmp_path: Path) -> None:
    """Both have seen an empty folder."""
    folder = tmp_path / "run"
    folder.mkdir()
    with holder(folder) as process:
        with pytest.raises(UserError, match=r"^run_dir: .* is in use by process"):
            begin(folder, "search", {"seed": 1}, lambda: None)
        process.communicate("")
    assert not (folder / "config.yaml").exists()


def test_a_shared_study_is_locked_only_while_it_is_made(tmp_path: Path) -> None:
    begin(tmp_path / "study", "tune", {}, lambda: None, shared=True)
    with holder(tmp_path / "study") as process:
        check_goes_on(tmp_path / "study", shared=True)
        process.communicate("")


def darts(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "darts", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("search", ["dataset=fake", "method=plain", "network.channels=2", "network.cells=1", "budget.epochs=1"]),
        pytest.param(
            "retrain",
            ["cell=|nor_conv_1x1~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|", "dataset=fake"],
            marks=pytest.mark.slow,
        ),
        pytest.param("baseline", ["evaluator=zero_cost", "budget.evaluations=2"], marks=pytest.mark.slow),
    ],
)
def test_a_command_on_a_folder_in_use_ends_with_a_message_and_leaves_it(
    tmp_path: Path, command: str, words: list[str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with holder(folder) as process:
        before = sorted(folder.iterdir())
        done = darts(command, *words, f"run_dir={folder}")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"darts: run_dir: {folder} is in use by process {process.pid} on ")
        assert sorted(folder.iterdir()) == before
        process.communicate("")
