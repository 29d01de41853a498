"""What a regularizer is: a term of the architecture's objective that needs no data."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from supernet.relaxations.base import Parameters, Relaxation


class Regularizer(ABC):
    """A differentiable scalar of the architecture parameters.

    Architecture steps add it to the validation loss, once a step. Parameters of operations that are not allowed any
    more are minus infinity.

    Args:
        weight: the coefficient.

    Raises:
        ValueError: it is negative.
    """

    def __init__(self, weight: float) -> None:
        if not weight >= 0:
            raise ValueError(f"weight: got {weight}; give 0 or more")
        self.weight = weight

    @abstractmethod
    def __call__(self, params: Parameters, relaxation: Relaxation, progress: float) -> Tensor:
        """The term, weight included, at a share `progress` in [0, 1] of the search."""
