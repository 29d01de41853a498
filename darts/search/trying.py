"""A step of every phase of a search, thrown away: whether it fits into memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from darts.search.build import ready_search


def tried(settings: Mapping[str, Any]) -> int:
    """Make a step of every phase; items of the smaller part of the data.

    Raises:
        UserError: problems of the config, or what it runs on is not there.
        MemoryError, RuntimeError: it does not fit.
    """
    search = ready_search(settings, None)
    state = search.state
    for name, phase in search.schedule.phases.items():
        state.phase = name
        try:
            phase.enter(state)
            search.steps.weights.schedule(state)
            phase.step(state, search.steps)
        finally:
            phase.release()
    return min(state.task.sizes)
