"""One sampled operation an edge, soft gradients (GDAS, Dong & Yang 2019, arXiv:1910.04465, eq. 7)."""

from __future__ import annotations

import torch

from supernet.relaxations.base import EdgeWeights, Parameters
from supernet.relaxations.gumbel_softmax import GumbelSoftmax


class GDAS(GumbelSoftmax):
    """The largest of a Gumbel softmax sample is computed, alone and with weight one.

    Backwards the weight is that of the soft sample (straight-through): the estimate is biased, the less the lower
    the temperature, and costs one path.

    Args:
        temperature, temperature_end: first and last temperature.
        init_scale: standard deviation of the initial parameters.

    Raises:
        ValueError: a temperature is not positive.
    """

    def __init__(self, temperature: float = 10.0, temperature_end: float = 0.1, init_scale: float = 1e-3) -> None:
        super().__init__(temperature, temperature_end, init_scale)

    def __call__(self, params: Parameters, progress: float, generator: torch.Generator, half: str) -> list[EdgeWeights]:
        [soft] = super().__call__(params, progress, generator, half)
        choice_E = soft.weights.argmax(dim=-1).tolist()
        return [EdgeWeights.one_hot(choice_E, soft.weights.shape[-1], soft.weights.dtype).backwards(soft.weights)]
