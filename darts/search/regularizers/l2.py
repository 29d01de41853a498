"""A price on large architecture parameters."""

from __future__ import annotations

import math

from torch import Tensor

from darts.search.regularizers.base import Regularizer
from supernet.relaxations.base import Parameters, Relaxation


class L2(Regularizer):
    """weight / 2 * the sum of squares of alpha; `arch_step.weight_decay` is the same of all parameters.

    Args:
        weight: the coefficient.
    """

    def __init__(self, weight: float = 1e-3) -> None:
        super().__init__(weight)

    def __call__(self, params: Parameters, relaxation: Relaxation, progress: float) -> Tensor:
        alpha_EO = params["alpha_EO"]
        return self.weight / 2 * alpha_EO.masked_fill(alpha_EO == -math.inf, 0.0).square().sum()
