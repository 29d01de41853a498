"""Checkpoints: written atomically, several generations of them, checked and read without executing anything they hold.

The file is torch's: a zip archive, whose records carry CRC-32 sums. torch does not look at them, so they are checked
here: one flipped bit would otherwise lead to another result in silence.
"""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from darts.run import ranks
from darts.run.errors import UserError, reason
from darts.run.files import remove_begun, save_tensors
from darts.run.schema import NO_UPGRADES, VERSION, Upgrades, upgraded
from darts.run.settings import differing


class Unwritable(UserError):
    """A checkpoint could not be written; the one before is kept."""


class Damaged(UserError):
    """A file that is no intact checkpoint."""


def checkpoint_path(run_dir: Path, age: int = 0) -> Path:
    """Where a run keeps its last checkpoint, or so many before that."""
    return run_dir / "checkpoints" / (f"last-{age}.pt" if age else "last.pt")


def checkpoint_paths(run_dir: Path) -> list[Path]:
    """The checkpoints that a run has, newest first."""
    older = sorted((run_dir / "checkpoints").glob("last-*.pt"), key=lambda path: (len(path.name), path.name))
    return [path for path in (checkpoint_path(run_dir), *older) if path.is_file()]


def check_kept(checkpoints: int) -> None:
    """Refuse a number of checkpoints to keep that is none.

    Raises:
        ValueError: it is.
    """
    if isinstance(checkpoints, bool) or not isinstance(checkpoints, int) or checkpoints < 1:
        raise ValueError(f"checkpoints: got {checkpoints!r}; give 1 (the last one alone) or more")


def check_retries(retries: int, retry_rate: float) -> None:
    """Refuse a number of times to go back to the last checkpoint, or a factor of the learning rates, out of range.

    Raises:
        ValueError: it is.
    """
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise ValueError(f"retries: got {retries!r}; give 0 (none) or more")
    if not 0 < retry_rate <= 1:
        raise ValueError(f"retry_rate: got {retry_rate!r}; give a factor above 0, at most 1")


def say_back(rolled_back: Sequence[Mapping[str, Any]], retries: int) -> None:
    """A line in the log about the last of the times that a run went back to a checkpoint: why, step and rate."""
    logging.getLogger(__name__).warning(
        "%(why)s: back to step %(step)d, learning rates times %(rate)g" + f" ({len(rolled_back)} of {retries} retries)",
        dict(rolled_back[-1]),
    )


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors, numbers, strings, lists and dicts; the old file stays until the new one is complete."""
    save_tensors(path, {"schema_version": VERSION, **content})


def keep_checkpoint(run_dir: Path, content: dict[str, Any], step: int, kept: int, checkpoints: int) -> None:
    """Write the checkpoint of a step; of those before it, so many less one stay.

    Args:
        run_dir: of the run.
        content: tensors, numbers, strings, lists and dicts.
        step: that it is of.
        kept: the step of the one before, below 0 if there is none.
        checkpoints: how many are kept.

    Raises:
        Unwritable: it cannot be written; those before stay.
    """
    try:
        _make_room(run_dir, checkpoints)
        save_checkpoint(checkpoint_path(run_dir), content)
    except OSError as error:
        raise Unwritable(
            f"run_dir: cannot write the checkpoint of step {step} to {run_dir} ({error.strerror}); "
            + (f"the one of step {kept} is kept. " if kept >= 0 else "")
            + "Free some space, then go on or start anew"
        ) from None


def _make_room(run_dir: Path, checkpoints: int) -> None:
    """Let the last checkpoint be the one before, too, and those before it be one older."""
    last, before = checkpoint_path(run_dir), checkpoint_path(run_dir, 1)
    if checkpoints < 2 or not last.is_file() or (before.is_file() and before.samefile(last)):
        return
    for age in range(checkpoints - 1, 1, -1):
        if (newer := checkpoint_path(run_dir, age - 1)).is_file():
            os.replace(newer, checkpoint_path(run_dir, age))
    link = before.with_name(f".{before.name}.tmp")
    link.unlink(missing_ok=True)  # of a process that was killed
    try:
        os.link(last, link)
        os.replace(link, before)
    except OSError:  # a file system without hard links; until the new one is written the last one is missing
        os.replace(last, before)


def load_checkpoint(path: Path, option: str = "resume", upgrades: Upgrades = NO_UPGRADES) -> dict[str, Any]:
    """Read one file onto the CPU, as this version would have written it.

    Args:
        path: the file.
        option: what the user gave, for messages.
        upgrades: from what earlier versions wrote.

    Raises:
        Damaged: a truncated file, one whose checksums are wrong, or a foreign one.
        UserError: one of a later version.
    """
    try:
        _check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        content["schema_version"]
        _check_storages(content)
    except Exception as error:  # torch raises a different type for every way a file can be broken
        raise Damaged(
            f"{option}: {path} cannot be read: damaged, truncated, or no checkpoint of this program "
            f"({type(error).__name__}); put back an intact copy, or start anew"
        ) from None
    return upgraded(content, path, option, upgrades)


def _check_sums(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
            raise ValueError("compressed records")  # torch writes none, and they might unpack to any size
        if (record := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {record}")


def _check_storages(content: Any) -> None:
    """A tensor may say that it has more elements than the file holds, and would be written out so."""
    if isinstance(content, Tensor):
        if content.numel() * content.element_size() > content.untyped_storage().nbytes():
            raise ValueError(f"a tensor of {content.numel()} elements that are not there")
    elif isinstance(content, Mapping | list | tuple):
        for part in content.values() if isinstance(content, Mapping) else content:
            _check_storages(part)


def newest_checkpoint(
    run_dir: Path, option: str = "resume", upgrades: Upgrades = NO_UPGRADES
) -> tuple[Path, dict[str, Any]]:
    """The newest intact checkpoint of a run and what it holds; a line in the log tells of newer ones that are not.

    Args:
        run_dir: of the run.
        option, upgrades: see `load_checkpoint`.

    Raises:
        UserError: there is none, none is intact, or the newest is of a later version.
    """
    paths = checkpoint_paths(run_dir)
    if not paths:
        raise UserError(
            f"{option}: {run_dir} holds no checkpoint (looked for {checkpoint_path(run_dir)}); "
            "give the folder of a run that got as far as its first checkpoint"
        )
    problems: list[Damaged] = []
    for path in paths:
        try:
            content = load_checkpoint(path, option, upgrades)
        except Damaged as problem:
            problems.append(problem)
            continue
        if problems:
            damaged = ", ".join(str(before) for before in paths[: len(problems)])
            logging.getLogger(__name__).warning("note: %s: damaged; going by %s, the one before", damaged, path.name)
        return path, content
    raise problems[0]


def going_on_from(found: Path) -> None:
    """A run goes on from a checkpoint: damaged newer ones are put aside, so that they push no intact one out, and what
    a killed process had begun to write goes."""
    if not ranks.first():
        return
    for path in checkpoint_paths(found.parent.parent):
        if path == found:
            break
        os.replace(path, path.with_name(f"{path.name}.damaged"))
    remove_begun(found.parent)


def check_identity(content: Mapping[str, Any], identity: Mapping[str, str], path: Path) -> None:
    """Refuse a checkpoint of other settings or data.

    Args:
        content: of the checkpoint.
        identity: by name, what the run is about to go on with.
        path: of the checkpoint, for the message.

    Raises:
        UserError: what differs, by name.
    """
    if other := differing(content["identity"], identity):
        raise UserError(
            f"resume: {path} was made with other settings or data ({'; '.join(other)}); put back what it began with, "
            "or start a new run"
        )


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Inside, a state is put back from a checkpoint.

    Raises:
        UserError: it is the state of something else.
    """
    try:
        yield
    except (LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"resume: {path} does not fit the config of that folder ({reason(error)}); "
            "put back the config.yaml that belongs to this checkpoint"
        ) from None
