"""What a monitor is: told of everything, changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from darts.search_loop import Search


class Monitor:
    """Hooks that do nothing; override what is wanted. A monitor never touches the state of the search."""

    def on_start(self, search: Search) -> None:
        """Before the first step, also of a resumed run."""

    def on_step(self, search: Search, numbers: dict[str, float]) -> None:
        """After every step, with what the step returned: losses and learning rate."""

    def on_epoch(self, search: Search, record: dict[str, Any]) -> None:
        """After every evaluation, with the record that went into the history."""

    def on_end(self, search: Search) -> None:
        """When the loop is left, for whatever reason."""
