"""A process of its own that trains networks of cells, and may die without taking the search along."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from darts.datasets.base import Dataset
from darts.paths import replacing
from darts.task import Classification
from darts.training import Diverged, train_cell
from supernet.discrete_network import DiscreteNetwork
from supernet.genotype import Genotype


class Job(NamedTuple):
    """One training.

    Attributes:
        genotype: the cell.
        settings: further arguments of `darts.training.train_cell`.
        parent: file and cell of weights to start from.
        keep: file for the trained weights.
    """

    genotype: Genotype
    settings: dict[str, Any]
    parent: tuple[Path, Genotype] | None = None
    keep: Path | None = None


class Died(Exception):
    """The process is gone."""


def _serve(pipe: Connection, dataset: Dataset, task_settings: dict[str, Any], threads: int) -> None:
    """Reads the data once; sends each job's accuracies, epoch by epoch, then True, or False if training diverged."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair, which ends us
    torch.set_num_threads(threads)
    task = Classification(dataset, **task_settings, device=torch.device("cpu"))
    begin = task.train.state_dict()

    def go_on(accuracy: float) -> bool:
        pipe.send(accuracy)
        answer: bool = pipe.recv()
        return answer

    with suppress(EOFError, ConnectionError):  # the search is gone
        while True:
            job: Job = pipe.recv()
            task.train.load_state_dict(begin)  # every candidate sees the same batches
            parent, size = None, (job.settings["channels"], job.settings["cells"], task.num_classes, task.in_channels)
            if job.parent is not None:
                file, genotype = job.parent
                parent = DiscreteNetwork(genotype, *size)
                parent.load_state_dict(torch.load(file, weights_only=True))
            try:
                network = train_cell(job.genotype, task, **job.settings, parent=parent, go_on=go_on)
            except Diverged:
                pipe.send(False)
                continue
            if job.keep is not None:
                with replacing(job.keep) as temporary:
                    torch.save(network.state_dict(), temporary)
            pipe.send(True)


class Worker:
    """The process, seen from the search.

    Args:
        dataset: read by the process.
        task_settings: further arguments of `darts.task.Classification`.
        threads: of its torch.
    """

    def __init__(self, dataset: Dataset, task_settings: dict[str, Any], threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, dataset, task_settings, threads)
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()

    def train(self, job: Job, go_on: Callable[[float], bool]) -> bool:
        """Train; calls `go_on` after every epoch. False if it diverged.

        Raises:
            Died: the process did.
        """
        try:
            self.pipe.send(job)
            while not isinstance(said := self.pipe.recv(), bool):
                self.pipe.send(go_on(said))
            return said
        except (EOFError, OSError):
            self.process.join()
            raise Died(f"exit status {self.process.exitcode}") from None

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.join()
        self.pipe.close()
