"""Trainable parameters of a cell's network, from shapes alone."""

from __future__ import annotations

from darts.blackbox.objectives.base import Objective
from supernet.spaces.base import Genotype


class Params(Objective):
    """Trainable parameters."""

    name, unit = "params", "M"

    def __call__(self, genotype: Genotype) -> float:
        return self.space.cost(genotype, self.size).params / 1e6
