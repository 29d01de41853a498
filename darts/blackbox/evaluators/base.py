"""What an evaluator is: it says what a cell is worth after some epochs of training, and what finding out costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from darts.blackbox.methods.base import Candidate
from darts.oracle.base import Column, Table
from darts.tasks.base import Task
from supernet.spaces.base import Genotype, Space

FULL = 200  # epochs of the benchmark's complete training
CIFAR10_IMAGES = 25_000  # of an epoch of it, when the other half of CIFAR-10 validates
FULL_IMAGES = FULL * CIFAR10_IMAGES


@dataclass(frozen=True)
class Context:
    """What an evaluator works with.

    Attributes:
        space: of the candidates.
        table: of known accuracies, if there is one.
        task: makes the task; takes its options, `seed` and `device`. Data are read when it is called.
        device: to compute on.
        plugins: packages with parts of the user's own.
        ray_address: of a Ray cluster; one on this machine if None.
    """

    space: Space
    table: Table | None
    task: Callable[..., Task]
    device: torch.device
    plugins: tuple[str, ...] = ()
    ray_address: str | None = None


class Outcome(NamedTuple):
    """What an evaluation gave.

    Attributes:
        value: more is better; None if it failed.
        epochs: that it took, those of a failed attempt among them; fewer than asked for if it was stopped early.
        curve: the value after every epoch, where that is known.
    """

    value: float | None
    epochs: int
    curve: tuple[float, ...] = ()


def column(name: str, text: str) -> Column:
    """A column given as an argument of that name.

    Raises:
        ValueError: no column.
    """
    try:
        return Column.parse(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


class Evaluator(ABC):
    """Values are such that more is better.

    Args:
        truth: the column that reports show of what was found, DATASET/SPLIT/EPOCHS; ``auto`` for cifar10/test/200 or
            else the first of test accuracies that the table has; or None. Nobody asks for it before a search has ended.

    Attributes, after `open`:
        fidelities: lengths of training on offer, in epochs, ascending; the last is full length and costs one
            evaluation of the budget.
        workers: evaluations that can be under way at once.
        upfront: images passed forward before the first answer of a run.
    """

    fidelities: tuple[int, ...] = (1,)
    workers = 1
    upfront = 0
    executor: str | None = None  # where it trains candidates, by its name
    inherits = False  # whether a mutation starts from its parent's weights
    slow = False  # whether an answer is worth writing down at once, and its time worth a report

    def __init__(self, truth: str | None) -> None:
        self.auto = truth == "auto"
        self.truth = None if truth is None or self.auto else column("truth", truth)

    def judged_by(self, table: Table | None) -> Column | None:
        """The column of a table that reports show.

        Raises:
            ValueError: the table does not have it.
        """
        if table is None:
            return None
        if self.auto:
            tests = [known for known in table.columns if known.split == "test"]
            return min(tests, key=lambda known: known != Column("cifar10", "test", 200), default=None)
        if self.truth is not None:
            table.check("truth", self.truth)
        return self.truth

    @abstractmethod
    def open(self, context: Context) -> None:
        """Get ready.

        Raises:
            ValueError: settings that do not go with the space or the table.
        """

    @abstractmethod
    def value(self, genotype: Genotype, epochs: int) -> float | None:
        """What a genotype is worth; None if the evaluation failed."""

    def begin(self, folder: Path | None) -> None:
        """A run begins, or goes on; `folder` is its own and lasts as long as it does."""
        return

    def submit(self, candidate: Candidate) -> Callable[[], Outcome]:
        """Begin an evaluation; what is returned waits for its end."""
        outcome = Outcome(self.value(candidate.genotype, candidate.epochs), candidate.epochs)
        return lambda: outcome

    def learn(self, candidate: Candidate, outcome: Outcome) -> None:
        """Hear an outcome that a run's method is about to be told, in the same order."""
        return

    def report(self) -> dict[str, float]:
        """Numbers about the run that ends, for its result."""
        return {}

    def close(self) -> None:
        """Give back what is held between evaluations."""
        return

    def cost(self, epochs: int) -> float:
        """Of an answer, in trainings of the benchmark's full length on CIFAR-10, by images."""
        return self.images(epochs) / FULL_IMAGES

    @abstractmethod
    def images(self, epochs: int) -> int:
        """Images passed forward for one answer of so many epochs."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What reports say of it: `name` and `signal`, and what else the values hinge on."""
