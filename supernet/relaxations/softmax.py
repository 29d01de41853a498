"""The softmax over operations (DARTS, Liu et al. 2019, arXiv:1806.09055, eq. 2)."""

from __future__ import annotations

import math

import torch

from supernet.relaxations.base import EdgeWeights, Parameters, Relaxation, probabilities


class Softmax(Relaxation):
    """Weights of an edge are softmax(alpha / temperature) over its operations.

    Args:
        temperature: below one sharpens, above one flattens; DARTS uses 1.
        init_scale: standard deviation of the initial parameters.

    Raises:
        ValueError: temperature is not positive.
    """

    def __init__(self, temperature: float = 1.0, init_scale: float = 1e-3) -> None:
        super().__init__(init_scale)
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature: got {temperature}; give a number above 0")
        self.temperature = temperature

    def __call__(self, params: Parameters, progress: float, generator: torch.Generator, half: str) -> list[EdgeWeights]:
        return [self.expected(params, progress)]

    def expected(self, params: Parameters, progress: float) -> EdgeWeights:
        return EdgeWeights.dense(probabilities(params["alpha_EO"], self.temperature))
