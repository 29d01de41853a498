"""Beta decay (Ye et al. 2022, beta-DARTS, arXiv:2203.01665, eq. 9 with its linear weight)."""

from __future__ import annotations

from torch import Tensor

from darts.search.regularizers.base import Regularizer
from supernet.relaxations.base import Parameters, Relaxation


class BetaDecay(Regularizer):
    """weight * progress * the mean over edges of logsumexp over operations of alpha.

    Args:
        weight: the coefficient at the end of the search; 50 in the paper.
    """

    def __init__(self, weight: float = 50.0) -> None:
        super().__init__(weight)

    def __call__(self, params: Parameters, relaxation: Relaxation, progress: float) -> Tensor:
        return self.weight * progress * params["alpha_EO"].logsumexp(dim=-1).mean()
