"""The zero-one loss (FairDARTS, Chu et al. 2020, arXiv:1911.12126, eq. 6)."""

from __future__ import annotations

from torch import Tensor

from darts.search.regularizers.base import Regularizer
from supernet.relaxations.base import Parameters, Relaxation


class ZeroOne(Regularizer):
    """-weight * the mean over edges and operations of (edge weight - 1/2)^2, for `relaxation=sigmoid`.

    Args:
        weight: the coefficient; 10 in the paper.
    """

    def __init__(self, weight: float = 10.0) -> None:
        super().__init__(weight)

    def __call__(self, params: Parameters, relaxation: Relaxation, progress: float) -> Tensor:
        return -self.weight * (relaxation.expected(params, progress).mean_EO - 0.5).square().mean()
