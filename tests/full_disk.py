"""A command on a disk that is full from the n-th file on, for one n after another: what test_full_disk looks at.

A process of its own, because the limit is the kernel's (RLIMIT_FSIZE: no file may grow by a byte) and holds for every
file of the process. Prints a line of JSON for each n.
"""

from __future__ import annotations

import io
import json
import os
import resource
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from compared import left_alone, scalars
from matplotlib.figure import Figure

from darts.cli import main
from darts.run import together

WRITING = os.O_WRONLY | os.O_RDWR


class Disk:
    """Counts the files below a folder that are opened to be written, and is full from one of them on."""

    def __init__(self) -> None:
        self.folder, self.opened, self.full_at = "", 0, 0
        sys.addaudithook(self._told)

    def _told(self, event: str, details: tuple[Any, ...]) -> None:
        if not self.folder or event not in ("open", "sqlite3.connect"):
            return
        path, flags = details[0], details[2] if event == "open" else WRITING
        if isinstance(path, str | os.PathLike) and flags & WRITING and os.fspath(path).startswith(self.folder):
            self.opened += 1
            if self.opened == self.full_at:
                _limit(0)

    def watched(self, folder: Path, full_at: int, words: list[str]) -> tuple[int, str]:
        """Status and messages of a command."""
        self.folder, self.opened, self.full_at = str(folder), 0, full_at
        try:
            return said(words)
        finally:
            self.folder = ""
            _limit(resource.RLIM_INFINITY)


def _limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def said(words: list[str]) -> tuple[int, str]:
    """Status and messages of a command."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as messages:
        status = main(words)
    return status, messages.getvalue()


def left(folder: Path) -> dict[str, Any]:
    """Of a run: its files, by place; results and curves. Those of TensorBoard and Optuna are named by the time, or hold
    it."""
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    results = {name: json.loads((folder / name).read_text()) for name in found if name.endswith("result.json")}
    return {
        "files": sorted({"events" if "tfevents" in name else name for name in found}),
        "results": left_alone(results),
        "curves": scalars(folder) if (folder / "tensorboard").is_dir() else None,
    }


def quick(draw: Callable[..., None]) -> Callable[..., None]:
    """Pictures of runs are some bytes; drawing them would take most of the time."""

    def savefig(figure: Figure, target: Path, **options: object) -> None:
        if options["format"] == "png":
            target.write_bytes(b"a picture")
        else:
            draw(figure, target, **options)

    return savefig


def run(words: list[str], base: Path, first: int, every: int) -> None:
    """Args:
    words: of the command, with FOLDER for where it writes.
    base: where the folders lie.
    first, every: of the files.
    """
    disk = Disk()

    def line(folder: Path) -> list[str]:
        return [word.replace("FOLDER", str(folder)) for word in words]

    status, messages = said(line(base / "whole"))
    assert status == 0, messages
    expected = left(base / "whole")
    for number in range(first, 1000, every):
        folder = base / str(number)
        status, messages = disk.watched(folder, number, line(folder))
        if disk.opened < number:
            break
        begun = (folder / "config.yaml").exists() and words[0] in ("search", "retrain", "baseline", "tune")
        report = {"number": number, "status": status, "messages": messages}
        report["halves"] = [str(file) for file in folder.rglob("*.tmp")] if words[0] != "export" else []
        report["again"] = said([words[0], f"resume={folder}"] if begun else line(folder))
        report["same"] = {name: value == expected[name] for name, value in left(folder).items()}
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    together.SHARE = float("inf")  # a checkpoint an epoch
    Figure.savefig = quick(Figure.savefig)  # type: ignore[method-assign]
    run(sys.argv[4:], Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
