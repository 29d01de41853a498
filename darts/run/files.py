"""Where the configs are, and how files are written so that a crash never leaves half of one."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def config_dir() -> Path:
    """The folder of YAML files: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Inside, an error of writing, which knows of no file, or of the temporary one alone, is said to be of this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None or Path(error.filename).name.startswith(f".{path.name}."):
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place, after fsync, when the block ends without error."""
    with naming(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_begun(folder: Path) -> None:
    """Let go of what processes that were killed had begun to write in a folder; nobody may be writing there."""
    for begun in folder.glob(".*.tmp"):
        begun.unlink(missing_ok=True)


def is_special(path: Path) -> bool:
    """Whether it is neither file nor folder, but a pipe or a device, which may have no end."""
    return path.exists() and not path.is_file() and not path.is_dir()


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_tensors(path: Path, content: Any) -> None:
    """Write what torch can save, atomically.

    Raises:
        OSError: there is no room for it, among others; torch itself says so by a RuntimeError, in odd words.
    """
    import torch

    with replacing(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError:
            raise OSError(errno.ENOSPC, "No room for all of it") from None
