"""What a discretizer is: edge weights in, one cell out.

Shape suffixes: E edges, O operations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from supernet.genotype import Genotype
from supernet.search_space import SearchSpace


class Discretizer(ABC):
    """Derives the final cell; the engine calls it at the end of every epoch, `darts derive` on any of them."""

    @abstractmethod
    def __call__(self, weights_EO: Tensor, space: SearchSpace) -> Genotype:
        """The cell that the expected edge weights of a relaxation stand for."""
