"""Trainable parameters of a cell's network, from shapes alone."""

from __future__ import annotations

from darts.objectives.base import Objective
from supernet.cost import genotype_cost
from supernet.genotype import Genotype


class Params(Objective):
    """Trainable parameters."""

    name, unit = "params", "M"

    def __call__(self, genotype: Genotype) -> float:
        return genotype_cost(genotype, self.size).params / 1e6
