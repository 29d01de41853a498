"""What an architecture step is: one update of the architecture parameters, with Adam as DARTS does it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from darts.batches import Batch
from darts.state import SearchState


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


def gradients(objective: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Zeros for inputs that the objective does not depend on, as when a sampled path leaves them out."""
    if not objective.requires_grad:
        return tuple(torch.zeros_like(value) for value in inputs)
    return torch.autograd.grad(objective, inputs, materialize_grads=True)


class ArchStep(ABC):
    """One update of the architecture parameters; subclasses say what the gradient is.

    The engine calls `make_optimizer` once and the object itself in every bilevel step.

    Args:
        lr, betas, weight_decay: as in torch.optim.Adam.

    Raises:
        ValueError: a value out of range.
    """

    passes: int = 1
    """Forward passes of a batch in one call, for budgets in images."""

    def __init__(self, lr: float = 3e-4, betas: Sequence[float] = (0.5, 0.999), weight_decay: float = 1e-3) -> None:
        if not 0 < lr < math.inf:
            raise ValueError(f"lr: got {lr}; give a rate above 0")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas: got {list(betas)}; give two numbers in [0, 1)")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay: got {weight_decay}; give 0 or more")
        self.lr, self.betas, self.weight_decay = lr, (betas[0], betas[1]), weight_decay

    def make_optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """The optimizer of the architecture parameters; the state owns it."""
        return torch.optim.Adam(list(parameters), self.lr, betas=self.betas, weight_decay=self.weight_decay)

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
        state.arch_optimizer.step()
        state.arch_optimizer.zero_grad(set_to_none=True)
        return {"valid_loss": loss}
