"""What computes somewhere, and what begins such workers.

A worker has what it was begun with, and computes with it. One whose process dies loses that; the others go on.
"""

from __future__ import annotations

import importlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import torch

Made = TypeVar("Made")
Found = TypeVar("Found")

ATTEMPTS = 2  # at what a worker died of
CPU = torch.device("cpu")


class Died(Exception):
    """The process of a worker is gone."""


class Worker(ABC, Generic[Made]):
    """One at a time computes in it; nothing but what it has is kept from call to call."""

    @abstractmethod
    def call(self, function: Callable[..., Found], *args: Any) -> Found:
        """A function of what the worker has.

        Raises:
            Died: its process did.
        """

    @abstractmethod
    def end(self) -> None:
        """At once, whatever is under way; may be called again, and from any thread."""


class Executor(ABC, Generic[Made]):
    """Begins workers where they are wanted; a worker is called from one thread at a time.

    Args:
        make: what each of them has, made there.
        workers: how many there are at most.
        address: of a cluster.
        device: that they compute on; if that is a GPU, each has one.
        plugins: packages that each of them imports.

    Attributes:
        places: how many there are at most, where a cluster has room for fewer.

    Raises:
        ValueError: there is no way to it.
    """

    dies = True  # whether a worker can without this process

    @classmethod
    def reach(cls, address: str | None) -> None:
        """Refuse what there is no way to.

        Args:
            address: of a cluster, if one was given.

        Raises:
            ValueError: there is none.
        """
        return

    def __init__(
        self,
        make: Callable[[], Made],
        workers: int,
        address: str | None = None,
        device: torch.device = CPU,
        plugins: Sequence[str] = (),
    ) -> None:
        self.make, self.closing = partial(_made, make, tuple(plugins)), False
        self.places = self.connect(workers, address, device)
        self.idle: list[Worker[Made]] = []
        self.alive: set[Worker[Made]] = set()
        self.turns = threading.Semaphore(self.places)

    def connect(self, workers: int, address: str | None, device: torch.device) -> int:
        """Make ready for so many workers; for how many there is room.

        Raises:
            ValueError: there is no way to it.
        """
        return workers

    @abstractmethod
    def started(self) -> Worker[Made]:
        """A worker that has begun.

        Raises:
            Died: it has not.
        """

    def begin(self) -> Worker[Made]:
        """Another worker.

        Raises:
            Died: it could not begin, or the executor is closed.
        """
        if not self.closing:
            worker = self.started()
            self.alive.add(worker)
            if not self.closing:
                return worker
            self.end(worker)
        raise Died("the run ends")

    def run(self, function: Callable[..., Found], *args: Any) -> Found:
        """A function of what a worker has that is idle, or new; waits where there is no room for another one.

        Raises:
            Died: its process did.
        """
        with self.turns:
            try:
                worker = self.idle.pop()
            except IndexError:
                worker = self.begin()
            try:
                found = worker.call(function, *args)
            except Died:
                self.end(worker)
                raise
            self.idle.append(worker)
            return found

    def end(self, worker: Worker[Made]) -> None:
        """One of them."""
        self.alive.discard(worker)
        worker.end()

    def close(self) -> None:
        """Ends all of them, whatever is under way."""
        self.closing = True
        for worker in list(self.alive):
            self.end(worker)


def _made(make: Callable[[], Made], plugins: Sequence[str]) -> Made:
    for name in plugins:
        importlib.import_module(name)
    return make()
