"""NAS-Bench-201's complete table, in a compact file made once from the official ones by `darts query import=...`.

The file is a numpy archive without pickles: `name`, `columns` (DATASET/SPLIT/EPOCHS), `values` (a row a column,
15,625 accuracies in order of the computed index) and `index` (the benchmark's own numbers in that order).
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from darts.oracle.base import BENCHMARK, Column, Oracle, Table, checked_percent
from darts.run.errors import UserError
from darts.run.files import replacing
from supernet.spaces.base import Space

LARGEST = 2**28  # bytes of all columns, unpacked


class NatsOracle(Oracle):
    """Reads a converted table: CIFAR-10, CIFAR-100 and ImageNet16-120, after 12 and 200 epochs.

    Args:
        path: the file that `darts query import=OFFICIAL output=FILE` wrote.
    """

    def __init__(self, path: str | None) -> None:
        if path is None:
            raise ValueError("path: oracle=nats needs a file; make it with darts query import=OFFICIAL output=FILE.npz")
        self.path = Path(path).expanduser()

    def check(self) -> None:
        if not self.path.is_file():
            raise UserError(
                f"oracle.path: there is no file {self.path}; make it with darts query import=OFFICIAL output=FILE.npz"
            )

    def load(self, space: Space) -> Table | None:
        if space != BENCHMARK:
            return None
        self.check()
        try:
            with zipfile.ZipFile(self.path) as archive:
                if sum(record.file_size for record in archive.infolist()) > LARGEST:
                    raise ValueError("it unpacks to more than any table of 15,625 cells")
            with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
                columns = {}
                for text, values in zip(content["columns"].tolist(), content["values"], strict=True):
                    dataset, split, epochs = text.split("/")
                    columns[Column(dataset, split, int(epochs))] = values.astype(np.float64)
                return Table(str(content["name"]), checked_percent(columns), content["index"].astype(np.int64))
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OSError,
            EOFError,
            zipfile.BadZipFile,
            zlib.error,
            RuntimeError,
        ) as error:
            raise UserError(
                f"oracle.path: {self.path} is no converted table ({error}); "
                "make it with darts query import=OFFICIAL output=FILE.npz"
            ) from None


def write_table(table: Table, index: np.ndarray, path: Path) -> None:
    """Write a table so that `NatsOracle` reads it; atomically."""
    arrays: dict[str, Any] = {
        "name": np.array(table.name),
        "columns": np.array([str(column) for column in table.columns]),
        "values": np.stack(list(table.columns.values())),
        "index": index,
    }
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
