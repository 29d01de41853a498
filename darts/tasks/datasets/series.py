"""Series of one's own, from a CSV file.

Shape suffixes: C columns, T steps of the whole series.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from darts.run.errors import UserError
from darts.tasks.datasets.numbers import read_csv
from darts.tasks.datasets.windows import TimeSeries


class CsvSeries(TimeSeries):
    """A CSV file with a line of names and then one line a step, in order of time.

    Args:
        root: the file.
        columns: names of the columns that a network sees; all if None.
        targets: names of those among them that it has to foretell; the last one if None.
        window, horizon: see `TimeSeries`.
        name: what reports call it; the file's name if None.

    Raises:
        ValueError: numbers below 1.
    """

    def __init__(
        self,
        root: str,
        columns: Sequence[str] | None = None,
        targets: Sequence[str] | None = None,
        window: int = 24,
        horizon: int = 1,
        name: str | None = None,
    ) -> None:
        self.file = Path(root).expanduser()
        super().__init__(name or self.file.name, window, horizon)
        self.columns, self.targets = columns, targets

    def table(self) -> tuple[Tensor, tuple[str, ...], tuple[str, ...]]:
        known, rows = read_csv(self.file, None if self.columns is None else list(self.columns), "dataset")
        targets = tuple(self.targets or known[-1:])
        if missing := [name for name in targets if name not in known]:
            raise UserError(f"dataset.targets: got {missing[0]!r}; give one of dataset.columns: {', '.join(known)}")
        return torch.tensor(rows, dtype=torch.float64).reshape(-1, len(known)), known, targets
