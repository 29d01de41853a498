"""A table in a text file: columns `cell` and `DATASET_SPLIT_EPOCHS`, such as cifar10_valid_200."""

from __future__ import annotations

import csv
import re
from functools import lru_cache
from pathlib import Path

import numpy as np

from darts.oracle.base import DATASETS, SPLITS, Column, Oracle, Table, arranged, checked_percent
from darts.run.errors import UserError
from supernet.spaces.base import Space

HEADER = re.compile(rf"({'|'.join(DATASETS)})_({'|'.join(SPLITS)})_(\d+)")


class CsvOracle(Oracle):
    """Reads one line for every cell of the space, in any order.

    The columns `cell` and at least one accuracy (%) are needed; `index` is the benchmark's own number. Other
    columns are left alone.

    Args:
        path: the file.
        name: what reports call the table; the file's name without its ending if None.
    """

    def __init__(self, path: str | None, name: str | None = None) -> None:
        if path is None:
            raise ValueError("path: oracle=csv needs a file; give oracle.path=FILE, or oracle=auto for none")
        self.path = Path(path).expanduser()
        self.name = name or self.path.stem

    def check(self) -> None:
        if not self.path.is_file():
            raise UserError(f"oracle.path: there is no file {self.path}; give a CSV table, or leave out oracle.path")

    def load(self, space: Space) -> Table | None:
        if space.size is None:
            return None
        self.check()
        try:
            state = self.path.stat()
            return read_table(self.path.resolve(), self.name, space, state.st_mtime_ns, state.st_size)
        except (ValueError, OSError, csv.Error) as error:
            raise UserError(
                f"oracle.path: {self.path} is no table of this space: {error}; give an intact file, or another space="
            ) from None


@lru_cache(maxsize=2)  # a study asks for the same table once a run
def read_table(path: Path, name: str, space: Space, modified: int, size: int) -> Table:
    """The table in a file, as it is since `modified` (ns) with `size` bytes.

    Raises:
        ValueError, OSError, csv.Error: it holds none.
    """
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.reader(stream)
        header = next(reader, [])
        lines = [line for line in reader if line]
    accuracies = {name: Column(m[1], m[2], int(m[3])) for name in header if (m := HEADER.fullmatch(name))}
    if "cell" not in header or not accuracies:
        missing = "cell" if "cell" not in header else "DATASET_SPLIT_EPOCHS (such as cifar10_test_200)"
        raise ValueError(f"it lacks the column {missing}; it has {', '.join(header) or 'nothing'}")
    short = next((number for number, line in enumerate(lines, 2) if len(line) != len(header)), None)
    if short is not None:
        raise ValueError(f"line {short} does not have {len(header)} fields")
    by_name = dict(zip(header, zip(*lines, strict=True), strict=True)) if lines else dict.fromkeys(header, ())
    wanted = [*accuracies, *(["index"] if "index" in header else [])]
    numbers = {name: map(float, by_name[name]) for name in wanted}
    values = arranged(by_name["cell"], numbers, space)
    index = values.pop("index", None)
    for key in (key for key in header if key.startswith("params")):  # not used; but a table that is right has numbers
        if not all(re.fullmatch(r"\d+(\.\d+)?([eE]\+?\d+)?", text.strip()) for text in by_name[key]):
            raise ValueError(f"column {key} holds something else than numbers of parameters")
    columns = checked_percent({accuracies[name]: array for name, array in values.items()})
    return Table(name, columns, None if index is None else index.astype(np.int64), space)
