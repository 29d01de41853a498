"""Training under perturbed edge weights (SDARTS, Chen & Hsieh 2020, arXiv:2002.05283, eq. 6 and 7)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from darts.search.state import SearchState
from darts.search.weight_steps.sgd import SGDStep
from darts.tasks.base import Batch
from supernet.norm import held_statistics
from supernet.relaxations.base import EdgeWeights, Relaxation

STEP = 2.5  # of an attack: step size times steps over radius (Madry et al. 2018, arXiv:1706.06083, appendix B)


class PerturbedSGD(SGDStep):
    """SGD on the loss at edge weights near those of the relaxation, which smooths it around the architecture.

    The perturbation is uniform in [-epsilon, epsilon]; with attack steps it is then moved to where the training loss
    of the same batch is large, by the sign of the gradient, within that range. Only active operations are perturbed,
    and the architecture parameters are never touched.

    Args:
        epsilon, epsilon_end: first and last radius, linear in the progress.
        attack_steps: 0 for SDARTS-RS; 7 for SDARTS-ADV.
        lr, lr_min, momentum, nesterov, weight_decay, grad_clip: as in `SGDStep`.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(
        self,
        epsilon: float = 0.03,
        epsilon_end: float = 0.3,
        attack_steps: int = 0,
        lr: float = 0.025,
        lr_min: float = 0.001,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 5e-4,
        grad_clip: float | None = None,
    ) -> None:
        super().__init__(lr, lr_min, momentum, nesterov, weight_decay, grad_clip)
        for name, value in (("epsilon", epsilon), ("epsilon_end", epsilon_end), ("attack_steps", attack_steps)):
            if not value >= 0:
                raise ValueError(f"{name}: got {value}; give 0 or more")
        self.epsilon, self.epsilon_end, self.attack_steps = epsilon, epsilon_end, attack_steps

    def passes(self, relaxation: Relaxation) -> int:
        return super().passes(relaxation) * (1 + self.attack_steps)

    def edge_weights(self, state: SearchState, train_batch: Batch) -> list[EdgeWeights]:
        return [self._perturbed(state, train_batch, path) for path in super().edge_weights(state, train_batch)]

    def _perturbed(self, state: SearchState, batch: Batch, path: EdgeWeights) -> EdgeWeights:
        radius = self.epsilon + (self.epsilon_end - self.epsilon) * state.progress
        noise = 2 * torch.rand(path.weights.shape, generator=state.sampling, dtype=path.weights.dtype) - 1
        delta = radius * noise.to(path.weights.device)
        for _ in range(self.attack_steps):
            delta = delta + STEP * radius / self.attack_steps * self._gradient(state, batch, path, delta).sign()
            delta = delta.clamp(-radius, radius)
        return replace(path, weights=path.weights + delta)

    def _gradient(self, state: SearchState, batch: Batch, path: EdgeWeights, delta: Tensor) -> Tensor:
        delta = delta.clone().requires_grad_()
        moved = replace(path, weights=path.weights + delta)
        with held_statistics(state.network):
            loss = state.loss(batch, moved, "training loss under attack")
        return torch.autograd.grad(loss, delta)[0]
