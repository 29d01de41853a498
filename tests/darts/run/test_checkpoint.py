from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from darts.run.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
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
        load_checkpoint(checkpoint_path(tmp_path / "run"))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.99])
def test_a_truncated_checkpoint_is_refused(path: Path, share: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
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
