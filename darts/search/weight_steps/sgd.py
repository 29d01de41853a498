"""Stochastic gradient descent with momentum under a cosine schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch

from darts.search.state import SearchState
from darts.search.weight_steps.base import WeightStep, backward, resting
from darts.tasks.base import Batch
from darts.training.schedules import cosine
from supernet.relaxations.base import EdgeWeights


class SGDStep(WeightStep):
    """SGD on the weights; the rate falls from `lr` to `lr_min` along a cosine, step by step.

    Args:
        lr, lr_min: first and last learning rate.
        momentum, nesterov, weight_decay: as in torch.optim.SGD.
        grad_clip: largest norm of the gradient, or None.

    Raises:
        ValueError: a rate, decay or clip out of range, or nesterov without momentum.
    """

    def __init__(
        self,
        lr: float = 0.025,
        lr_min: float = 0.001,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 5e-4,
        grad_clip: float | None = None,
    ) -> None:
        if not 0 <= lr_min <= lr < math.inf or lr == 0:
            raise ValueError(f"lr, lr_min: got {lr} and {lr_min}; give 0 <= lr_min <= lr with lr above 0")
        if not 0 <= momentum < 1 or (nesterov and momentum == 0):
            raise ValueError(
                f"momentum: got {momentum} (nesterov={nesterov}); give 0 <= momentum < 1, above 0 for nesterov"
            )
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay: got {weight_decay}; give 0 or more")
        if grad_clip is not None and not grad_clip > 0:
            raise ValueError(f"grad_clip: got {grad_clip}; give a norm above 0, or null for none")
        self.lr, self.lr_min, self.momentum, self.nesterov = lr, lr_min, momentum, nesterov
        self.weight_decay, self.grad_clip = weight_decay, grad_clip

    def make_optimizer(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            parameters, self.lr, momentum=self.momentum, nesterov=self.nesterov, weight_decay=self.weight_decay
        )

    def schedule(self, state: SearchState) -> None:
        for group in state.weight_optimizer.param_groups:
            group["lr"] = state.rate * cosine(state.progress, self.lr, self.lr_min)

    def edge_weights(self, state: SearchState, train_batch: Batch) -> list[EdgeWeights]:
        """The paths whose losses are summed, without history."""
        with torch.no_grad():
            return state.edge_weights("weights")

    def __call__(self, state: SearchState, train_batch: Batch, valid_batch: Batch | None) -> dict[str, float]:
        paths = self.edge_weights(state, train_batch)
        state.weight_optimizer.zero_grad(set_to_none=True)
        loss = backward(state, train_batch, paths, "training loss in the weight step")
        self.update(state, paths)
        return {"train_loss": loss, "lr": state.weight_optimizer.param_groups[0]["lr"]}

    def update(self, state: SearchState, paths: Sequence[EdgeWeights]) -> None:
        if self.grad_clip is not None:
            torch.nn.utils.clip_grad_norm_(state.network.parameters(), self.grad_clip)
        with resting(state, paths):
            state.weight_optimizer.step()
        state.weight_optimizer.zero_grad(set_to_none=True)
