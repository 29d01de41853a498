"""Where the classes stand that configs of version 0.1 name: run folders of that time resume, derive and compare."""

from __future__ import annotations

MOVED = {
    "darts.arch_steps": "darts.search.arch_steps",
    "darts.baselines": "darts.blackbox.methods",
    "darts.datasets": "darts.tasks.datasets",
    "darts.discretizers": "darts.search.discretizers",
    "darts.evaluators": "darts.blackbox.evaluators",
    "darts.monitors": "darts.search.monitors",
    "darts.objectives": "darts.blackbox.objectives",
    "darts.phases": "darts.search.phases",
    "darts.regularizers.expected_flops.ExpectedFlops": "darts.search.regularizers.expected_cost.ExpectedCost",
    "darts.regularizers": "darts.search.regularizers",
    "darts.search.regularizers.expected_flops.ExpectedFlops": "darts.search.regularizers.expected_cost.ExpectedCost",
    "darts.weight_steps": "darts.search.weight_steps",
    "supernet.search_space.SearchSpace": "supernet.spaces.cells.CellSpace",
}
"""Beginning of a dotted name then, and now."""


def now(target: str) -> str:
    """The dotted name of today."""
    for before, after in MOVED.items():
        if target == before or target.startswith(f"{before}."):
            return after + target[len(before) :]
    return target
