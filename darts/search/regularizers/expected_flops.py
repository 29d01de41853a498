"""A price on computation: the expected FLOPs of the cell that the edge weights describe."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from darts.search.regularizers.base import Regularizer
from supernet.cost import edge_cost, expected_flops
from supernet.relaxations.base import Parameters, Relaxation
from supernet.size import NetworkSize


class ExpectedFlops(Regularizer):
    """weight times expected multiply-adds over those of the costliest cell, a number in [0, weight].

    The differentiable cost of ProxylessNAS (Cai et al. 2019, arXiv:1812.00332, eq. 3), with FLOPs for latency.

    Args:
        operations: names of the space's operations, in order.
        weight: the coefficient.

    Raises:
        ValueError: weight is negative.
    """

    def __init__(self, operations: Sequence[str], weight: float = 0.1) -> None:
        if not weight >= 0:
            raise ValueError(f"weight: got {weight}; give 0 or more")
        self.operations, self.weight = tuple(operations), weight

    def __call__(self, params: Parameters, relaxation: Relaxation, progress: float) -> Tensor:
        weights_EO = relaxation.expected(params, progress).mean_EO
        size = NetworkSize()
        costliest = len(weights_EO) * max(edge_cost(name, size).flops for name in self.operations)
        return self.weight * expected_flops(weights_EO, self.operations, size) / max(1, costliest)
