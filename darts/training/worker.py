"""A process of its own that trains networks of cells, and may die without taking the search along."""

from __future__ import annotations

import importlib
import multiprocessing
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch

from darts.run.files import replacing
from darts.run.seeding import make_generator
from darts.tasks.base import Task
from darts.training.fit import Diverged, FitMonitor, FitState, evaluate, fit, initialised
from darts.training.recipe import Recipe
from supernet.spaces.base import Genotype, Space

# A server, where there is one, has imported torch when a worker is wanted, and has computed nothing yet
METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT = multiprocessing.get_context(METHOD)
if METHOD == "forkserver":
    CONTEXT.set_forkserver_preload([__name__])


class Job(NamedTuple):
    """One training.

    Attributes:
        genotype: what to train.
        recipe: how.
        seed: of the initial weights.
        parent: file and genotype of weights to start from.
        keep: file for the trained weights.
    """

    genotype: Genotype
    recipe: Recipe
    seed: int
    parent: tuple[Path, Genotype] | None = None
    keep: Path | None = None


class Died(Exception):
    """The process is gone."""


class Site(NamedTuple):
    """What all trainings of a worker share.

    Attributes:
        space: of the genotypes.
        task: makes the task, told `device`.
        channels, cells: of the networks.
        device: to train on.
        threads: of torch on the CPU.
        plugins: packages whose operations a network may have.
    """

    space: Space
    task: Callable[..., Task]
    channels: int
    cells: int
    device: torch.device
    threads: int
    plugins: tuple[str, ...] = ()


class _Report(FitMonitor):
    """Sends the metric after every epoch; hears whether to go on."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe

    def on_epoch(self, state: FitState) -> bool:
        self.pipe.send(evaluate(state.network, state.task))
        answer: bool = self.pipe.recv()
        return answer


def _serve(pipe: Connection, site: Site) -> None:
    """Reads the data once; sends each job's metric, epoch by epoch, then True, or False if training diverged."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair, which ends us
    torch.set_num_threads(site.threads)
    for name in site.plugins:
        importlib.import_module(name)
    task = site.task(device=site.device)
    size, begin = task.network_size(site.channels, site.cells), task.state_dict()
    with suppress(EOFError, ConnectionError):  # the search is gone
        while True:
            job: Job = pipe.recv()
            task.load_state_dict(begin)  # every candidate sees the same batches
            network = site.space.network(job.genotype, size)
            initialised(network, make_generator(job.seed, "initial weights"))
            if job.parent is not None:
                file, genotype = job.parent
                parent = site.space.network(genotype, size)
                parent.load_state_dict(torch.load(file, weights_only=True))
                network.inherit(parent)  # type: ignore[operator]
            network.to(site.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            try:
                fit(network, task, job.recipe, monitors=[_Report(pipe)])
            except Diverged:
                pipe.send(False)
                continue
            if job.keep is not None:
                with replacing(job.keep) as temporary:
                    torch.save({name: value.cpu() for name, value in network.state_dict().items()}, temporary)
            pipe.send(True)


class Worker:
    """The process, seen from the search.

    Args:
        site: what its trainings share.
    """

    def __init__(self, site: Site) -> None:
        self.pipe, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_serve, args=(theirs, site), daemon=True)  # type: ignore[attr-defined]
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
