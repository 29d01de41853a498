"""Where the configs are, and how files are written so that a crash never leaves half of one."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from darts.errors import UserError


def config_dir() -> Path:
    """The folder of YAML files: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place, after fsync, when the block ends without error."""
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


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def resuming(run_dir: Path) -> str:
    """What to type, in any shell, to go on with a run."""
    return shlex.join(["darts", "search", f"resume={run_dir}"])


def make_run_dir(path: Path) -> Path:
    """Create a run folder.

    Raises:
        UserError: it holds a run already, or cannot be written.
    """
    if (path / "config.yaml").exists() or (path / "result.json").exists():
        raise UserError(f"run_dir: {path} already holds a run; choose another folder, or go on: {resuming(path)}")
    try:
        path.mkdir(parents=True, exist_ok=True)
        for name in ("checkpoints", "tensorboard", "figures", "exports"):
            (path / name).mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(
            f"run_dir: cannot write to {path} ({error.strerror}); give a folder you may write to with run_dir=FOLDER"
        ) from None
    return path
