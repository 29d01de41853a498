"""The heaviest operation of every edge."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from darts.discretizers.base import Discretizer
from supernet.genotype import Genotype
from supernet.search_space import SearchSpace


class Argmax(Discretizer):
    """Takes the operation with the largest weight on each edge; the first of equals.

    Args:
        exclude: operations that are never taken, such as none (DARTS leaves it out; NAS-Bench-201 does not).
    """

    def __init__(self, exclude: Sequence[str] = ()) -> None:
        self.exclude = tuple(exclude)

    def __call__(self, weights_EO: Tensor, space: SearchSpace) -> Genotype:
        unknown = set(self.exclude) - set(space.operations)
        allowed = [position for position, name in enumerate(space.operations) if name not in self.exclude]
        if unknown or not allowed:
            raise ValueError(f"exclude: got {list(self.exclude)}; give some of {', '.join(space.operations)}, not all")
        best_E = weights_EO[:, allowed].argmax(dim=1).tolist()
        return Genotype(tuple(space.operations[allowed[choice]] for choice in best_E))
