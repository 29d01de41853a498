"""The anchor of Dirichlet concentrations (DrNAS, Chen et al. 2021, arXiv:2006.10355, eq. 3)."""

from __future__ import annotations

import math

from torch import Tensor

from darts.search.regularizers.base import Regularizer
from supernet.relaxations.base import Parameters, Relaxation
from supernet.relaxations.dirichlet import concentration


class DirichletAnchor(Regularizer):
    """weight * the sum over edges of the divergence KL(Dir(elu(alpha) + 1) || Dir(1)), for `relaxation=dirichlet`.

    Args:
        weight: the coefficient; 1e-3 in the paper.
    """

    def __init__(self, weight: float = 1e-3) -> None:
        super().__init__(weight)

    def __call__(self, params: Parameters, relaxation: Relaxation, progress: float) -> Tensor:
        open_EO = params["alpha_EO"] > -math.inf
        a_EO = concentration(params["alpha_EO"])
        total_E, number_E = a_EO.sum(dim=-1), open_EO.sum(dim=-1)
        a_EO = a_EO.where(open_EO, 1.0)  # closed ones: zero in every term below
        terms_EO = -a_EO.lgamma() + (a_EO - 1) * (a_EO.digamma() - total_E.digamma()[:, None])
        return self.weight * (total_E.lgamma() - number_E.to(a_EO).lgamma() + terms_EO.sum(dim=-1)).sum()
