"""Values from training: every candidate's network is trained for real, by an executor."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch

from darts.blackbox.evaluators.base import Context, Evaluator, Outcome
from darts.blackbox.methods.base import Candidate, at_least
from darts.blackbox.termination import RULES, Termination
from darts.run.errors import UserError
from darts.tasks.sizes import check_inputs, check_network
from darts.training.executors import EXECUTORS, check_executor
from darts.training.recipe import Recipe
from darts.training.worker import Job, Site, Trainer
from darts.training.workers import ATTEMPTS, Died, Executor
from supernet.spaces.base import Genotype


class TrainEvaluator(Evaluator):
    """The task's metric on the architecture part of its data after training on the weight part; for classification
    validation accuracy (%).

    A training that diverges is tried once more with another initialisation, one whose process dies as it was; where
    that happens twice the candidate has failed, and the search goes on.

    Args:
        lengths: epochs on offer, ascending; the last is full length. Several are for successive halving and the like.
        channels, cells: of the network.
        batch_size: images a batch.
        split: share of the training images that is trained on; the rest is validated on.
        subset: share of the part that is trained on that is used at all.
        lr, weight_decay: of SGD.
        grad_clip: largest norm of the gradient; None for any.
        seed: of split, order, augmentation and initial weights.
        termination: ``median`` or ``curve`` stops trainings that promise nothing (`darts.blackbox.termination`); None
            lets all end.
        inherit: a mutation starts from its parent's weights on the edges that it leaves as they are.
        workers: trainings at the same time; on one machine they share torch's threads.
        executor: ``process`` for processes of this machine, ``serial`` for this one alone, ``ray`` for a cluster.
        ahead: candidates asked for beyond those, so that no worker waits for the slowest; answers are told in order of
            asking, whatever is ready first, so that the method knows so many fewer of them.
        truth: see `Evaluator`.
    """

    slow = True

    def __init__(
        self,
        lengths: list[int],
        channels: int = 16,
        cells: int = 1,
        batch_size: int = 64,
        split: float = 0.5,
        subset: float = 1.0,
        lr: float = 0.1,
        weight_decay: float = 5e-4,
        grad_clip: float | None = None,
        seed: int = 0,
        termination: str | None = None,
        inherit: bool = False,
        workers: int = 1,
        executor: str = "process",
        ahead: int = 0,
        truth: str | None = "auto",
    ) -> None:
        super().__init__(truth)
        if not lengths or sorted(set(lengths)) != list(lengths) or lengths[0] < 1:
            raise ValueError(f"lengths: got {list(lengths)}; give numbers of epochs, ascending, such as [4,12]")
        for name, number in (
            ("channels", channels), ("cells", cells), ("batch_size", batch_size), ("workers", workers),
        ):  # fmt: skip
            at_least(name, number, 1)
        at_least("ahead", ahead, 0)
        check_executor(executor, EXECUTORS)
        if executor == "serial" and workers > 1:
            raise ValueError(f"workers: got {workers} with executor=serial; give 1, or executor=process")
        if lr <= 0 or weight_decay < 0:
            raise ValueError(f"lr, weight_decay: got {lr}, {weight_decay}; give lr above 0 and weight_decay 0 or more")
        if termination is not None and termination not in RULES:
            raise ValueError(f"termination: got {termination!r}; allowed are {', '.join(RULES)}, or null for none")
        self.fidelities, self.workers, self.inherits = tuple(lengths), workers + ahead, inherit
        self.trainings = workers
        self.executor: str = executor
        self.channels, self.cells, self.lr, self.weight_decay = channels, cells, lr, weight_decay
        self.data = {"split": split, "batch_size": batch_size, "seed": seed, "subset": subset}
        self.seed, self.termination, self.grad_clip = seed, termination, grad_clip

    def recipe(self, epochs: int) -> Recipe:
        """Of a training."""
        return Recipe(epochs, self.lr, weight_decay=self.weight_decay, grad_clip=self.grad_clip)

    def open(self, context: Context) -> None:
        check_network(context.space, self.channels, self.cells)
        EXECUTORS[self.executor].reach(context.ray_address)
        make_task = partial(context.task, **self.data)
        task = make_task(device=torch.device("cpu"))  # so that what does not fit is said before a worker starts
        check_inputs(context.space, task)
        self.name, self.metric, self.epoch_images = task.name, task.metric, task.steps_per_epoch * task.batch_size
        threads = max(1, torch.get_num_threads() // self.trainings)
        self.site = Site(context.space, make_task, self.channels, self.cells, context.device, threads)
        self.pool = ThreadPoolExecutor(self.trainings)  # a thread waits for each training
        self.place: Executor[Trainer] = EXECUTORS[self.executor](
            partial(Trainer, self.site), self.trainings, context.ray_address, context.device, context.plugins
        )
        self.closing = False
        self.rules: dict[int, Termination] = {}
        self.trained: dict[int, Genotype] = {}  # candidates of this run whose weights are kept, by number
        self.folder: Path | None = None

    def begin(self, folder: Path | None) -> None:
        self.folder = folder
        if self.inherits and folder is None:
            raise ValueError("inherit: weights need a folder to be kept in")
        self.rules = {length: RULES[self.termination]() for length in self.fidelities} if self.termination else {}
        self.trained = {}

    def value(self, genotype: Genotype, epochs: int) -> float | None:
        return self.submit(Candidate(0, genotype, epochs))().value

    def submit(self, candidate: Candidate) -> Callable[[], Outcome]:
        rule = self.rules.get(candidate.epochs)
        known = len(rule.complete) if rule else 0  # what is learnt meanwhile must not decide: it would depend on time
        parent = self._weights_of(candidate.parent)
        return self.pool.submit(self._evaluate, candidate, rule, known, parent).result

    def learn(self, candidate: Candidate, outcome: Outcome) -> None:
        if outcome.value is None:
            return
        self.trained[candidate.number] = candidate.genotype
        if self.rules and len(outcome.curve) == candidate.epochs:
            self.rules[candidate.epochs].learn(outcome.curve)

    def report(self) -> dict[str, float]:
        return self.rules[self.fidelities[-1]].report() if self.rules else {}

    def _file(self, number: int) -> Path | None:
        return self.folder / f"{number}.pt" if self.inherits and self.folder is not None else None

    def _weights_of(self, number: int | None) -> tuple[Path, Genotype] | None:
        if number not in self.trained or (file := self._file(number)) is None:
            return None
        if not file.is_file():
            raise UserError(f"resume: {file}, the weights of candidate {number}, is gone; begin this seed anew")
        return file, self.trained[number]

    def _evaluate(
        self, candidate: Candidate, rule: Termination | None, known: int, parent: tuple[Path, Genotype] | None
    ) -> Outcome:
        epochs = deaths = diverged = 0
        stops = None if rule is None else rule.knowing(known)
        while deaths < ATTEMPTS and diverged < ATTEMPTS and not self.closing:
            recipe, kept = self.recipe(candidate.epochs), self._file(candidate.number)
            job = Job(candidate.genotype, recipe, self.seed + diverged, parent, kept, stops)
            try:
                found = self.place.run(Trainer.train, job)
            except Died as problem:
                deaths += 1
                if not self.closing:
                    logging.getLogger(__name__).warning("The worker that trained %s died: %s.", job.genotype, problem)
                continue
            epochs += len(found.curve)
            if not found.diverged:
                return Outcome(found.curve[-1], epochs, found.curve)
            diverged += 1
        return Outcome(None, epochs)

    def close(self) -> None:
        self.closing = True
        self.place.close()
        self.pool.shutdown(cancel_futures=True)

    def images(self, epochs: int) -> int:
        return epochs * self.epoch_images

    def describe(self) -> dict[str, Any]:
        return {
            "name": "train",
            "signal": f"{self.name}, {self.fidelities[-1]} epochs"
            + ("" if self.metric.higher_is_better else f", minus the {self.metric.name}"),
            "network": f"C={self.channels}, N={self.cells}",
            "split": self.data["split"],
            "subset": self.data["subset"],
            "termination": self.termination,
            "inherit": self.inherits,
        }
