from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from darts.run.checkpoint import (
    Unwritable,
    checkpoint_path,
    checkpoint_paths,
    going_on_from,
    keep_checkpoint,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from darts.run.errors import UserError


def content(fill: float = 0.5) -> dict[str, Any]:
    return {
        "space": {"num_nodes": 4, "operations": ["none", "skip_connect"]},
        "state": {
            "step": 7,
            "weights": torch.full((50, 20), fill),
            "double": torch.tensor([1 / 3], dtype=torch.float64),
        },
        "generator": torch.Generator().manual_seed(3).get_state(),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The checkpoint of a run folder, complete."""
    file = checkpoint_path(tmp_path / "run")
    file.parent.mkdir(parents=True)
    save_checkpoint(file, content())
    return file


def assert_is(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["space"] == expected["space"]
    assert found["state"]["step"] == expected["state"]["step"]
    for name in ("weights", "double"):
        assert torch.equal(found["state"][name], expected["state"][name])
        assert found["state"][name].dtype == expected["state"][name].dtype
    assert torch.equal(found["generator"], expected["generator"])


def test_what_was_saved_is_loaded(path: Path) -> None:
    assert path == path.parents[1] / "checkpoints" / "last.pt"
    assert_is(load_checkpoint(path), content())
    save_checkpoint(path, content(0.75))
    assert_is(load_checkpoint(path), content(0.75))
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


def test_a_missing_checkpoint_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^resume: .*run holds no checkpoint.*;"):
        newest_checkpoint(tmp_path / "run")


def test_no_flipped_bit_changes_what_is_loaded_in_silence(path: Path) -> None:
    """One bit of every byte: of records, names, sums, directory and padding."""
    whole, rng, refused = path.read_bytes(), random.Random(0), 0
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            assert_is(load_checkpoint(path), content())
        except UserError:
            refused += 1
    assert refused > 0.3 * len(whole), "most of the rest is padding"


def test_records_that_unpack_are_refused(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, record in records.items():
            archive.writestr(name, record)
    with pytest.raises(UserError, match=r"^resume: .*last\.pt cannot be read.*;"):
        load_checkpoint(path)


def names(run_dir: Path) -> list[str]:
    return sorted(file.name for file in (run_dir / "checkpoints").iterdir())


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A run with the checkpoints of steps 1 to 5, the last three kept."""
    (tmp_path / "checkpoints").mkdir()
    for step in range(1, 6):
        keep_checkpoint(tmp_path, {"step": step}, step, step - 1, checkpoints=3)
    return tmp_path


def test_so_many_checkpoints_are_kept(kept: Path) -> None:
    assert names(kept) == ["last-1.pt", "last-2.pt", "last.pt"]
    assert [load_checkpoint(path)["step"] for path in checkpoint_paths(kept)] == [5, 4, 3]


@pytest.mark.parametrize("damage", [b"", b"half", None])
def test_the_one_before_serves_where_the_last_is_damaged_or_missing(
    kept: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    last = kept / "checkpoints" / "last.pt"
    last.unlink() if damage is None else last.write_bytes(damage)
    found, content = newest_checkpoint(kept)
    assert (found.name, content["step"]) == ("last-1.pt", 4)
    assert caplog.messages == ([] if damage is None else [f"note: {last}: damaged; going by last-1.pt, the one before"])


def test_a_damaged_checkpoint_pushes_no_intact_one_out(kept: Path) -> None:
    folder = kept / "checkpoints"
    for name in ("last.pt", "last-1.pt"):
        (folder / name).write_bytes(b"half")
    found, content = newest_checkpoint(kept)
    assert names(kept) == ["last-1.pt", "last-2.pt", "last.pt"], "reading changes nothing"
    going_on_from(found)
    assert (found.name, content["step"]) == ("last-2.pt", 3)
    assert names(kept) == ["last-1.pt.damaged", "last-2.pt", "last.pt.damaged"]
    keep_checkpoint(kept, {"step": 4}, 4, 3, checkpoints=3)
    assert [load_checkpoint(path)["step"] for path in checkpoint_paths(kept)] == [4, 3]


def test_where_all_are_damaged_the_message_is_about_the_last(kept: Path) -> None:
    for path in checkpoint_paths(kept):
        path.write_bytes(b"half")
    with pytest.raises(UserError, match=r"^resume: .*last\.pt cannot be read.*;"):
        newest_checkpoint(kept)
    assert names(kept) == ["last-1.pt", "last-2.pt", "last.pt"]


def test_a_newer_schema_is_not_taken_for_damage(kept: Path) -> None:
    torch.save({"schema_version": 99}, kept / "checkpoints" / "last.pt")
    with pytest.raises(UserError, match=r"schema_version 99"):
        newest_checkpoint(kept)


@pytest.mark.parametrize("call", ["save", "fsync", "replace"])
def test_a_checkpoint_that_cannot_be_written_leaves_an_intact_one(
    kept: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch if call == "save" else os, call, fail)
    with pytest.raises(Unwritable, match=r"step 6 .*No space left on device.*step 5 is kept"):
        keep_checkpoint(kept, {"step": 6}, 6, 5, checkpoints=3)
    monkeypatch.undo()
    assert newest_checkpoint(kept)[1]["step"] == 5
    assert not list((kept / "checkpoints").glob(".*"))
    keep_checkpoint(kept, {"step": 6}, 6, 5, checkpoints=3)
    assert [load_checkpoint(path)["step"] for path in checkpoint_paths(kept)] == [6, 5, 4]


WRITER = """
import sys, torch
from pathlib import Path
from darts.run.checkpoint import keep_checkpoint
for step in range(1, 10**6):
    keep_checkpoint(Path(sys.argv[1]), {"step": step, "w": torch.full((20000,), float(step))}, step, step - 1, 2)
    if step == 3:
        print("going", flush=True)
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_two_intact_checkpoints(tmp_path: Path) -> None:
    rng = random.Random(0)
    for number in range(3):  # test_random_kills.py does so a dozen times, with whole runs
        run = tmp_path / str(number)
        (run / "checkpoints").mkdir(parents=True)
        words = [sys.executable, "-c", WRITER, str(run)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "going\n"
            time.sleep(0.3 * rng.random())
            process.kill()
        newest, before = (load_checkpoint(path) for path in checkpoint_paths(run))
        assert newest["step"] - before["step"] in (0, 1)
        for content in (newest, before):
            assert content["w"].eq(content["step"]).all()
        going_on_from(checkpoint_path(run))
        assert set(names(run)) == {"last.pt", "last-1.pt"}


def test_a_file_system_without_hard_links_serves_too(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", fail)
    keep_checkpoint(kept, {"step": 6}, 6, 5, checkpoints=3)
    assert [load_checkpoint(path)["step"] for path in checkpoint_paths(kept)] == [6, 5, 4]


def test_a_checkpoint_truncated_at_any_byte_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"^resume: .*last\.pt cannot be read.*;"):
            load_checkpoint(path)


def foreign_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


FOREIGN: list[Callable[[Path], Any]] = [
    lambda path: path.write_text("epoch,loss\n1,2.3\n"),
    lambda path: path.write_bytes(os.urandom(5000)),
    lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)),
    lambda path: path.write_bytes(pickle.dumps({"weights": [1, 2, 3]})),
    foreign_zip,
    lambda path: torch.save({"state_dict": {"weight": torch.zeros(3)}}, path),
    lambda path: torch.save(torch.zeros(3), path),
    lambda path: torch.save([1, 2], path),
    lambda path: torch.save(None, path),
]


@pytest.mark.parametrize("write", FOREIGN)
def test_a_foreign_file_is_refused(path: Path, write: Callable[[Path], Any]) -> None:
    write(path)
    with pytest.raises(UserError, match=r"^resume: .*last\.pt cannot be read.*;"):
        load_checkpoint(path)


def test_a_checkpoint_of_another_schema_is_refused(path: Path) -> None:
    torch.save({"schema_version": 99}, path)
    with pytest.raises(UserError, match=r"^resume: .*schema_version 99.*;"):
        load_checkpoint(path)


class Trap:
    """Unpickling it creates a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("writer", ["torch", "torch, old format", "pickle"])
def test_code_in_a_checkpoint_is_not_executed(path: Path, tmp_path: Path, writer: str) -> None:
    mark = tmp_path / "executed"
    spoiled = {"schema_version": 1, **content(), "extra": Trap(mark)}
    if writer == "pickle":
        path.write_bytes(pickle.dumps({"schema_version": 1, "extra": Trap(mark)}))
    else:
        torch.save(spoiled, path, _use_new_zipfile_serialization=writer == "torch")
    with pytest.raises(UserError, match=r"^resume: .*cannot be read"):
        load_checkpoint(path)
    assert not mark.exists()
    if writer == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert mark.exists(), "the trap works"


def half_a_file(saved: Any, file: Any) -> None:
    Path(file).write_bytes(b"half a checkp")
    raise OSError(28, "No space left on device")


def test_a_crash_while_writing_leaves_the_old_checkpoint(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "save", half_a_file)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, content(0.75))
    assert_is(load_checkpoint(path), content())
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_crash_at_the_end_of_writing_leaves_the_old_checkpoint(
    path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="Input/output error"):
        save_checkpoint(path, content(0.75))
    assert_is(load_checkpoint(path), content())
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


def test_the_new_file_is_on_disk_before_it_takes_the_old_one_s_place(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    for call in ("fsync", "replace"):
        real = getattr(os, call)
        monkeypatch.setattr(os, call, lambda *a, call=call, real=real: (calls.append(call), real(*a))[1])
    save_checkpoint(path, content(0.75))
    assert calls[:2] == ["fsync", "replace"]
