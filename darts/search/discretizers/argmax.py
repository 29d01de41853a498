"""The heaviest operation of every edge."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from darts.search.discretizers.base import Discretizer
from supernet.spaces.base import Genotype, Space


class Argmax(Discretizer):
    """Takes the operation with the largest weight on each edge; the first of equals.

    Args:
        exclude: operations that are never taken, such as none (DARTS leaves it out; NAS-Bench-201 does not).
    """

    def __init__(self, exclude: Sequence[str] = ()) -> None:
        self.exclude = tuple(exclude)

    def __call__(self, weights_EO: Tensor, space: Space) -> Genotype:
        names = space.candidates
        allowed = [position for position, name in enumerate(names) if name not in self.exclude]
        if not allowed or set(self.exclude) - set(names):
            raise ValueError(f"exclude: got {list(self.exclude)}; give some of {', '.join(names)}, not all")
        best_E = weights_EO[:, allowed].argmax(dim=1).tolist()
        return space.relaxed([allowed[choice] for choice in best_E])
