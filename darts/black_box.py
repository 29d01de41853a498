"""One run of a black-box method: ask, evaluate, tell, until the budget is spent."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from darts.baselines.base import FAILED, Baseline
from darts.evaluators.base import Evaluator
from supernet.genotype import Genotype
from supernet.search_space import SearchSpace

ANSWERS = 20  # a run ends after so many answers an evaluation of its budget, when most come from the cache


class Answer(NamedTuple):
    """What a method was told: a cell, the epochs it was trained for, and its value or None."""

    cell: str
    epochs: int
    value: float | None


@dataclass
class Point:
    """A new incumbent.

    Attributes:
        evaluations: answers so far.
        cost: of them, in full trainings.
        images: passed forward by training so far.
        signal: value that the search saw.
        cell: the incumbent.
        truth: its known accuracy, looked up after the search; None without a table.
    """

    evaluations: int
    cost: float
    images: int
    signal: float
    cell: str
    truth: float | None = None


@dataclass
class Run:
    """What one seed found.

    Attributes:
        trajectory: every new incumbent; the last is what was found. Empty if every evaluation failed.
        evaluations: answers, `failed`, `duplicates` and `cached` ones among them.
        cost: in full trainings.
        images: passed forward by training.
        stopped_by: ``evaluations``, or ``exhausted`` if the method had nothing more to ask.
    """

    seed: int
    trajectory: list[Point] = field(default_factory=list)
    evaluations: int = 0
    failed: int = 0
    duplicates: int = 0
    cached: int = 0
    cost: float = 0.0
    images: int = 0
    stopped_by: str = "evaluations"


class BlackBox:
    """A method, what it searches and what answers it.

    The incumbent is the cell with the highest value among those trained longest; of equal ones the first.

    Args:
        baseline, space, evaluator: the parts; the evaluator is open.
        evaluations: the budget: answers of full length. A shorter one takes its share, epochs by epochs.
        isomorphic_cache: answer a cell that computes the same as one before (`SearchSpace.canonical_form`) from
            memory, free of charge.
    """

    def __init__(
        self,
        baseline: Baseline,
        space: SearchSpace,
        evaluator: Evaluator,
        evaluations: int,
        isomorphic_cache: bool = False,
    ) -> None:
        if evaluations < 1:
            raise ValueError(f"evaluations: got {evaluations}; give 1 or more")
        self.baseline, self.space, self.evaluator = baseline, space, evaluator
        self.evaluations, self.isomorphic_cache = evaluations, isomorphic_cache

    def start(self, seed: int) -> None:
        """Ready the method for a run; raises ValueError as `Baseline.start` does."""
        rng = random.Random(f"{seed}/{type(self.baseline).__name__}")
        self.baseline.start(self.space, rng, self.evaluations, self.evaluator.fidelities)

    def run(
        self,
        seed: int,
        answers: Sequence[Answer] = (),
        note: Callable[[Answer], None] | None = None,
    ) -> Run:
        """One run from its start.

        Args:
            seed: of the method's generator.
            answers: of an interrupted run of the same settings, from its first: they are told, not asked again.
            note: called with every new answer.

        Raises:
            ValueError: settings that do not go together, or answers of another run.
        """
        self.start(seed)
        baseline, evaluator, cached = self.baseline, self.evaluator, self.isomorphic_cache
        ask, tell, value_of = baseline.ask, baseline.tell, evaluator.value
        run, replayed = Run(seed), len(answers)
        counts = dict.fromkeys(evaluator.fidelities, 0)  # charged answers by epochs
        left = self.evaluations * evaluator.fidelities[-1]  # epochs
        best_epochs, best_value = 0, FAILED
        memory: dict[tuple[str, int], float | None] = {}
        seen: dict[int, set[tuple[str, ...]]] = {epochs: set() for epochs in counts}
        evaluations = 0
        while True:
            if left <= 0 or evaluations == ANSWERS * self.evaluations:
                break
            if not (asked := ask()):
                run.stopped_by = "exhausted"
                break
            candidate = asked[0]
            _, genotype, epochs = candidate
            key = (self.space.canonical_form(genotype), epochs) if cached else None
            if key is not None and key in memory:
                value = memory[key]
                run.cached += 1
            else:
                if epochs > left:
                    break
                if evaluations >= replayed:
                    value = value_of(genotype, epochs)
                else:
                    value = self._replay(answers[evaluations], genotype, epochs)
                left -= epochs
                counts[epochs] += 1
                if key is not None:
                    memory[key] = value
            if note is not None and evaluations >= replayed:
                note(Answer(str(genotype), epochs, value))
            evaluations += 1
            seen[epochs].add(genotype.operations)
            tell(candidate, value)
            if value is None:
                run.failed += 1
            elif epochs > best_epochs or (epochs == best_epochs and value > best_value):
                best_epochs, best_value = epochs, value
                run.trajectory.append(Point(evaluations, *self._spent(counts), value, str(genotype)))
        run.cost, run.images = self._spent(counts)
        run.evaluations, run.duplicates = evaluations, evaluations - sum(map(len, seen.values()))
        return run

    def _spent(self, counts: Mapping[int, int]) -> tuple[float, int]:
        """Cost and images of so many answers, by epochs."""
        evaluator = self.evaluator
        return (
            sum(count * evaluator.cost(epochs) for epochs, count in counts.items()),
            sum(count * evaluator.images(epochs) for epochs, count in counts.items()),
        )

    def _replay(self, answer: Answer, genotype: Genotype, epochs: int) -> float | None:
        if (answer.cell, answer.epochs) != (str(genotype), epochs):
            raise ValueError(
                f"answers: the method now asks for {genotype} after {epochs} epochs where it was told of {answer.cell} "
                f"after {answer.epochs}; the run was begun with other settings or versions"
            )
        return answer.value
