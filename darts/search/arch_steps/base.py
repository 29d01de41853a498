"""What an architecture step is: one update of the architecture parameters, with Adam as DARTS does it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from darts.search.state import SearchState
from darts.tasks.base import Batch
from supernet.relaxations.base import EdgeWeights, Relaxation


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """No parameter of the network needs a gradient inside."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def gradients(
    state: SearchState,
    batch: Batch,
    paths: list[EdgeWeights],
    part: str,
    inputs: Sequence[Tensor],
    extra: Tensor | float = 0.0,
) -> tuple[list[Tensor], float]:
    """Gradient of all paths' summed losses, and their mean loss; one backward pass a path, with the memory of one.

    Args:
        state: of the search.
        batch: inputs and targets.
        paths: from `SearchState.edge_weights`.
        part: of the search, for messages.
        inputs: what is differentiated by; zeros for those that the loss does not depend on.
        extra: a further term, added once.
    """
    total: list[Tensor] = []
    losses = 0.0
    for place, path in enumerate(paths):
        loss = state.loss(batch, path, part)
        losses += loss.item()
        objective = loss if place else loss + extra
        if objective.requires_grad:  # edge weights of several paths share a small graph
            more = place + 1 < len(paths)
            found = torch.autograd.grad(objective, inputs, retain_graph=more, materialize_grads=True)
            total = [a + b for a, b in zip(total, found, strict=True)] if total else list(found)
        del loss, objective  # the graph of the network goes with them
    return total or [torch.zeros_like(value) for value in inputs], losses / len(paths)


class ArchStep(ABC):
    """One update of the architecture parameters; subclasses say what the gradient is.

    The engine calls `make_optimizer` once and the object itself in every bilevel step.

    Args:
        lr, betas, weight_decay: as in torch.optim.Adam.
        own: settings of Adam by name of a parameter that differ from these, such as {beta_E: {weight_decay: 0}}.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(
        self,
        lr: float = 3e-4,
        betas: Sequence[float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        own: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        if not 0 < lr < math.inf:
            raise ValueError(f"lr: got {lr}; give a rate above 0")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas: got {list(betas)}; give two numbers in [0, 1)")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay: got {weight_decay}; give 0 or more")
        self.lr, self.betas, self.weight_decay = lr, (betas[0], betas[1]), weight_decay
        self.own = {name: dict(settings) for name, settings in (own or {}).items()}
        for name, settings in self.own.items():
            if unknown := settings.keys() - {"lr", "betas", "weight_decay", "eps"}:
                raise ValueError(f"own: got {unknown.pop()} for {name}; allowed are lr, betas, weight_decay, eps")

    def passes(self, relaxation: Relaxation) -> int:
        """Forward passes of a batch in one call, for budgets in images."""
        return relaxation.paths("architecture")

    def make_optimizer(self, params: Mapping[str, Tensor]) -> torch.optim.Optimizer:
        """The optimizer of the architecture parameters, by name; the state owns it.

        Raises:
            ValueError: own settings of a parameter that is not there.
        """
        if unknown := self.own.keys() - params.keys():
            raise ValueError(f"own: got {unknown.pop()!r}; the relaxation has {', '.join(params)}")
        groups: list[dict[str, Any]] = [{"params": [v for name, v in params.items() if name not in self.own]}]
        groups += [{"params": [params[name]], **settings} for name, settings in self.own.items()]
        groups = [group for group in groups if group["params"]]
        return torch.optim.Adam(groups, self.lr, betas=self.betas, weight_decay=self.weight_decay)

    @abstractmethod
    def gradient(self, state: SearchState, train_batch: Batch, valid_batch: Batch) -> tuple[list[Tensor], float]:
        """Gradient for each architecture parameter, and the validation loss it was taken at.

        Raises:
            NonFiniteLoss: a loss is infinite or NaN.
        """

    def __call__(self, state: SearchState, train_batch: Batch, valid_batch: Batch) -> dict[str, float]:
        """Update the architecture parameters; returns ``valid_loss``."""
        gradients, loss = self.gradient(state, train_batch, valid_batch)
        for value, gradient in zip(state.params.values(), gradients, strict=True):
            value.grad = gradient
        self.update(state)
        return {"valid_loss": loss}

    def update(self, state: SearchState) -> None:
        """Move the architecture parameters by the gradients that they have, and clear them."""
        before = {name: value.detach().clone() for name, value in state.params.items()}
        state.arch_optimizer.step()
        with torch.no_grad():
            state.relaxation.settle(state.params, before)
        state.arch_optimizer.zero_grad(set_to_none=True)
