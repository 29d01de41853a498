"""A price on computation: the expected cost of the cell that the edge weights describe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from darts.search.regularizers.base import Regularizer
from supernet.price_table import PriceTable
from supernet.relaxations.base import Parameters, Relaxation
from supernet.size import NetworkSize
from supernet.spaces.base import Space

PRICES = ("flops", "params")


class ExpectedCost(Regularizer):
    """weight times the expected cost over that of the costliest cell, a number in [0, weight]; with a target, weight
    times |cost / target - 1|, which leads to it from both sides (Bender et al. 2020, TuNAS, arXiv:2008.06120, eq. 4).

    The differentiable cost of ProxylessNAS (Cai et al. 2019, arXiv:1812.00332, eq. 3): a sum over edges and operations.

    Args:
        space: of the search.
        weight: the coefficient.
        price: ``flops`` or ``params`` of the network; prices of your own: operation to number, such as milliseconds of
            that operation on one edge in all cells; or a prices.json of `darts latency`, which has one for every edge.
        target: wanted cost of the whole network, in the price's unit; of a price list, that of all edges together.

    Raises:
        ValueError: the weight is negative, the target not positive, or the price is unknown or lacks an operation.
    """

    def __init__(
        self,
        space: Space,
        weight: float = 0.1,
        price: str | Mapping[str, float] = "flops",
        target: float | None = None,
    ) -> None:
        super().__init__(weight)
        if target is not None and not target > 0:
            raise ValueError(f"target: got {target}; give a cost above 0, or null")
        self.target, operations = target, space.candidates
        self.prices: list[float] | list[list[float]]  # by operation, or by edge and operation
        if isinstance(price, Mapping):
            if lacking := [name for name in operations if name not in price]:
                raise ValueError(f"price: it lacks {', '.join(lacking)}; give a number for every operation")
            self.prices, self.beside = [float(price[name]) for name in operations], 0.0
        elif price.endswith(".json"):
            try:
                table = PriceTable.read(Path(price).expanduser())
            except ValueError as error:
                raise ValueError(f"price: {error}") from None
            if table.candidates != operations:
                raise ValueError(f"price: {price} is of {', '.join(table.candidates)}; give one of this space")
            self.prices, self.beside = [list(row) for row in table.prices_EO], table.beside
        elif price in PRICES:
            try:
                rows, rest = space.edge_costs(space.final_size(NetworkSize()))
            except ValueError as error:
                raise ValueError(f"price: got {price!r}; {error}; give a number for every operation") from None
            self.prices = [[float(getattr(cost, price)) for cost in row] for row in rows]
            self.beside = float(getattr(rest, price))
        else:
            raise ValueError(
                f"price: got {price!r}; allowed are {', '.join(PRICES)}, a number for every operation, or a prices.json"
            )

    def cost(self, weights_EO: Tensor) -> Tensor:
        """Expected cost of the network when each edge draws an operation with these probabilities."""
        return self.beside + self._of_edges(weights_EO)

    def _of_edges(self, weights_EO: Tensor) -> Tensor:
        return (weights_EO * weights_EO.new_tensor(self.prices)).sum()

    def __call__(self, params: Parameters, relaxation: Relaxation, progress: float) -> Tensor:
        weights_EO = relaxation.expected(params, progress).mean_EO
        if self.target is not None:
            return self.weight * (self.cost(weights_EO) / self.target - 1).abs()
        costliest = float(weights_EO.new_tensor(self.prices).expand_as(weights_EO).amax(dim=1).sum())
        return self.weight * self._of_edges(weights_EO) / (costliest or 1.0)
