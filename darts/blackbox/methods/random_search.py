"""Random search: the yardstick of all others (Li & Talwalkar 2019, arXiv:1902.07638)."""

from __future__ import annotations

from darts.blackbox.methods.base import Baseline, Candidate
from supernet.spaces.base import Genotype


class RandomSearch(Baseline):
    """Cells drawn uniformly, with replacement."""

    def propose(self) -> Genotype:
        return self.space.sample(self.rng)

    def observe(self, candidate: Candidate, value: float) -> None:
        return None
