"""What an oracle is: a table of known accuracies of cells, asked with typed keys.

Validation never answers with test: a column is one (dataset, split, epochs), and asking for another raises.
For cifar10, valid is of networks trained on half of the training set and test of networks trained on all of it;
for cifar100 and imagenet16-120 both are the benchmark's x-valid and x-test.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernet.size import NetworkSize
from supernet.spaces.base import Genotype, Space
from supernet.spaces.cells import CellSpace

DATASETS = ("cifar10", "cifar100", "imagenet16-120")
SPLITS = ("valid", "test")
ALIKE = 100  # cells of about the same cost, that one is compared with


@dataclass(frozen=True, order=True)
class Column:
    """One kind of accuracy.

    Attributes:
        dataset: cifar10, cifar100 or imagenet16-120.
        split: valid or test.
        epochs: length of the training schedule, or None where the table does not say.

    Raises:
        ValueError: an unknown dataset or split.
    """

    dataset: str
    split: str
    epochs: int | None

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS:
            raise ValueError(f"oracle dataset: got {self.dataset!r}; allowed are {', '.join(DATASETS)}")
        if self.split not in SPLITS:
            raise ValueError(f"oracle split: got {self.split!r}; allowed are {', '.join(SPLITS)}")

    @classmethod
    def parse(cls, text: str) -> Column:
        """Read ``cifar10/valid/200``; `str` of the result gives the same text back.

        Raises:
            ValueError: something else.
        """
        parts = text.split("/")
        if len(parts) != 3 or not (parts[2] == "?" or (parts[2].isdecimal() and int(parts[2]) > 0)):
            raise ValueError(f"got {text!r}; a column reads DATASET/SPLIT/EPOCHS, such as cifar10/valid/200")
        return cls(parts[0], parts[1], None if parts[2] == "?" else int(parts[2]))

    def __str__(self) -> str:
        return f"{self.dataset}/{self.split}/{'?' if self.epochs is None else self.epochs}"


BENCHMARK = CellSpace()
"""NAS-Bench-201, of which published tables are."""


class Table:
    """Accuracies (%) of every cell of a space, by column, in memory as arrays.

    Args:
        name: the table's name; stands beside every value that leaves it.
        columns: column to an accuracy a cell, in order of the space's index.
        benchmark_index: the benchmark's own number of each cell, in the same order, if the table knows it.
        space: of the cells; its size is known.

    Raises:
        ValueError: an array of another length, or without a single number.
    """

    def __init__(
        self,
        name: str,
        columns: Mapping[Column, NDArray[np.float64]],
        benchmark_index: NDArray[np.int64] | None = None,
        space: Space = BENCHMARK,
    ) -> None:
        self.space = space
        for column, values in columns.items():
            if values.shape != (self.space.size,) or not np.isfinite(values).all():
                raise ValueError(f"table {name}: column {column} must hold {self.space.size} numbers")
        if benchmark_index is not None and benchmark_index.shape != (self.space.size,):
            raise ValueError(f"table {name}: the benchmark's numbers must be {self.space.size}")
        self.name, self.columns = name, dict(columns)
        self._benchmark_index = benchmark_index
        self._flops: NDArray[np.float64] | None = None
        self._sorted: dict[Column, NDArray[np.float64]] = {}

    def __len__(self) -> int:
        return self.space.size or 0

    def check(self, name: str, column: Column) -> None:
        """Refuse a column, given as option `name`, that the table does not have.

        Raises:
            ValueError: it is not there.
        """
        if column not in self.columns:
            raise ValueError(f"{name}: {self._lacks(column)}")

    def _lacks(self, column: Column) -> str:
        return f"table {self.name} has no column {column}; it has {', '.join(map(str, self.columns))}"

    def _values(self, column: Column) -> NDArray[np.float64]:
        if column not in self.columns:
            raise KeyError(self._lacks(column))
        return self.columns[column]

    def _position(self, genotype: Genotype) -> int:
        try:
            return self.space.index(self.space.parse(str(genotype)))
        except ValueError as error:
            raise KeyError(f"table {self.name} does not know this cell: {error}") from None

    def value(self, genotype: Genotype, dataset: str, split: str, epochs: int | None) -> float:
        """Accuracy (%) of a cell.

        Raises:
            ValueError: an unknown dataset or split.
            KeyError: a column or a cell that the table does not have.
        """
        return float(self._values(Column(dataset, split, epochs))[self._position(genotype)])

    def rank(self, genotype: Genotype, dataset: str, split: str, epochs: int | None) -> int:
        """One plus the number of cells with a higher accuracy; raises as `value` does."""
        column = Column(dataset, split, epochs)
        values = self._values(column)
        if column not in self._sorted:
            self._sorted[column] = np.sort(values)
        return 1 + len(values) - int(self._sorted[column].searchsorted(values[self._position(genotype)], side="right"))

    def benchmark_index(self, genotype: Genotype) -> int | None:
        """The benchmark's own number of a cell, or None if this table does not know it."""
        position = self._position(genotype)
        return None if self._benchmark_index is None else int(self._benchmark_index[position])

    def of_benchmark(self, number: int) -> Genotype:
        """The cell of a number of the benchmark's own.

        Raises:
            KeyError: this table does not know it.
        """
        if self._benchmark_index is None or number not in self._benchmark_index:
            raise KeyError(f"table {self.name} does not know the benchmark's number {number}")
        return self.space.genotype(int(np.flatnonzero(self._benchmark_index == number)[0]))

    def among_alike(self, genotype: Genotype) -> tuple[int, list[dict[str, str | int | float | None]]]:
        """Cells about as dear, and the rows of a cell with how many of these have a lower accuracy, `better_than`.

        They are the `ALIKE` others nearest in multiply-adds, and all as near as the last of these.
        """
        if self._flops is None:
            size = NetworkSize()
            self._flops = np.array([self.space.cost(cell, size).flops for cell in self.space], dtype=np.float64)
        own = self._position(genotype)
        away = np.abs(self._flops - self._flops[own])
        away[own] = np.inf
        near = away <= np.sort(away)[min(ALIKE, len(away) - 1) - 1]
        rows = self.rows(genotype)
        for column, row in zip(self._in_order(), rows, strict=True):
            values = self.columns[column]
            row["better_than"] = int((values[near] < values[own]).sum())
        return int(near.sum()), rows

    def _in_order(self) -> list[Column]:
        return sorted(self.columns, key=lambda column: (column.dataset, column.split, column.epochs or 0))

    def rows(self, genotype: Genotype) -> list[dict[str, str | int | float | None]]:
        """Every column's answer for a cell: dataset, split, epochs, value, rank."""
        return [
            {
                "dataset": column.dataset,
                "split": column.split,
                "epochs": column.epochs,
                "value": self.value(genotype, column.dataset, column.split, column.epochs),
                "rank": self.rank(genotype, column.dataset, column.split, column.epochs),
            }
            for column in self._in_order()
        ]


class Oracle(ABC):
    """Where a table comes from. Searches never hold one: it is opened after a search has ended."""

    @abstractmethod
    def check(self) -> None:
        """Look, without opening the table, whether it is there; called before a search starts.

        Raises:
            UserError: it is not.
        """

    @abstractmethod
    def load(self, space: Space) -> Table | None:
        """Read the table of a space; None if there is none, which is no error.

        Raises:
            UserError: it is not there or not what it should be.
        """

    def notice(self) -> str | None:
        """One line for a user who gets no table: how to get one."""
        return None


def checked_percent(columns: Mapping[Column, NDArray[np.float64]]) -> Mapping[Column, NDArray[np.float64]]:
    """The columns of a file, once they are sure to be percentages.

    Raises:
        ValueError: a value below 0 or above 100, or none above 1, as fractions have it.
    """
    for column, values in columns.items():
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 100:
            raise ValueError(f"column {column} holds {values.min():g} to {values.max():g}; accuracies are percentages")
        if values.max() <= 1:
            raise ValueError(f"column {column} holds nothing above {values.max():g}; give percentages, not fractions")
    return columns


def arranged(
    cells: Iterable[str], values: Mapping[str, Iterable[float]], space: Space = BENCHMARK
) -> dict[str, NDArray[np.float64]]:
    """Columns given cell by cell in any order, brought into the order of the computed index.

    Raises:
        ValueError: a cell that is none, one that is missing or there twice.
    """
    count = space.size or 0
    known = {str(genotype): position for position, genotype in enumerate(space)}
    positions = [known[cell] if cell in known else space.index(space.parse(cell)) for cell in cells]
    order = np.asarray(positions, dtype=np.int64)
    counts = np.bincount(order, minlength=count)
    if (counts != 1).any():
        place = int(np.flatnonzero(counts != 1)[0])
        what = "is missing" if counts[place] == 0 else f"is there {counts[place]} times"
        raise ValueError(f"it needs each of the {count} cells once; {space.genotype(place)} {what}")
    arranged_values = {}
    for name, column in values.items():
        array = np.empty(count)
        array[order] = np.fromiter(column, dtype=np.float64, count=len(order))
        arranged_values[name] = array
    return arranged_values
