"""Operations that do not compete (FairDARTS, Chu et al. 2020, arXiv:1911.12126, section 4.1)."""

from __future__ import annotations

import torch

from supernet.relaxations.base import EdgeWeights, Parameters, Relaxation


class Sigmoid(Relaxation):
    """Weights are sigmoid(alpha), each for itself; `regularizer=[zero_one]` drives them to zero and one."""

    def __call__(self, params: Parameters, progress: float, generator: torch.Generator, half: str) -> list[EdgeWeights]:
        return [self.expected(params, progress)]

    def expected(self, params: Parameters, progress: float) -> EdgeWeights:
        return EdgeWeights.dense(torch.sigmoid(params["alpha_EO"]))
