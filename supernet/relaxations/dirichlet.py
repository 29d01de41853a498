"""Edge weights drawn from a Dirichlet distribution (DrNAS, Chen et al. 2021, arXiv:2006.10355, section 3.1)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.relaxations.base import EdgeWeights, Parameters, Relaxation, seeded


def concentration(alpha_EO: Tensor) -> Tensor:
    """elu(alpha) + 1, above zero; zero for operations that are not allowed."""
    return F.elu(alpha_EO) + 1


class Dirichlet(Relaxation):
    """Weights of an edge are a sample of Dir(elu(alpha) + 1), differentiable along the path.

    With small concentrations the samples lie in corners, which explores; `regularizer=[dirichlet_anchor]` keeps the
    concentrations near one.
    """

    def __call__(self, params: Parameters, progress: float, generator: torch.Generator, half: str) -> list[EdgeWeights]:
        alpha_EO = params["alpha_EO"]
        open_EO = alpha_EO > -math.inf
        with seeded(generator):  # torch's distributions draw from its global generator
            gamma_EO = torch.distributions.Gamma(concentration(alpha_EO).where(open_EO, 1.0), 1.0).rsample()
        gamma_EO = gamma_EO * open_EO
        return [EdgeWeights.dense(gamma_EO / gamma_EO.sum(dim=-1, keepdim=True))]

    def expected(self, params: Parameters, progress: float) -> EdgeWeights:
        mean_EO = concentration(params["alpha_EO"])
        return EdgeWeights.dense(mean_EO / mean_EO.sum(dim=-1, keepdim=True))
