"""The gradient through one training step of the weights (DARTS, arXiv:1806.09055, eqs. 6-8)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from darts.arch_steps.base import ArchStep, frozen, gradients
from darts.batches import Batch
from darts.state import SearchState
from supernet.norm import held_statistics


class Unrolled(ArchStep):
    r"""Second-order DARTS: the validation loss after one step w' = w - lr * (gradient + decay * w + momentum).

    d/da L_val(w', a) = dL_val/da - lr * d2L_train/(da dw) v with v = dL_val/dw'; the product is a central
    difference over w +- r / |v| * v (eq. 8). The published step has plain momentum, no nesterov term and no
    clipping, whatever the weight step does afterwards. Five passes of a batch a bilevel step, four of them here.

    Args:
        lr, betas, weight_decay: see `ArchStep`.
        radius: r of the finite difference.
        exact_nesterov: differentiate the step that SGD with nesterov really takes (still without clipping).
    """

    passes = 4

    def __init__(
        self,
        lr: float = 3e-4,
        betas: Sequence[float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        radius: float = 1e-2,
        exact_nesterov: bool = False,
    ) -> None:
        super().__init__(lr, betas, weight_decay)
        if not radius > 0:
            raise ValueError(f"radius: got {radius}; give a number above 0")
        self.radius, self.exact_nesterov = radius, exact_nesterov

    def gradient(self, state: SearchState, train_batch: Batch, valid_batch: Batch) -> tuple[list[Tensor], float]:
        weights: list[Tensor] = list(state.network.parameters())
        params = list(state.params.values())
        group = state.weight_optimizer.param_groups[0]
        with torch.no_grad():
            before = torch._foreach_mul(weights, 1)  # a copy in one call
        noise = state.sampling.get_state()  # all four passes see the same sampled paths

        def train_loss() -> Tensor:
            state.sampling.set_state(noise)
            return state.loss(train_batch, state.edge_weights(), "training loss in the architecture step")

        with held_statistics(state.network):
            try:
                slopes = gradients(train_loss(), weights)
                directions, factor = self._directions(state, weights, slopes)
                with torch.no_grad():
                    torch._foreach_add_(weights, directions, alpha=-group["lr"])

                state.sampling.set_state(noise)
                paths = state.edge_weights()
                loss = state.loss(valid_batch, paths, "validation loss after the unrolled step")
                objective = loss + state.regularization()
                both = gradients(objective, [*params, *weights])
                direct, vector = list(both[: len(params)]), both[len(params) :]

                norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(vector)))
                if norm == 0:
                    return direct, loss.item() / len(paths)
                radius = self.radius / norm.item()
                sides = []
                with frozen(state.network):
                    for sign in (1.0, -1.0):
                        torch._foreach_copy_(weights, before)
                        torch._foreach_add_(weights, vector, alpha=sign * radius)
                        sides.append(gradients(train_loss(), params))
            finally:
                with torch.no_grad():
                    torch._foreach_copy_(weights, before)
        scale = factor * group["lr"] / (2 * radius)
        implicit = [(up - down) * scale for up, down in zip(*sides, strict=True)]
        return [first - second for first, second in zip(direct, implicit, strict=True)], loss.item() / len(paths)

    def _directions(
        self, state: SearchState, weights: list[Tensor], slopes: Sequence[Tensor]
    ) -> tuple[list[Tensor], float]:
        """What the inner step subtracts, before the learning rate, and its derivative by the gradient."""
        group = state.weight_optimizer.param_groups[0]
        momentum = group["momentum"]
        buffers = [state.weight_optimizer.state[weight].get("momentum_buffer") for weight in weights]
        buffers = [
            torch.zeros_like(w) if buffer is None else buffer for w, buffer in zip(weights, buffers, strict=True)
        ]
        nesterov = self.exact_nesterov and group["nesterov"]
        factor = 1 + momentum if nesterov else 1.0
        with torch.no_grad():
            decayed = torch._foreach_add(list(slopes), weights, alpha=group["weight_decay"])
            torch._foreach_mul_(decayed, factor)
            torch._foreach_add_(decayed, buffers, alpha=momentum * momentum if nesterov else momentum)
        return list(decayed), factor
