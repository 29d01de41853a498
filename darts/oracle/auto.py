"""The best table at hand: the file at oracle.path, else the installed analog table, else none."""

from __future__ import annotations

from darts.oracle.analog import HINT, AnalogOracle, find_data
from darts.oracle.base import Oracle, Table
from darts.oracle.csv import CsvOracle
from supernet.spaces.base import Space


class AutoOracle(Oracle):
    """Chooses when asked.

    Args:
        path: a CSV table, or None.
    """

    def __init__(self, path: str | None = None) -> None:
        self.chosen: Oracle | None = None
        if path is not None:
            self.chosen = CsvOracle(path)
        elif find_data() is not None:
            self.chosen = AnalogOracle()

    def check(self) -> None:
        if self.chosen is not None:
            self.chosen.check()

    def load(self, space: Space) -> Table | None:
        return None if self.chosen is None else self.chosen.load(space)

    def notice(self) -> str | None:
        if self.chosen is not None:
            return None
        return f"no table of known accuracies: give oracle.path=FILE.csv, or {HINT}"
