"""What a weight step is: one update of the network weights on a training batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch

from darts.batches import Batch
from darts.state import SearchState


class WeightStep(ABC):
    """One update of the network weights; the architecture parameters need no gradient meanwhile.

    The engine calls `make_optimizer` once, `schedule` at the start of every step, whatever is updated in it,
    and the object itself in every phase that trains weights.
    """

    passes: int = 1
    """Forward passes of a batch in one call, for budgets in images."""

    @abstractmethod
    def make_optimizer(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of the network weights; the state owns it."""

    @abstractmethod
    def schedule(self, state: SearchState) -> None:
        """Set the learning rate for the share of the search that is done."""

    @abstractmethod
    def __call__(self, state: SearchState, train_batch: Batch, valid_batch: Batch | None) -> dict[str, float]:
        """Update the weights.

        Returns:
            ``train_loss``, and whatever else is worth a curve.

        Raises:
            NonFiniteLoss: the training loss is infinite or NaN.
        """
