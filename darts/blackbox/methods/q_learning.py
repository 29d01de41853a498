"""Tabular Q-learning over the decisions that make a cell (Baker et al. 2017, arXiv:1611.02167)."""

from __future__ import annotations

from darts.blackbox.methods.base import Baseline, Candidate, at_least, share
from supernet.spaces.base import Genotype


class QLearning(Baseline):
    """A state is the decision to be made and the choice of the one before; the reward comes with the last decision.

    Actions are epsilon-greedy; epsilon falls linearly from 1 to `epsilon` over the first `explore` of the budget.
    Values are updated backwards along a cell with step size `step` and no discount, on the new cell and on
    `replay` remembered ones. Rewards are accuracies as a share of 1.

    Args:
        step: in (0, 1].
        epsilon: share of random actions at the end.
        explore: share of the budget over which epsilon falls.
        replay: remembered cells a new one.
    """

    requires = ("decided", "choices")

    def __init__(self, step: float = 0.2, epsilon: float = 0.1, explore: float = 0.5, replay: int = 30) -> None:
        for name, value in (("step", step), ("epsilon", epsilon), ("explore", explore)):
            share(name, value)
        at_least("replay", replay, 0)
        self.step, self.epsilon, self.explore, self.replay = step, epsilon, explore, replay

    def setup(self) -> None:
        choices = self.space.choices
        self.values = [  # by decision, choice before, choice
            [[0.0] * count for _ in range(before)] for before, count in zip((1, *choices), choices, strict=False)
        ]
        self.memory: list[tuple[tuple[int, ...], float]] = []

    def propose(self) -> Genotype:
        fallen = self.asked / max(1.0, self.explore * self.evaluations)
        epsilon = max(self.epsilon, 1 - (1 - self.epsilon) * fallen)
        decisions: list[int] = []
        for table in self.values:
            row = table[decisions[-1] if decisions else 0]
            if self.rng.random() < epsilon:
                decisions.append(self.rng.randrange(len(row)))
            else:
                best = max(row)
                decisions.append(self.rng.choice([choice for choice, value in enumerate(row) if value == best]))
        return self.space.decided(decisions)

    def observe(self, candidate: Candidate, value: float) -> None:
        self.memory.append((self.space.decisions(candidate.genotype), self.finite(value) / 100))
        self._learn(*self.memory[-1])
        for decisions, reward in self.rng.choices(self.memory, k=self.replay):
            self._learn(decisions, reward)

    def _learn(self, decisions: tuple[int, ...], reward: float) -> None:
        target = reward
        for place in reversed(range(len(decisions))):
            row = self.values[place][decisions[place - 1] if place else 0]
            row[decisions[place]] += self.step * (target - row[decisions[place]])
            target = max(row)
