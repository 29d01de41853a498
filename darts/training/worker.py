"""Trains the network of a cell for whoever wants to know what it is worth, in whatever process that happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch

from darts.run.checkpoint import fitting, load_checkpoint, save_checkpoint
from darts.run.seeding import make_generator
from darts.tasks.base import Task
from darts.training.fit import Diverged, FitMonitor, FitState, evaluate, fit, initialised
from darts.training.recipe import Recipe
from supernet.spaces.base import Genotype, Space


class Site(NamedTuple):
    """What all trainings of a run share.

    Attributes:
        space: of the genotypes.
        task: makes the task, told `device`.
        channels, cells: of the networks.
        device: to train on.
        threads: of torch on the CPU.
    """

    space: Space
    task: Callable[..., Task]
    channels: int
    cells: int
    device: torch.device
    threads: int


class Job(NamedTuple):
    """One training.

    Attributes:
        genotype: what to train.
        recipe: how.
        seed: of the initial weights.
        parent: file and genotype of weights to start from.
        keep: file for the trained weights.
        stops: whether to end a training that has come so far, by the values after its epochs; none is if None.
    """

    genotype: Genotype
    recipe: Recipe
    seed: int
    parent: tuple[Path, Genotype] | None = None
    keep: Path | None = None
    stops: Callable[[Sequence[float]], bool] | None = None


class Trained(NamedTuple):
    """What a training gave.

    Attributes:
        curve: the task's metric after every epoch, the more the better.
        diverged: whether it ended in no number.
    """

    curve: tuple[float, ...]
    diverged: bool = False


class _Curve(FitMonitor):
    """Judges after every epoch, and ends what promises nothing."""

    def __init__(self, stops: Callable[[Sequence[float]], bool] | None) -> None:
        self.stops, self.values = stops, list[float]()

    def on_epoch(self, state: FitState) -> bool:
        self.values.append(state.task.metric.worth(evaluate(state.network, state.task)))
        return self.stops is None or not self.stops(self.values)


class Trainer:
    """Trains one candidate after the other at a site; reads the data before the first."""

    def __init__(self, site: Site) -> None:
        self.site = site

    @cached_property
    def task(self) -> tuple[Task, dict[str, Any]]:
        """The task, and where it begins."""
        task = self.site.task(device=self.site.device)
        return task, task.state_dict()

    def train(self, job: Job) -> Trained:
        """One training.

        Raises:
            UserError: the file of weights to start from is damaged.
        """
        site, (task, begin) = self.site, self.task
        torch.set_num_threads(site.threads)
        size = task.network_size(site.channels, site.cells)
        task.load_state_dict(begin)  # every candidate sees the same batches
        network = site.space.network(job.genotype, size)
        initialised(network, make_generator(job.seed, "initial weights"))
        if job.parent is not None:
            file, genotype = job.parent
            parent = site.space.network(genotype, size)
            with fitting(file):
                parent.load_state_dict(load_checkpoint(file)["weights"])
            network.inherit(parent)  # type: ignore[operator]
        network.to(site.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        curve = _Curve(job.stops)
        try:
            fit(network, task, job.recipe, monitors=[curve])
        except Diverged:
            return Trained(tuple(curve.values), diverged=True)
        if job.keep is not None:
            weights = {name: value.cpu() for name, value in network.state_dict().items()}
            save_checkpoint(job.keep, {"weights": weights})
        return Trained(tuple(curve.values))
