"""One operation an edge, drawn uniformly (Single Path One-Shot, Guo et al. 2020, arXiv:1904.00420, section 3.2)."""

from __future__ import annotations

import math

import torch

from supernet.relaxations.base import EdgeWeights, Parameters, Relaxation


class SinglePath(Relaxation):
    """Trains weights that all cells share, and no architecture: what is drawn does not depend on the parameters.

    For a search whose last phase chooses among cells by the weights they inherit; so can `darts baseline
    evaluator=supernet`.
    """

    trains_architecture = False

    def __call__(self, params: Parameters, progress: float, generator: torch.Generator, half: str) -> list[EdgeWeights]:
        alpha_EO = params["alpha_EO"]
        num_edges, num_operations = alpha_EO.shape
        allowed_EO = alpha_EO > -math.inf
        if allowed_EO.all():
            choice_E = torch.randint(num_operations, (num_edges,), generator=generator)
        else:
            choice_E = torch.multinomial(allowed_EO.to(alpha_EO.dtype), 1, generator=generator)[:, 0]
        return [EdgeWeights.one_hot(choice_E.tolist(), num_operations, alpha_EO.dtype)]

    def expected(self, params: Parameters, progress: float) -> EdgeWeights:
        allowed_EO = (params["alpha_EO"] > -math.inf).to(params["alpha_EO"].dtype)
        return EdgeWeights.dense(allowed_EO / allowed_EO.sum(dim=-1, keepdim=True))
