"""Strictly fair single paths (FairNAS, Chu et al. 2021, arXiv:1907.01845, algorithm 1)."""

from __future__ import annotations

import math

import torch

from supernet.relaxations.base import EdgeWeights, Parameters
from supernet.relaxations.single_path import SinglePath
from supernet.spaces.base import Space


class FairPaths(SinglePath):
    """As many paths a weight step as there are operations: every edge goes through its operations once, in an order
    of its own, and the weights move after all of them. Trains shared weights, and no architecture.

    Args:
        space: of the search, for the number of operations.
        init_scale: as in every relaxation; the parameters are not used.
    """

    def __init__(self, space: Space, init_scale: float = 1e-3) -> None:
        super().__init__(init_scale)
        self.number = len(space.candidates)

    def paths(self, half: str) -> int:
        return self.number if half == "weights" else 1

    def __call__(self, params: Parameters, progress: float, generator: torch.Generator, half: str) -> list[EdgeWeights]:
        if half != "weights":
            return super().__call__(params, progress, generator, half)
        alpha_EO = params["alpha_EO"]
        orders = []
        for alpha_O in alpha_EO:
            allowed = (alpha_O > -math.inf).nonzero().flatten()
            orders.append(allowed[torch.randperm(len(allowed), generator=generator)].tolist())
        return [
            EdgeWeights.one_hot([order[turn % len(order)] for order in orders], self.number, alpha_EO.dtype)
            for turn in range(self.number)
        ]
