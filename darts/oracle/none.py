"""No table, on request."""

from __future__ import annotations

from darts.oracle.base import Oracle
from supernet.spaces.base import Space


class NoOracle(Oracle):
    """Knows nothing and says nothing."""

    def check(self) -> None:
        return None

    def load(self, space: Space) -> None:
        return None
