"""A price on indecision: the entropy of the edge weights."""

from __future__ import annotations

import torch
from torch import Tensor

from darts.search.regularizers.base import Regularizer
from supernet.relaxations.base import Parameters, Relaxation


class Entropy(Regularizer):
    """weight * progress * the mean over edges of the entropy of the edge's weights, rescaled to sum to one, in nats.

    Towards the end it leaves one operation an edge, so that little changes when the cell is derived.

    Args:
        weight: the coefficient at the end of the search.
    """

    def __init__(self, weight: float = 0.1) -> None:
        super().__init__(weight)

    def __call__(self, params: Parameters, relaxation: Relaxation, progress: float) -> Tensor:
        weights_EO = relaxation.expected(params, progress).mean_EO
        p_EO = weights_EO / weights_EO.sum(dim=-1, keepdim=True)
        return -self.weight * progress * torch.xlogy(p_EO, p_EO.clamp(min=1e-30)).sum(dim=-1).mean()
