"""Multiply-adds of a cell's network, from shapes alone."""

from __future__ import annotations

from darts.blackbox.objectives.base import Objective
from supernet.spaces.base import Genotype


class Flops(Objective):
    """Multiply-adds of one image."""

    name, unit = "flops", "M multiply-adds"

    def __call__(self, genotype: Genotype) -> float:
        return self.space.cost(genotype, self.size).flops / 1e6
