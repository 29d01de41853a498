"""The gradient through one training step of the weights (DARTS, arXiv:1806.09055, eqs. 6-8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from darts.search.arch_steps.base import ArchStep, frozen, gradients
from darts.search.state import SearchState
from darts.tasks.base import Batch
from supernet.norm import held_statistics
from supernet.relaxations.base import Relaxation


class Unrolled(ArchStep):
    r"""Second-order DARTS: the validation loss after one step w' = w - lr * (gradient + decay * w + momentum).

    d/da L_val(w', a) = dL_val/da - lr * d2L_train/(da dw) v with v = dL_val/dw'; the product is a central
    difference over w +- r / |v| * v (eq. 8). The published step has plain momentum, no nesterov term and no
    clipping, whatever the weight step does afterwards. Five passes of a batch a bilevel step, four of them here.

    Args:
        lr, betas, weight_decay, own: see `ArchStep`.
        radius: r of the finite difference.
        exact_nesterov: differentiate the step that SGD with nesterov really takes (still without clipping).
    """

    def __init__(
        self,
        lr: float = 3e-4,
        betas: Sequence[float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        own: Mapping[str, Mapping[str, Any]] | None = None,
        radius: float = 1e-2,
        exact_nesterov: bool = False,
    ) -> None:
        super().__init__(lr, betas, weight_decay, own)
        if not radius > 0:
            raise ValueError(f"radius: got {radius}; give a number above 0")
        self.radius, self.exact_nesterov = radius, exact_nesterov

    def passes(self, relaxation: Relaxation) -> int:
        return 4 * relaxation.paths("architecture")

    def gradient(self, state: SearchState, train_batch: Batch, valid_batch: Batch) -> tuple[list[Tensor], float]:
        weights: list[Tensor] = list(state.network.parameters())
        params = list(state.params.values())
        group = state.weight_optimizer.param_groups[0]
        with torch.no_grad():
            before = torch._foreach_mul(weights, 1)  # a copy in one call
        noise = state.noise()  # all four passes see the same sampled paths, and the same dropout

        def train_gradients(inputs: list[Tensor]) -> list[Tensor]:
            state.noise(noise)
            paths = state.edge_weights("architecture")
            return gradients(state, train_batch, paths, "training loss in the architecture step", inputs)[0]

        with held_statistics(state.network):
            try:
                directions, factor = self._directions(state, weights, train_gradients(weights))
                with torch.no_grad():
                    torch._foreach_add_(weights, directions, alpha=-group["lr"])

                state.noise(noise)
                paths, part = state.edge_weights("architecture"), "validation loss after the unrolled step"
                both, loss = gradients(state, valid_batch, paths, part, [*params, *weights], state.regularization())
                direct, vector = both[: len(params)], both[len(params) :]

                norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(vector)))
                if norm == 0:
                    return direct, loss
                radius = self.radius / norm.item()
                sides = []
                with frozen(state.network):
                    for sign in (1.0, -1.0):
                        torch._foreach_copy_(weights, before)
                        torch._foreach_add_(weights, vector, alpha=sign * radius)
                        sides.append(train_gradients(params))
            finally:
                with torch.no_grad():
                    torch._foreach_copy_(weights, before)
        scale = factor * group["lr"] / (2 * radius)
        implicit = [(up - down) * scale for up, down in zip(*sides, strict=True)]
        return [first - second for first, second in zip(direct, implicit, strict=True)], loss

    def _directions(
        self, state: SearchState, weights: list[Tensor], slopes: Sequence[Tensor]
    ) -> tuple[list[Tensor], float]:
        """What the inner step subtracts, before the learning rate, and its derivative by the gradient."""
        group = state.weight_optimizer.param_groups[0]
        momentum = group.get("momentum", 0.0)  # an optimizer may have none
        buffers = [state.weight_optimizer.state[weight].get("momentum_buffer") for weight in weights]
        buffers = [
            torch.zeros_like(w) if buffer is None else buffer for w, buffer in zip(weights, buffers, strict=True)
        ]
        nesterov = self.exact_nesterov and group.get("nesterov", False)
        factor = 1 + momentum if nesterov else 1.0
        with torch.no_grad():
            decayed = torch._foreach_add(list(slopes), weights, alpha=group.get("weight_decay", 0.0))
            torch._foreach_mul_(decayed, factor)
            torch._foreach_add_(decayed, buffers, alpha=momentum * momentum if nesterov else momentum)
        return list(decayed), factor
