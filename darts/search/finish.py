"""From the state of a search that has ended to its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise

import torch

from darts.run.environment import environment
from darts.search.phases import Schedule, Steps
from darts.search.result import SearchResult
from darts.search.state import SearchState
from darts.search.verdict import recorded_weights, verdict
from supernet.size import NetworkSize
from supernet.spaces.base import Space


def result_of(
    state: SearchState, steps: Steps, schedule: Schedule, ends: Mapping[str, int], stopped_by: str
) -> SearchResult:
    """The result, once the last epoch has ended; all that it says is read from what ran."""
    last, space, task = state.history[-1], state.space, state.task
    cell = state.found or last["cell"]
    size = space.final_size(task.final_size())
    benchmark = space.final_size(NetworkSize())
    cost, benchmark_cost = (space.cost(space.parse(cell), one) for one in (size, benchmark))
    done = [0, *(min(end, state.step) for end in ends.values())]
    training = state.seconds["training"]
    chosen = any(phase.trains_architecture or phase.chooses for phase in schedule.phases.values())
    weights_KEO = torch.stack(
        [recorded_weights(record, state.relaxation, state.planned_steps) for record in state.history]
    )
    return SearchResult(
        cell=cell,
        seed=state.seed,
        planned_steps=state.planned_steps,
        stopped_by=stopped_by,
        stopped_early=state.stopped_early,
        rolled_back=state.rolled_back,
        epochs=state.step // task.steps_per_epoch,
        steps=state.step,
        phase_steps=dict(zip(ends, (b - a for a, b in pairwise(done)), strict=True)),
        images=state.images,
        evaluation_images=state.evaluation_images,
        seconds=dict(state.seconds),
        history=state.history,
        alphas=last["alphas"],
        supernet_valid=last[f"valid_{task.metric.name}"],
        flops=cost.flops,
        params=cost.params,
        network_size=space.size_text(size),
        benchmark_cost=None
        if size == benchmark or type(space).final_size is not Space.final_size
        else asdict(benchmark_cost) | {"network_size": str(benchmark)},
        searched_on=task.name,
        settings={
            "batch_norm": getattr(state.network, "batch_norm", None),
            "evaluated": "mixture" if state.relaxation.trains_architecture else "drawn paths",
            **task.settings,
            "order": steps.order,
            "architecture_trained": chosen,
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "precision": state.compute.precision,
        },
        versions=environment(state.device),
        metric=task.metric.stored(),
        allowed=operations_left(state),
        standing=state.standing,
        verdict=verdict(space, cell, state.history, weights_KEO, state.standing) if chosen else None,
        initial_alphas=state.initial_alphas,
        timing={"steps_per_second": state.step / training, "images_per_second": state.images / training},
    )


def operations_left(state: SearchState) -> dict[str, list[str]] | None:
    """Names of the operations that are still allowed, by edge; None if those are that the search began with."""
    if state.allowed_EO == state.space.allowed_EO:
        return None
    assert state.allowed_EO is not None
    space = state.space
    return {
        edge: [name for name, mark in zip(space.candidates, row, strict=True) if mark]
        for edge, row in zip(space.edge_names, state.allowed_EO, strict=True)
    }
