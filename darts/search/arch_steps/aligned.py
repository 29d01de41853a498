"""Cells of all depths should want the same of the architecture (Movahedi et al. 2022, Lambda-DARTS, arXiv:2210.07998).

Shape suffixes: L cells, E edges, O operations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from darts.search.arch_steps.base import ArchStep, frozen, gradients
from darts.search.state import SearchState
from darts.tasks.base import Batch
from supernet.norm import held_statistics
from supernet.relaxations.base import EdgeWeights, Relaxation, opened


class Aligned(ArchStep):
    """The first-order gradient, plus that of -weight * progress * Lambda: the mean over pairs of cells of the cosine
    between the gradients g_l that the cells would have, had each parameters of its own (eq. 7).

    The gradient of Lambda is the Hessian times a direction, taken by central differences (eq. 10): two passes more.

    Args:
        weight: of the alignment at the end of the search; 0.25 in the paper's experiments on NAS-Bench-201.
        epsilon: norm of the step of the differences.
        lr, betas, weight_decay, own: see `ArchStep`.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(
        self,
        weight: float = 0.25,
        epsilon: float = 1e-4,
        lr: float = 3e-4,
        betas: Sequence[float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        own: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(lr, betas, weight_decay, own)
        if not weight >= 0:
            raise ValueError(f"weight: got {weight}; give 0 or more")
        if not epsilon > 0:
            raise ValueError(f"epsilon: got {epsilon}; give a length above 0")
        self.weight, self.epsilon = weight, epsilon

    def passes(self, relaxation: Relaxation) -> int:
        return 3 * relaxation.paths("architecture")

    def gradient(self, state: SearchState, train_batch: Batch, valid_batch: Batch) -> tuple[list[Tensor], float]:
        part, params = "validation loss in the architecture step", list(state.params.values())
        alpha_LEO = state.params["alpha_EO"].detach().expand(int(state.network.num_cells), -1, -1)  # type: ignore[arg-type]
        noise = state.noise()

        def of_cells(moved_LEO: Tensor, extra: Tensor | float = 0.0) -> tuple[list[Tensor], float]:
            state.noise(noise)  # all passes sample alike
            leaf_LEO = moved_LEO.clone().requires_grad_()
            return gradients(state, valid_batch, self._paths(state, leaf_LEO), part, [leaf_LEO, *params], extra)

        with frozen(state.network), held_statistics(state.network):
            (own_LEO, *found), loss = of_cells(alpha_LEO, state.regularization())
            total_EO, away_LEO = own_LEO.sum(dim=0), direction(own_LEO)
            length = away_LEO.norm()
            if length > 0:
                step = self.epsilon / length
                ahead, behind = (of_cells(alpha_LEO + sign * step * away_LEO)[0][0].sum(dim=0) for sign in (1, -1))
                total_EO = total_EO - self.weight * state.progress * (ahead - behind) / (2 * step)
        place = list(state.params).index("alpha_EO")
        found[place] = found[place] + total_EO
        return found, loss

    @staticmethod
    def _paths(state: SearchState, alpha_LEO: Tensor) -> list[EdgeWeights]:
        """Those of the relaxation with parameters for each cell."""
        noise, cells = state.noise(), []
        for alpha_EO in alpha_LEO:
            state.noise(noise)
            params = opened({**state.params, "alpha_EO": alpha_EO}, state.allowed_EO)
            cells.append(state.relaxation(params, state.progress, state.sampling, "architecture"))
        return [state.placed(_stacked(path)) for path in zip(*cells, strict=True)]


def _stacked(cells: Sequence[EdgeWeights]) -> EdgeWeights:
    active = tuple(
        tuple(any(marks) for marks in zip(*rows, strict=True))
        for rows in zip(*(one.active_EO for one in cells), strict=True)
    )
    return replace(cells[0], weights=torch.stack([one.weights for one in cells]), active_EO=active)


def direction(gradient_LEO: Tensor) -> Tensor:
    """Derivative (L, E, O) of Lambda by the gradients of the cells; zero for a cell whose gradient is zero."""
    flat_LP = gradient_LEO.flatten(1)
    norm_L1 = flat_LP.norm(dim=1, keepdim=True)
    unit_LP = torch.where(norm_L1 > 0, flat_LP / norm_L1.clamp_min(1e-30), 0)
    others_LP = unit_LP.sum(dim=0) - unit_LP
    across_LP = others_LP - (others_LP * unit_LP).sum(dim=1, keepdim=True) * unit_LP
    pairs = max(1, len(flat_LP) * (len(flat_LP) - 1) // 2)
    return torch.where(norm_L1 > 0, across_LP / norm_L1.clamp_min(1e-30) / pairs, 0).view_as(gradient_LEO)
