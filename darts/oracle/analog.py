"""The table of the PyPI package analog-nasbench: an independent retraining of all 15,625 cells on CIFAR-10.

The package declares no licence, so nothing of it is redistributed; its data file is read where pip put it,
without importing the package, with an unpickler that builds nothing but numbers.
"""

from __future__ import annotations

import importlib.util
import pickle
import struct
from pathlib import Path
from typing import Any

from darts.oracle.base import BENCHMARK, Column, Oracle, Table, arranged, checked_percent
from darts.run.errors import UserError
from supernet.genotype import Genotype, edges_of
from supernet.spaces.base import Space

NAME = "analog-cifar10"
HINT = "pip install analog-nasbench"
OPERATIONS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")  # by the package's codes
EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))  # (source, target) in the package's order


class _Record:
    """Stands in for the package's classes: holds attributes, does nothing."""


class _Restricted:
    """Knows two names, both harmless; anything else in the file is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in {("analognasbench.data", "Architecture"), ("analognasbench.data", "DriftMeasurement")}:
            return _Record
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not allowed")


class _Quick(_Restricted, pickle.Unpickler):
    """Takes memory for as many memoised values as the file says it has: for the one that pip put."""


class _Careful(_Restricted, pickle._Unpickler):  # type: ignore[misc, name-defined]
    """Eight times as slow, in Python."""


class AnalogOracle(Oracle):
    """Accuracy (%) of the digital baseline on CIFAR-10's test images; the number of epochs is not stated.

    Its ranks correlate with the published NAS-Bench-201 at 0.991; its best value, 94.07, belongs to another cell.

    Args:
        path: the package's data file; found where the package is installed if None.
    """

    def __init__(self, path: str | None = None) -> None:
        self.path = Path(path).expanduser() if path is not None else find_data()

    def check(self) -> None:
        if self.path is not None and not self.path.is_file():
            raise UserError(f"oracle.path: there is no file {self.path}; leave it out to take the one that pip put")
        if self.path is None:
            raise UserError(f"oracle: the analog table is not installed; {HINT}, or give oracle=csv oracle.path=FILE")

    def load(self, space: Space) -> Table | None:
        if space != BENCHMARK:
            return None
        self.check()
        assert self.path is not None
        try:
            with self.path.open("rb") as stream:
                records = (_Quick if self.path == find_data() else _Careful)(stream).load()
            position = {edge: place for place, edge in enumerate(EDGES)}
            cells = [
                str(Genotype(tuple(OPERATIONS[codes[position[edge]]] for edge in edges_of(4)))) for codes in records
            ]
            values = arranged(cells, {"test": (float(record.baseline_accuracy) for record in records.values())})
            columns = checked_percent({Column("cifar10", "test", None): values["test"]})
        except (
            pickle.UnpicklingError, struct.error, EOFError, OSError, AttributeError, LookupError, TypeError, ValueError,
            OverflowError,
        ) as error:  # fmt: skip
            raise UserError(f"oracle: {self.path} is no data file of analog-nasbench: {error}; {HINT}") from None
        return Table(NAME, columns)


def find_data() -> Path | None:
    """The data file of the installed package, found without importing it."""
    found = importlib.util.find_spec("analognasbench")
    folders = found.submodule_search_locations if found is not None else None
    return Path(folders[0]) / "data.anb" if folders else None
