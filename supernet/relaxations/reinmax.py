"""One sampled operation an edge, a gradient of second order (ReinMax, Liu et al. 2023, arXiv:2304.08612, alg. 2)."""

from __future__ import annotations

import torch

from supernet.relaxations.base import EdgeWeights, Parameters, gumbel, probabilities
from supernet.relaxations.gumbel_softmax import GumbelSoftmax


class ReinMax(GumbelSoftmax):
    """Weight one for a sampled operation; the estimate of the gradient is exact where the loss is quadratic in the
    weights and the temperature is one.

    It needs the loss's derivative by every weight, so all operations are computed.

    Args:
        temperature, temperature_end: first and last temperature of the estimate; 1 or more is advised.
        init_scale: standard deviation of the initial parameters.

    Raises:
        ValueError: a temperature is not positive.
    """

    def __init__(self, temperature: float = 1.0, temperature_end: float = 1.0, init_scale: float = 1e-3) -> None:
        super().__init__(temperature, temperature_end, init_scale)

    def __call__(self, params: Parameters, progress: float, generator: torch.Generator, half: str) -> list[EdgeWeights]:
        alpha_EO = params["alpha_EO"].clamp(min=-1e9)  # differences of infinities are none
        choice_E = gumbel(params["alpha_EO"].detach(), generator).argmax(dim=-1).tolist()
        hard = EdgeWeights.one_hot(choice_E, alpha_EO.shape[-1], alpha_EO.dtype)
        p_EO = probabilities(alpha_EO)
        half_EO = (hard.weights + torch.softmax(alpha_EO / self.temperature(progress), dim=-1)) / 2
        middle_EO = torch.softmax((half_EO.log() - alpha_EO).detach() + alpha_EO, dim=-1)
        return [EdgeWeights.dense(hard.backwards(2 * middle_EO - p_EO / 2).weights)]
