"""No table, on request."""

from __future__ import annotations

from darts.oracle.base import Oracle


class NoOracle(Oracle):
    """Knows nothing and says nothing."""

    def check(self) -> None:
        return None

    def load(self) -> None:
        return None
