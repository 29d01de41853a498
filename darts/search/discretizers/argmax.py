"""The heaviest operations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from darts.search.discretizers.base import Discretizer
from supernet.spaces.base import Genotype, Space


class Argmax(Discretizer):
    """Takes the operation with the largest weight on each edge, the first of equals; of spaces whose genotypes leave
    edges out, the heaviest edges with it (`supernet.spaces.base.Space.strongest`).

    Args:
        exclude: operations that are never taken, such as none (DARTS leaves it out; NAS-Bench-201 does not).
    """

    def __init__(self, exclude: Sequence[str] = ()) -> None:
        self.exclude = tuple(exclude)

    def __call__(self, weights_EO: Tensor, space: Space) -> Genotype:
        names = space.candidates
        left_out = [name in self.exclude for name in names]
        if all(left_out) or set(self.exclude) - set(names):
            raise ValueError(f"exclude: got {list(self.exclude)}; give some of {', '.join(names)}, not all")
        return space.strongest(weights_EO.masked_fill(torch.tensor(left_out), -torch.inf).tolist())
