"""One operation an edge, drawn uniformly (Single Path One-Shot, Guo et al. 2020, arXiv:1904.00420, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from supernet.relaxations.base import EdgeWeights, Parameters, Relaxation


class SinglePath(Relaxation):
    """Trains weights that all cells share, and no architecture: what is drawn does not depend on the parameters.

    For a search whose phases train weights alone; `darts baseline evaluator=supernet` then looks for the cell.
    """

    def __call__(self, params: Parameters, progress: float, generator: torch.Generator) -> list[EdgeWeights]:
        num_edges, num_operations = params["alpha_EO"].shape
        choice_E = torch.randint(num_operations, (num_edges,), generator=generator)
        return [EdgeWeights.one_hot(choice_E.tolist(), num_operations, params["alpha_EO"].dtype)]

    def expected(self, params: Parameters) -> Tensor:
        return torch.full_like(params["alpha_EO"], 1 / params["alpha_EO"].shape[-1])
