"""What a black-box method is: it is asked for candidates and told their values.

It sees a space through `supernet.spaces.base.Space`, never into a genotype, and draws from its own generator alone. So
its state is its seed and the sequence of questions and answers: asked and told the same once more, it stands where it
stood.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from supernet.spaces.base import Genotype, Space, require

FAILED = float("-inf")  # value of a candidate whose evaluation failed


class Candidate(NamedTuple):
    """A cell to evaluate.

    Attributes:
        number: in order of asking.
        genotype: the cell.
        epochs: how long to train it; one of the lengths that the evaluator offers.
        parent: number of the candidate that it is a mutation of, or None.
        price: of two objectives the second, less is better; known when the candidate comes back with its value.
        made_by: how it came to be: name of the mutation, several joined by ``+``; None where a method does not say.
    """

    number: int
    genotype: Genotype
    epochs: int
    parent: int | None = None
    price: float | None = None
    made_by: str | None = None


class Baseline(ABC):
    """A method; its constructor takes settings, `start` what it works on.

    Attributes, after `start`:
        space: the cells.
        rng: the only source of randomness; torch's and others' generators are seeded from it.
        evaluations: the budget, in evaluations of full length.
        fidelities: lengths of training on offer, ascending; the last is full length.
        asked: number of candidates so far.
        objectives: 1, or 2 if candidates come back with a price.
        epochs: length of training of the cell that `propose` returns; full length, unless a method sets it.
        parent: number of the candidate that this cell is a mutation of, if a method sets it.
        made_by: how this cell came to be, if a method sets it.
    """

    requires: tuple[str, ...] = ()  # abilities that a space must have, of `supernet.spaces.base.ABILITIES`
    names_parents = False  # whether it sets `parent`
    upfront = 0  # images that were passed forward before it was asked first
    searches = True  # whether it looks for cells by itself
    parent: int | None
    made_by: str | None

    def start(
        self, space: Space, rng: random.Random, evaluations: int, fidelities: Sequence[int], objectives: int = 1
    ) -> None:
        """Begin anew.

        Raises:
            ValueError: settings that do not go with the space, the budget or the fidelities.
        """
        require(space, self.requires, type(self).__name__)
        self.space, self.rng = space, rng
        self.evaluations, self.fidelities, self.objectives = evaluations, tuple(fidelities), objectives
        self.asked, self.epochs, self.parent, self.made_by = 0, self.fidelities[-1], None, None
        self.lowest = self.highest = 0.0  # values that `finite` saw; 0 before the first
        self._told = False
        self.setup()

    def setup(self) -> None:
        """What a method prepares before it is asked first; raises ValueError as `start` does."""
        return

    def share(self, storage: str, name: str) -> None:
        """Learn from what other machines find too, and tell them.

        Args:
            storage: URL of a database.
            name: of what is shared in it.

        Raises:
            ValueError: the method cannot.
        """
        raise ValueError(
            f"storage: got {storage}; {type(self).__name__} shares nothing, Optuna's samplers do: baseline=tpe, gp or "
            "nsga2"
        )

    def ask(self, count: int = 1) -> list[Candidate]:
        """Up to `count` candidates; fewer if it waits for answers, or has nothing more to ask."""
        found: list[Candidate] = []
        while len(found) < count and (genotype := self.propose()) is not None:
            found.append(Candidate(self.asked, genotype, self.epochs, self.parent, None, self.made_by))
            self.asked += 1
        return found

    def tell(self, candidate: Candidate, value: float | None) -> None:
        """Answer for one candidate, in any order; None if its evaluation failed."""
        self.observe(candidate, FAILED if value is None else value)

    @abstractmethod
    def propose(self) -> Genotype | None:
        """The next cell, whose number will be `asked`; None to wait for answers, or if there is none left."""

    @abstractmethod
    def observe(self, candidate: Candidate, value: float) -> None:
        """Learn from an answer; `FAILED` if there is none."""

    def finite(self, value: float) -> float:
        """The value, or for a failed one the lowest seen so far: for methods that calculate with values."""
        if value == FAILED:
            return self.lowest
        if not self._told:
            self.lowest = self.highest = value
        self._told, self.lowest, self.highest = True, min(self.lowest, value), max(self.highest, value)
        return value

    def needs(self, name: str, number: int) -> None:
        """Refuse a setting that the budget does not reach.

        Raises:
            ValueError: the budget is smaller.
        """
        if self.evaluations < number:
            raise ValueError(
                f"{name}: got {number} with budget.evaluations={self.evaluations}; "
                f"give {name} at most the budget, or a larger budget.evaluations"
            )


def known_mutations(given: Mapping[str, float], space: Space) -> dict[str, float]:
    """Mutations by name, with how often each is taken.

    Raises:
        ValueError: one that the space does not have.
    """
    if unknown := [name for name in given if name not in space.mutations]:
        raise ValueError(f"mutations: got {unknown[0]!r}; {type(space).__name__} has {', '.join(space.mutations)}")
    return dict(given)


def at_least(name: str, value: float, least: float) -> None:
    """Refuse a setting below its least value.

    Raises:
        ValueError: it is below.
    """
    if value < least:
        raise ValueError(f"{name}: got {value}; give {least} or more")


def share(name: str, value: float) -> None:
    """Refuse a setting outside [0, 1].

    Raises:
        ValueError: it is outside.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: got {value}; give a number from 0 to 1")
