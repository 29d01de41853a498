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
        self.path = path

    def open(self, space: Space, device: torch.device) -> None:
        super().open(space, device)
        if self.path is None:
            raise ValueError("path: it needs a file; give objective.path=RUN_DIR/prices.json of darts latency")
        try:
            self.table = PriceTable.read(Path(self.path).expanduser())
        except ValueError as error:
            raise ValueError(f"path: {error}") from None
        self.table.check(space)
        self.name, self.unit = f"{self.table.name} by operation", self.table.unit

    def __call__(self, genotype: Genotype) -> float:
        return self.table.price(self.space, genotype)

    def describe(self) -> dict[str, str | bool]:
        return super().describe() | {"network": f"as in {Path(str(self.path)).name}"}
