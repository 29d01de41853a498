"""Values from a table of known accuracies: a search that costs nothing, and is charged as if it had trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from darts.blackbox.evaluators.base import CIFAR10_IMAGES, FULL, Context, Evaluator, Outcome, column
from darts.blackbox.methods.base import Candidate
from supernet.spaces.base import Genotype, Space

TRAINING_IMAGES = {  # of an epoch (NAS-Bench-201, Dong & Yang 2020, arXiv:2001.00326, table 1)
    ("cifar10", "valid"): CIFAR10_IMAGES,
    ("cifar10", "test"): 50_000,
    ("cifar100", "valid"): 50_000,
    ("cifar100", "test"): 50_000,
    ("imagenet16-120", "valid"): 151_700,
    ("imagenet16-120", "test"): 151_700,
}


class _Answers(dict[Genotype, Callable[[], Outcome]]):
    """One column's answers, each made when it is first asked for and kept: a search asks millions of times."""

    def __init__(self, space: Space, accuracies: list[float], epochs: int) -> None:
        self.space, self.accuracies, self.epochs = space, accuracies, epochs

    def __missing__(self, genotype: Genotype) -> Callable[[], Outcome]:
        outcome = Outcome(self.accuracies[self.space.index(genotype)], self.epochs)
        answer = self[genotype] = lambda: outcome
        return answer


class TableEvaluator(Evaluator):
    """Answers with one column; after fewer epochs with the column of as many, if the table has it.

    Args:
        signal: the column that a search sees, DATASET/SPLIT/EPOCHS.
        truth: see `Evaluator`.
    """

    def __init__(self, signal: str = "cifar10/valid/200", truth: str | None = "cifar10/test/200") -> None:
        super().__init__(truth)
        self.signal = column("signal", signal)

    def open(self, context: Context) -> None:
        table = context.table
        if table is None:
            raise ValueError("it needs a table of known accuracies of this space; give oracle.path=FILE.csv")
        if table.space != context.space:
            raise ValueError(f"table {table.name} is of another space, {table.space.describe()}")
        table.check("signal", self.signal)
        full = self.signal.epochs or FULL
        columns = {full: self.signal} | {
            other.epochs: other
            for other in table.columns
            if (other.dataset, other.split) == (self.signal.dataset, self.signal.split)
            and other.epochs is not None
            and other.epochs < full
        }
        self.fidelities = tuple(sorted(columns))
        self.ready = {
            epochs: _Answers(table.space, table.columns[one].tolist(), epochs) for epochs, one in columns.items()
        }

    def value(self, genotype: Genotype, epochs: int) -> float | None:
        return self.ready[epochs][genotype]().value

    def submit(self, candidate: Candidate) -> Callable[[], Outcome]:
        _, genotype, epochs, *_ = candidate
        return self.ready[epochs][genotype]

    def cost(self, epochs: int) -> float:
        return epochs / FULL

    def images(self, epochs: int) -> int:
        return epochs * TRAINING_IMAGES[self.signal.dataset, self.signal.split]

    def describe(self) -> dict[str, Any]:
        return {"name": "table", "signal": str(self.signal)}
