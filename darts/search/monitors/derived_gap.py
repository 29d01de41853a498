"""What the supernet loses when all but one operation an edge are taken away."""

from __future__ import annotations

from darts.search.inherited import inherited, some_batches
from darts.search.monitors.base import Monitor, Watched


class DerivedGapMonitor(Monitor):
    """`derived_gap`: the metric of the mixture minus that of the derived cell with the weights it inherits, both on the
    architecture part (Chen & Hsieh 2020, SDARTS, arXiv:2002.05283, figure 1, where a wide gap goes with collapse).

    Args:
        batches: of the architecture part; all of it if None.
    """

    def __init__(self, batches: int | None = None) -> None:
        self.batches = some_batches(batches)

    def measure(self, search: Watched) -> dict[str, float]:
        state = search.state
        derived = inherited(state.compute, state.space, state.task, search.derived(), self.batches)
        assert state.evaluated is not None
        return {"derived_gap": state.task.metric.worth(state.evaluated[1]) - derived}
