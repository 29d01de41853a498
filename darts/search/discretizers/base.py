"""What a discretizer is: edge weights in, one genotype out.

Shape suffixes: E edges, O operations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from supernet.spaces.base import Genotype, Space


class Discretizer(ABC):
    """Derives the final genotype; the engine calls it at the end of every epoch, `darts derive` on any of them."""

    @abstractmethod
    def __call__(self, weights_EO: Tensor, space: Space) -> Genotype:
        """The genotype that the expected edge weights of a relaxation stand for."""
