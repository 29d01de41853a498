"""Simulated annealing (Kirkpatrick, Gelatt & Vecchi 1983, Science 220:671)."""

from __future__ import annotations

import math

from darts.blackbox.methods.base import FAILED, Baseline, Candidate
from supernet.spaces.base import Genotype


class SimulatedAnnealing(Baseline):
    """A random neighbour is taken if it is better, else with probability exp(-loss / temperature).

    Args:
        hot, cold: temperature at the start and at the end of the budget, in points of accuracy; geometric between.
    """

    requires = ("mutate",)

    def __init__(self, hot: float = 1.0, cold: float = 0.03) -> None:
        if not 0 < cold <= hot:
            raise ValueError(f"hot, cold: got {hot}, {cold}; give 0 < cold <= hot")
        self.hot, self.cold = hot, cold

    def setup(self) -> None:
        self.state: tuple[float, Genotype] | None = None
        self.answers = 0

    def propose(self) -> Genotype:
        return self.space.sample(self.rng) if self.state is None else self.space.mutate(self.state[1], self.rng)

    def observe(self, candidate: Candidate, value: float) -> None:
        temperature = self.hot * (self.cold / self.hot) ** (self.answers / self.evaluations)
        self.answers += 1
        if self.state is None or self.state[0] == FAILED:
            chance = 1.0
        else:
            chance = math.exp(min(0.0, value - self.state[0]) / temperature)
        if self.rng.random() < chance:
            self.state = (value, candidate.genotype)
