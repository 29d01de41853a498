"""REINFORCE on a softmax policy (Williams 1992, Machine Learning 8:229), as NAS-Bench-201 runs it."""

from __future__ import annotations

import torch

from darts.blackbox.methods.base import Baseline, Candidate, at_least, share
from supernet.spaces.base import Genotype


class Reinforce(Baseline):
    """One softmax a decision; Adam ascends log-probability times reward minus a moving average of rewards.

    A reward is the accuracy in points.

    Args:
        lr: of Adam.
        momentum: of the moving average; the first reward starts it.
    """

    requires = ("decided", "choices")

    def __init__(self, lr: float = 0.05, momentum: float = 0.9) -> None:
        at_least("lr", lr, 0)
        share("momentum", momentum)
        self.lr, self.momentum = lr, momentum

    def setup(self) -> None:
        self.logits = [torch.zeros(count, dtype=torch.float64) for count in self.space.choices]
        self.optimizer = torch.optim.Adam(self.logits, lr=self.lr)
        self.average: float | None = None
        self.probabilities = [[1 / count] * count for count in self.space.choices]

    def propose(self) -> Genotype:
        drawn = [self.rng.choices(range(len(row)), weights=row)[0] for row in self.probabilities]
        return self.space.decided(drawn)

    def observe(self, candidate: Candidate, value: float) -> None:
        reward = self.finite(value)
        self.average = reward if self.average is None else self.momentum * self.average + (1 - self.momentum) * reward
        advantage = reward - self.average
        for logits, choice in zip(self.logits, self.space.decisions(candidate.genotype), strict=True):
            logits.grad = advantage * torch.softmax(logits, dim=0)  # of minus the objective
            logits.grad[choice] -= advantage
        self.optimizer.step()
        self.probabilities = [torch.softmax(logits, dim=0).tolist() for logits in self.logits]
