"""The gradient of the validation loss at the current weights (DARTS, arXiv:1806.09055, eq. 6 with xi = 0)."""

from __future__ import annotations

from torch import Tensor

from darts.search.arch_steps.base import ArchStep, frozen, gradients
from darts.search.state import SearchState
from darts.tasks.base import Batch
from supernet.norm import held_statistics


class FirstOrder(ArchStep):
    """Treats the current weights as optimal: one forward and one backward pass on the validation batch."""

    def gradient(self, state: SearchState, train_batch: Batch, valid_batch: Batch) -> tuple[list[Tensor], float]:
        with frozen(state.network), held_statistics(state.network):
            paths = state.edge_weights("architecture")
            part, params = "validation loss in the architecture step", list(state.params.values())
            return gradients(state, valid_batch, paths, part, params, state.regularization())
