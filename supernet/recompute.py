"""How a supernet runs one of its search cells."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from supernet.cell import SearchCell
from supernet.norm import held_statistics
from supernet.relaxations.base import EdgeWeights


def run_cell(layer: SearchCell, inputs: Tensor | Sequence[Tensor], weights: EdgeWeights, recompute: bool) -> Tensor:
    """The cell's output.

    Args:
        layer: the cell.
        inputs: its input, or inputs.
        weights: of its edges, (E, O).
        recompute: keep only the inputs for the backward pass, and run the cell again in it.
    """
    arguments = (inputs, weights.weights, weights.active_EO, weights.extra_skip, weights.partial, weights.bypass)
    if not (recompute and torch.is_grad_enabled()):
        return layer(*arguments)
    return checkpoint(  # the second pass leaves running statistics alone
        layer, *arguments, use_reentrant=False, context_fn=lambda: (nullcontext(), held_statistics(layer))
    )
