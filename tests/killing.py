"""Runs that are killed for real, at an instant or at one of their writes.

A run is a process of its own, forked from one that has imported everything and done nothing: it starts at once.
"""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import darts
import supernet

WRITES = ("open", "os.rename", "os.link", "os.remove", "os.mkdir", "shutil.rmtree")  # of Python's audit events
COUNT = ".writes"  # where a process that ended says how many there were, beside the run folder
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    [
        module.name
        for package in (darts, supernet)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if module.name != "darts.__main__"
    ]
)


class Run:
    """A command under way in a process of its own.

    Args:
        words: of the command line.
        folder: of the run.
        at: the number of the write inside the folder, from 1, at which it kills itself; 0: at none.
        later: so many seconds after that write has begun.
    """

    def __init__(self, words: list[str], folder: Path, at: int = 0, later: float = 0.0) -> None:
        self.said = folder.with_name(f"{folder.name}.stderr")
        self.process = _processes.Process(target=_run, args=(words, str(folder), str(self.said), at, later))
        self.process.start()

    def ended(self, seconds: float) -> bool:
        """Whether it ends within that time.

        Raises:
            AssertionError: it failed.
        """
        self.process.join(seconds)
        if self.process.exitcode is None:
            return False
        assert self.process.exitcode in (0, -signal.SIGKILL), self.said.read_text(errors="replace")
        return self.process.exitcode == 0

    def kill(self) -> None:
        """At once."""
        self.process.kill()
        self.process.join()


def writes(folder: Path) -> int:
    """How many writes the last process made that ended."""
    return int(folder.with_name(folder.name + COUNT).read_text())


def _run(words: list[str], folder: str, said: str, at: int, later: float) -> None:
    for target, file in ((1, os.devnull), (2, said)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), target)
    count = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in WRITES or not any(isinstance(one, str | os.PathLike) and folder in str(one) for one in args):
            return
        if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        count += 1
        if count == at and not later:
            os.kill(os.getpid(), signal.SIGKILL)
        elif count == at:
            threading.Timer(later, os.kill, (os.getpid(), signal.SIGKILL)).start()

    sys.addaudithook(hook)
    from darts.cli import main

    status = main(words)
    total = count
    Path(folder + COUNT).write_text(str(total))
    sys.exit(status)
