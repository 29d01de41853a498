"""One run of a black-box method: ask, evaluate, tell, until the budget is spent."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from darts.blackbox.evaluators.base import FULL_IMAGES, Evaluator, Outcome
from darts.blackbox.methods.base import FAILED, Baseline, Candidate
from darts.blackbox.objectives.base import Objective
from darts.blackbox.pareto import Front, Member
from supernet.spaces.base import Genotype, Space

MOST = 100  # evaluations a cell of the space; more than that is a slip of the finger
ANSWERS = 20  # a run ends after so many answers an evaluation of its budget, when most come from the cache


class Answer(NamedTuple):
    """What a method was told of one candidate, and when.

    Attributes:
        cell, epochs: the candidate.
        outcome: of its evaluation.
        price: its second objective, if there is one; less is better.
        seconds: that the run had been working.
        made_by: how the candidate came to be, see `Candidate`.
    """

    cell: str
    epochs: int
    outcome: Outcome
    price: float | None
    seconds: float
    made_by: str | None = None


@dataclass
class Point:
    """A new incumbent.

    Attributes:
        evaluations: answers so far.
        cost: of them, in full trainings.
        images: passed forward so far.
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
        evaluations: answers, `failed`, `stopped`, `duplicates` and `cached` ones among them.
        cost: in full trainings.
        images: passed forward.
        stopped_by: ``evaluations``, or ``exhausted`` if the method had nothing more to ask.
        seconds: working time at every point of the trajectory, and at the end.
        front: of two objectives, the cells that none beats in both, by falling price; see `darts.blackbox.pareto`.
        hypervolume: of the front, as a share of the table's own; see `darts.blackbox.pareto.TrueFront`.
        report: further numbers, from the evaluator.
    """

    seed: int
    trajectory: list[Point] = field(default_factory=list)
    evaluations: int = 0
    failed: int = 0
    stopped: int = 0
    duplicates: int = 0
    cached: int = 0
    cost: float = 0.0
    images: int = 0
    stopped_by: str = "evaluations"
    seconds: list[float] = field(default_factory=list, compare=False)
    front: list[Member] = field(default_factory=list)
    hypervolume: float | None = None
    report: dict[str, float] = field(default_factory=dict)


class BlackBox:
    """A method, what it searches and what answers it.

    As many candidates are under way at once as the evaluator has workers; answers are told in order of asking, so
    a run does not depend on which of them is ready first. The incumbent is the cell with the highest value among
    those trained longest; of equal ones the first.

    Args:
        baseline, space, evaluator: the parts; the evaluator is open.
        evaluations: the budget: answers of full length, failed ones too. A shorter one takes its share, epochs by
            epochs, also one that the evaluator stopped early.
        isomorphic_cache: answer a cell that computes the same as one before (`Space.canonical_form`) from
            memory, free of charge.
        objective: a second objective.
    """

    def __init__(
        self,
        baseline: Baseline,
        space: Space,
        evaluator: Evaluator,
        evaluations: int,
        isomorphic_cache: bool = False,
        objective: Objective | None = None,
    ) -> None:
        most = MOST * (space.size or 2**63)
        if not 1 <= evaluations <= most:
            known = f" to {most:,}, {MOST} times the {space.size:,} cells there are" if space.size else " or more"
            raise ValueError(f"evaluations: got {evaluations:,}; give 1{known}")
        self.baseline, self.space, self.evaluator = baseline, space, evaluator
        self.evaluations, self.isomorphic_cache, self.objective = evaluations, isomorphic_cache, objective

    def start(self, seed: int) -> None:
        """Ready the method for a run; raises ValueError as `Baseline.start` does."""
        rng = random.Random(f"{seed}/{type(self.baseline).__name__}")
        objectives = 1 if self.objective is None else 2
        self.baseline.start(self.space, rng, self.evaluations, self.evaluator.fidelities, objectives)

    def run(
        self,
        seed: int,
        answers: Sequence[Answer] = (),
        note: Callable[[Answer], None] | None = None,
        folder: Path | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Run:
        """One run from its start.

        Args:
            seed: of the method's generator.
            answers: of an interrupted run of the same settings, from its first: they are told, not asked again.
            note: called with every new answer, before the method is told.
            folder: where the evaluator may keep what it needs while this run lasts.
            stopped: whether the run was asked to stop; looked at before every question.

        Raises:
            KeyboardInterrupt: it was.
            ValueError: settings that do not go together, or answers of another run.
        """
        self.start(seed)
        self.evaluator.begin(folder)
        baseline, evaluator, cached, objective = self.baseline, self.evaluator, self.isomorphic_cache, self.objective
        ask, tell, submit, learn = baseline.ask, baseline.tell, evaluator.submit, evaluator.learn
        width, most, replayed = evaluator.workers, ANSWERS * self.evaluations, len(answers)
        left = self.evaluations * evaluator.fidelities[-1]  # epochs
        begun = time.perf_counter() - (answers[-1].seconds if answers else 0.0)
        run = Run(seed)
        tally = _Tally(run, evaluator, baseline.upfront)
        memory: dict[tuple[str, int], Callable[[], Outcome]] = {}
        waiting: deque[tuple[Candidate, bool, Callable[[], Outcome]]] = deque()
        asked = told = 0
        while True:
            if stopped():
                raise KeyboardInterrupt
            if left > 0 and asked < most and len(waiting) < width and (found := ask()):
                candidate, free = found[0], False
                _, genotype, epochs, *_ = candidate
                if cached:
                    key = (self.space.canonical_form(genotype), epochs)
                    free = key in memory
                if free:
                    pending = memory[key]
                elif epochs > left:
                    most = asked  # nothing more fits
                    continue
                else:
                    left -= epochs
                    pending = submit(candidate) if asked >= replayed else self._replay(answers[asked], candidate)
                    if cached:
                        memory[key] = pending
                if objective is not None:
                    price = objective(genotype) if asked >= replayed else answers[asked].price
                    candidate = candidate._replace(price=price)
                asked += 1
                if width > 1:
                    waiting.append((candidate, free, pending))
                    continue
            elif waiting:
                candidate, free, pending = waiting.popleft()
            else:
                break
            value, taken, _ = outcome = pending()
            if not free:
                if taken < candidate[2] and value is not None:  # it was stopped early
                    left += candidate[2] - taken
                learn(candidate, outcome)
            if note is not None and told >= replayed:
                _, genotype, epochs, _, price, made_by = candidate
                note(Answer(str(genotype), epochs, outcome, price, time.perf_counter() - begun, made_by))
            if tally.count(candidate, outcome, free):
                run.seconds.append(time.perf_counter() - begun if told >= replayed else answers[told].seconds)
            told += 1
            tell(candidate, value)
        if left > 0 and asked < most:
            run.stopped_by = "exhausted"
        tally.finish()
        run.seconds.append(time.perf_counter() - begun)
        return run

    def _replay(self, answer: Answer, candidate: Candidate) -> Callable[[], Outcome]:
        genotype, epochs = candidate.genotype, candidate.epochs
        if (answer.cell, answer.epochs) != (str(genotype), epochs):
            raise ValueError(
                f"answers: the method now asks for {genotype} after {epochs} epochs where it was told of {answer.cell} "
                f"after {answer.epochs}; the run was begun with other settings or versions"
            )
        return lambda: answer.outcome


class _Tally:
    """What a run has found and spent so far."""

    def __init__(self, run: Run, evaluator: Evaluator, upfront: int) -> None:
        self.run, self.evaluator, self.front, self.answers = run, evaluator, Front(), 0
        self.upfront = evaluator.upfront + upfront
        self.spent: dict[int, int] = {}  # charged answers by the epochs that they took
        self.seen: dict[int, set[Genotype]] = {epochs: set() for epochs in evaluator.fidelities}
        self.best = (0, FAILED)  # epochs and value of the incumbent

    def count(self, candidate: Candidate, outcome: Outcome, free: bool) -> bool:
        """One more answer; whether it is a new incumbent."""
        _, genotype, reached, _, price, _ = candidate
        value, taken, curve = outcome
        self.answers += 1
        self.seen[reached].add(genotype)
        if free:
            self.run.cached += 1
        else:
            self.spent[taken] = self.spent.get(taken, 0) + 1
        if value is None:
            self.run.failed += 1
            return False
        if curve and len(curve) < reached:
            reached = len(curve)
            self.run.stopped += 1
        if price is not None:
            self.front.add(Member(str(genotype), value, price), reached)
        if (reached, value) <= self.best:
            return False
        self.best = (reached, value)
        self.run.trajectory.append(Point(self.answers, *self._spent(), value, str(genotype)))
        return True

    def finish(self) -> None:
        """The last answer was counted."""
        run = self.run
        run.cost, run.images = self._spent()
        run.evaluations, run.duplicates = self.answers, self.answers - sum(map(len, self.seen.values()))
        run.front, run.report = self.front.members, self.evaluator.report()

    def _spent(self) -> tuple[float, int]:
        """Cost and images of all answers."""
        evaluator = self.evaluator
        return (
            self.upfront / FULL_IMAGES + sum(n * evaluator.cost(epochs) for epochs, n in self.spent.items()),
            self.upfront + sum(n * evaluator.images(epochs) for epochs, n in self.spent.items()),
        )
