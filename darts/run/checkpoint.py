"""Checkpoints: written atomically, read without executing anything they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from darts.run.errors import UserError, reason
from darts.run.files import replacing
from darts.run.settings import differing

SCHEMA_VERSION = 1


class Unwritable(UserError):
    """A checkpoint could not be written; the one before is kept."""


def checkpoint_path(run_dir: Path) -> Path:
    """Where a run keeps its last checkpoint."""
    return run_dir / "checkpoints" / "last.pt"


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors, numbers, strings, lists and dicts; the old file stays until the new one is complete."""
    with replacing(path) as temporary:
        torch.save({"schema_version": SCHEMA_VERSION, **content}, temporary)


def keep_checkpoint(path: Path, content: dict[str, Any], step: int, kept: int) -> None:
    """Write the checkpoint of a step in place of that of the step `kept`, below 0 if there is none.

    Raises:
        Unwritable: it cannot be written; the one before stays.
    """
    try:
        save_checkpoint(path, content)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise Unwritable(
            f"run_dir: cannot write the checkpoint of step {step} ({reason(error)}); "
            + (f"the one of step {kept} is kept. " if kept >= 0 else "")
            + "Free some space, then go on or start anew"
        ) from None


def load_checkpoint(path: Path, option: str = "resume") -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Args:
        path: the file.
        option: what the user gave, for messages.

    Raises:
        UserError: no file, a truncated or foreign one, or one of another schema.
    """
    run_dir = path.parent.parent
    if not path.is_file():
        raise UserError(
            f"{option}: {run_dir} holds no checkpoint (looked for {path}); "
            "give the folder of a run that got as far as its first checkpoint"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        version = content["schema_version"]
    except Exception as error:  # torch raises a different type for every way a file can be broken
        raise UserError(
            f"{option}: {path} cannot be read: truncated, or no checkpoint of this program ({type(error).__name__}); "
            "put back an intact copy, or start anew"
        ) from None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{option}: {path} has schema_version {version}, this program reads {SCHEMA_VERSION}; "
            "resume it with the version that wrote it (see config.yaml and result.json)"
        )
    return content


def check_identity(content: Mapping[str, Any], identity: Mapping[str, str], path: Path) -> None:
    """Refuse a checkpoint of other settings or data; version 0.1 did not keep which they were.

    Args:
        content: of the checkpoint.
        identity: by name, what the run is about to go on with.
        path: of the checkpoint, for the message.

    Raises:
        UserError: what differs, by name.
    """
    if other := differing(content.get("identity", {}), identity):
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
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(
            f"resume: {path} does not fit the config of that folder ({reason(error)}); "
            "put back the config.yaml that belongs to this checkpoint"
        ) from None
