"""What a monitor is: told of everything, changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from darts.search.state import SearchState
from supernet.spaces.base import Genotype


class Watched(Protocol):
    """What a monitor sees of a search."""

    @property
    def state(self) -> SearchState:
        """To be read."""

    @property
    def run_dir(self) -> Path | None:
        """Where files may go."""

    def derived(self) -> Genotype:
        """What the discretizer makes of the architecture parameters now."""


class Monitor:
    """Hooks that do nothing; override what is wanted. A monitor never touches the state of the search."""

    def measure(self, search: Watched) -> dict[str, float]:
        """Numbers for the record of an epoch that has moved the supernet, where early stopping sees them."""
        return {}

    def on_start(self, search: Watched) -> None:
        """Before the first step, also of a resumed run."""

    def on_step(self, search: Watched, numbers: dict[str, float]) -> None:
        """After every step, with what the step returned: losses and learning rate."""

    def on_epoch(self, search: Watched, record: dict[str, Any]) -> None:
        """After every evaluation, with the record that went into the history."""

    def on_end(self, search: Watched) -> None:
        """When the loop is left, for whatever reason."""
