"""A price that somebody measured: a column of a table with one line a cell."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import torch

from darts.blackbox.objectives.base import Objective
from supernet.spaces.base import Genotype, Space

ACCURACY = re.compile(r"[\w-]+_(valid|test)_\d+")
UNITS = {"ms": "ms", "mj": "mJ", "s": "s", "mb": "MB"}  # by the last part of a column's name


class Column(Objective):
    """A column of a CSV file whose column `cell` has every cell of the space once, such as HW-NAS-Bench's latencies
    (arXiv:2103.10584).

    Args:
        path: the file.
        column: name of the column.
        unit: of its values; by the name's ending (_ms, _mj) if None.
    """

    def __init__(self, path: str | None, column: str | None, unit: str | None = None) -> None:
        super().__init__()
        self.path, self.column = path, column
        self.name = column or ""
        self.unit = UNITS.get(self.name.rpartition("_")[2], "") if unit is None else unit

    def open(self, space: Space, device: torch.device) -> None:
        super().open(space, device)
        if self.path is None or self.column is None:
            raise ValueError("path, column: it needs both; give objective.path=FILE objective.column=NAME")
        self.values = read_column(Path(self.path).expanduser(), self.column, space)

    def __call__(self, genotype: Genotype) -> float:
        return float(self.values[self.space.index(genotype)])

    def describe(self) -> dict[str, str | bool]:
        return super().describe() | {"network": f"as in {Path(str(self.path)).name}"}


def read_column(path: Path, column: str, space: Space) -> np.ndarray:
    """Values of all cells of a space, in its order.

    Raises:
        ValueError: no such file or column, a cell that is missing, or something that is no positive number.
    """
    if space.size is None:
        raise ValueError("path: this space has no end of cells, a table has one line for each; give another objective")
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"path: {path} cannot be read ({error}); give a CSV file") from None
    names = list(rows[0]) if rows else []
    if "cell" not in names or column not in names:
        lacking = "cell" if "cell" not in names else column
        raise ValueError(f"column: {path} lacks {lacking!r}; it has {', '.join(map(str, names)) or 'nothing'}")
    if ACCURACY.fullmatch(column):
        raise ValueError(f"column: {column} holds accuracies, which are no price; give a column of costs")
    found = np.full(space.size, np.nan)
    try:
        for row in rows:
            found[space.index(space.parse(row["cell"]))] = float(row[column])
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"path: {path}, column {column}: {error}; give an intact file") from None
    if odd := int((~(np.isfinite(found) & (found > 0))).sum()):
        raise ValueError(
            f"column: {column} of {path} has no positive number for {odd:,} of {len(found):,} cells: they are missing, "
            "or were not measured; give another column"
        )
    return found
