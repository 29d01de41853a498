"""Curvature of the validation loss in the architecture parameters, whose growth comes before a collapse."""

from __future__ import annotations

import torch

from darts.search.arch_steps.base import frozen
from darts.search.monitors.base import Monitor, Watched
from supernet.norm import held_statistics
from supernet.relaxations.base import opened


class EigenvalueMonitor(Monitor):
    """`eigenvalue`: the largest algebraic eigenvalue of the Hessian of the validation loss in alpha (Zela et al. 2020,
    R-DARTS, arXiv:1909.09656, section 4.1), exact, on one batch that is always the same, at the expected edge weights.

    It takes a second backward pass for every architecture parameter; absent where the weights do not depend on them.

    Args:
        every: epochs between two measurements.
    """

    def __init__(self, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"every: got {every}; give 1 or more")
        self.every = every

    def measure(self, search: Watched) -> dict[str, float]:
        state = search.state
        if not state.relaxation.trains_architecture or len(state.history) % self.every:
            return {}
        params = {name: value.detach().clone() for name, value in state.params.items()}
        alpha_EO = params["alpha_EO"].requires_grad_()
        inputs, targets = next(iter(state.task.evaluation_batches()))
        with torch.enable_grad(), frozen(state.network), held_statistics(state.network.train()):
            weights = state.placed(state.relaxation.expected(opened(params, state.allowed_EO), state.progress))
            loss = state.task.loss(state.compute.logits(inputs, weights, alone=False), targets)
            (gradient_EO,) = torch.autograd.grad(loss, alpha_EO, create_graph=True)
            rows = [torch.autograd.grad(one, alpha_EO, retain_graph=True)[0] for one in gradient_EO.flatten()]
        hessian = torch.stack(rows).flatten(1).double()
        return {"eigenvalue": float(torch.linalg.eigvalsh((hessian + hessian.T) / 2)[-1])}
