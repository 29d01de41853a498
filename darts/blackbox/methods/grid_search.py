"""Grid search: the cells of a regular grid over the whole space, each once."""

from __future__ import annotations

from darts.blackbox.methods.base import Baseline, Candidate
from supernet.spaces.base import Genotype


class GridSearch(Baseline):
    """As many cells as the budget allows, evenly spaced in the order of their index, from a place drawn at random.

    A budget as large as the space visits every cell.
    """

    requires = ("size",)

    def setup(self) -> None:
        self.count = self.space.size or 0
        self.offset = self.rng.randrange(self.count)
        self.points = min(self.evaluations, self.count)

    def propose(self) -> Genotype | None:
        if self.asked == self.points:
            return None
        place = self.asked * self.count // self.points
        return self.space.genotype((self.offset + place) % self.count)

    def observe(self, candidate: Candidate, value: float) -> None:
        return None
