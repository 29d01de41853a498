"""The Gumbel softmax: a soft sample of one operation an edge (SNAS, Xie et al. 2019, arXiv:1812.09926, eq. 5)."""

from __future__ import annotations

import torch

from supernet.relaxations.base import EdgeWeights, Parameters, Relaxation, Temperature, gumbel, probabilities


class GumbelSoftmax(Relaxation):
    """Weights of an edge are softmax((log p + G) / temperature) with p = softmax(alpha) and G standard Gumbel.

    The temperature falls linearly with the progress of the search.

    Args:
        temperature, temperature_end: first and last temperature.
        init_scale: standard deviation of the initial parameters.

    Raises:
        ValueError: a temperature is not positive.
    """

    def __init__(self, temperature: float = 1.0, temperature_end: float = 0.03, init_scale: float = 1e-3) -> None:
        super().__init__(init_scale)
        self.temperature = Temperature(temperature, temperature_end)

    def __call__(self, params: Parameters, progress: float, generator: torch.Generator, half: str) -> list[EdgeWeights]:
        noisy_EO = gumbel(params["alpha_EO"], generator)
        return [EdgeWeights.dense(torch.softmax(noisy_EO / self.temperature(progress), dim=-1))]

    def expected(self, params: Parameters, progress: float) -> EdgeWeights:
        return EdgeWeights.dense(probabilities(params["alpha_EO"]))
