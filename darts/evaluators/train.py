"""Values from training: every candidate's network is trained for real, in a worker process."""

from __future__ import annotations

import logging
import multiprocessing
import signal
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from darts.datasets.base import Dataset
from darts.evaluators.base import Evaluator
from darts.oracle.base import Table
from darts.task import Classification
from darts.training import Diverged, train_cell
from supernet.genotype import Genotype
from supernet.search_space import SearchSpace


def _serve(pipe: Connection, dataset: Dataset, split: float, batch_size: int, seed: int, threads: int) -> None:
    """A worker: reads the data once, then answers (cell, settings) with an accuracy, or None if training diverged."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair, which ends us
    torch.set_num_threads(threads)
    task = Classification(dataset, split, batch_size, seed, torch.device("cpu"))
    begin = task.train.state_dict()
    while True:
        genotype, settings = pipe.recv()
        task.train.load_state_dict(begin)  # every candidate sees the same batches
        try:
            pipe.send(train_cell(genotype, task, **settings)[-1])
        except Diverged:
            pipe.send(None)


class TrainEvaluator(Evaluator):
    """Validation accuracy (%) after training on the weight part of the data set's training images.

    Training runs in a worker process. One that diverges, or whose worker dies, is tried once more with another
    initialisation; then the candidate has failed, and the search goes on.

    Args:
        lengths: epochs on offer, ascending; the last is full length. Several are for successive halving and the like.
        channels, cells: of the network.
        batch_size: images a batch.
        split: share of the training images that is trained on; the rest is validated on.
        lr, weight_decay: of SGD.
        seed: of split, order, augmentation and initial weights.
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
        lr: float = 0.1,
        weight_decay: float = 5e-4,
        seed: int = 0,
        truth: str | None = "auto",
    ) -> None:
        super().__init__(truth)
        if not lengths or sorted(set(lengths)) != list(lengths) or lengths[0] < 1:
            raise ValueError(f"lengths: got {list(lengths)}; give numbers of epochs, ascending, such as [4,12]")
        for name, number in (("channels", channels), ("cells", cells), ("batch_size", batch_size)):
            if number < 1:
                raise ValueError(f"{name}: got {number}; give 1 or more")
        if lr <= 0 or weight_decay < 0:
            raise ValueError(f"lr, weight_decay: got {lr}, {weight_decay}; give lr above 0 and weight_decay 0 or more")
        self.fidelities = tuple(lengths)
        self.network = {"channels": channels, "cells": cells, "lr": lr, "weight_decay": weight_decay}
        self.batch_size, self.split, self.seed = batch_size, split, seed
        self.worker: tuple[SpawnProcess, Connection] | None = None

    def open(self, space: SearchSpace, table: Table | None, dataset: Dataset) -> None:
        # here once, so that what does not fit is said before the first worker starts
        task = Classification(dataset, self.split, self.batch_size, self.seed, torch.device("cpu"))
        self.dataset, self.epoch_images = dataset, task.steps_per_epoch * self.batch_size

    def value(self, genotype: Genotype, epochs: int) -> float | None:
        for attempt in range(2):
            settings = {**self.network, "epochs": epochs, "seed": self.seed + attempt}
            found = self._ask(genotype, settings)
            if found is not None:
                return found
        return None

    def _ask(self, genotype: Genotype, settings: dict[str, Any]) -> float | None:
        if self.worker is None:
            context = multiprocessing.get_context("spawn")
            mine, theirs = context.Pipe()
            arguments = (theirs, self.dataset, self.split, self.batch_size, self.seed, torch.get_num_threads())
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self.worker = (process, mine)
        process, pipe = self.worker
        try:
            pipe.send((genotype, settings))
            found: float | None = pipe.recv()
        except (EOFError, OSError):
            process.join()
            logging.getLogger(__name__).warning(
                "The worker that trained %s died (exit status %s).", genotype, process.exitcode
            )
            self.close()
            return None
        return found

    def close(self) -> None:
        if self.worker is not None:
            process, pipe = self.worker
            process.terminate()
            process.join()
            pipe.close()
            self.worker = None

    def images(self, epochs: int) -> int:
        return epochs * self.epoch_images

    def describe(self) -> dict[str, Any]:
        return {
            "name": "train",
            "signal": f"{self.dataset.name}, {self.fidelities[-1]} epochs",
            "network": f"C={self.network['channels']}, N={self.network['cells']}",
            "split": self.split,
        }
