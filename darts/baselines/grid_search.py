"""Grid search: the cells of a regular grid over the whole space, each once."""

from __future__ import annotations

from darts.baselines.base import Baseline, Candidate
from supernet.genotype import Genotype


class GridSearch(Baseline):
    """As many cells as the budget allows, evenly spaced in the order of their index, from a place drawn at random.

    A budget as large as the space visits every cell.
    """

    def setup(self) -> None:
        self.offset = self.rng.randrange(self.space.size)
        self.points = min(self.evaluations, self.space.size)

    def propose(self) -> Genotype | None:
        if self.asked == self.points:
            return None
        place = self.asked * self.space.size // self.points
        return self.space.genotype((self.offset + place) % self.space.size)

    def observe(self, candidate: Candidate, value: float) -> None:
        return None
