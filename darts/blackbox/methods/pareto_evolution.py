"""Aging evolution for two objectives: tournaments that the undominated win."""

from __future__ import annotations

import math

from darts.blackbox.methods.base import FAILED, Candidate
from darts.blackbox.methods.regularized_evolution import Rated, RegularizedEvolution
from darts.blackbox.pareto import front_of


class ParetoEvolution(RegularizedEvolution):
    """`RegularizedEvolution` whose parent is drawn from those of the sample that no other one dominates in value and
    price (Real et al. 2019, arXiv:1802.01548; tournaments by dominance after Horn et al. 1994, ICEC).

    With one objective it is regularized evolution with ties drawn.

    Args:
        population, sample, remove: see `RegularizedEvolution`; ``worst`` is the worst in value.
    """

    usual = 50

    def __init__(self, population: int | None = None, sample: int = 20, remove: str = "oldest") -> None:
        super().__init__(population, sample, remove)

    def setup(self) -> None:
        super().setup()
        self.prices: dict[int, float] = {}  # by number of the candidate

    def winner(self) -> Rated:
        count, draw = len(self.members), self.rng.random
        sample = [self.members[int(draw() * count)] for _ in range(self.sample)]
        pairs = [(value, self.prices[number]) for value, number, _ in sample]
        front = set(front_of(pairs))
        return self.rng.choice([rated for rated, pair in zip(sample, pairs, strict=True) if pair in front])

    def observe(self, candidate: Candidate, value: float) -> None:
        price = 0.0 if candidate.price is None else candidate.price
        self.prices[candidate.number] = math.inf if value == FAILED else price
        super().observe(candidate, value)
