"""The price of a cell as a sum over its operations, by a table that `darts latency` fitted."""

from __future__ import annotations

from pathlib import Path

import torch

from darts.blackbox.objectives.base import Objective
from supernet.price_table import PriceTable
from supernet.spaces.base import Genotype, Space


class Priced(Objective):
    """The sum of the prices of a cell's operations.

    Args:
        path: prices.json of `darts latency`.
    """

    def __init__(self, path: str | None) -> None:
        super().__init__()
        if path is None:
            raise ValueError("path: it needs a file; give objective.path=RUN_DIR/prices.json of darts latency")
        self.path = Path(path).expanduser()
        try:
            self.table = PriceTable.read(self.path)
        except ValueError as error:
            raise ValueError(f"path: {error}") from None
        self.name, self.unit = f"{self.table.name} by operation", self.table.unit

    def open(self, space: Space, device: torch.device) -> None:
        self.table.check(space)
        super().open(space, device)

    def __call__(self, genotype: Genotype) -> float:
        return self.table.price(self.space, genotype)

    def describe(self) -> dict[str, str | bool]:
        return super().describe() | {"network": f"as in {self.path.name}"}
