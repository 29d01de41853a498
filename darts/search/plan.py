"""From a budget to a number of steps."""

from __future__ import annotations

import copy
import statistics
import time

from darts.search.budget import Budget
from darts.search.phases import Schedule, Steps
from darts.search.state import SearchState

PLANNED_OVER = 1000  # steps over which the phases' mean time is taken
PLAN_SHARE = 0.9  # of budget.seconds; the rest absorbs checkpoints, figures and a machine that slows down


def planned_steps(state: SearchState, steps: Steps, schedule: Schedule, budget: Budget) -> int:
    """The number of steps that a budget stands for; for seconds it times a few of them on throw-away state."""
    task, relaxation = state.task, state.relaxation
    images = {name: phase.passes(steps, relaxation) * task.batch_size for name, phase in schedule.phases.items()}
    seconds = _seconds_per_step(state, steps, schedule) if budget.seconds is not None else None
    return budget.steps_for(task.steps_per_epoch, lambda count: int(schedule.total(images, count)), seconds)


def _seconds_per_step(state: SearchState, steps: Steps, schedule: Schedule) -> float:
    """Median time of a step, evaluation included, over the phases; state and phases stay as they were."""
    by_phase = {}
    with state.preserved():
        for name, phase in schedule.phases.items():
            times, before = [], copy.deepcopy(phase.state_dict())
            state.phase = name
            phase.enter(state)
            for _ in range(6):
                start = time.perf_counter()
                steps.weights.schedule(state)
                phase.step(state, steps)
                times.append(time.perf_counter() - start)
            by_phase[name] = statistics.median(times[1:])
            phase.load_state_dict(before)
        start = time.perf_counter()
        state.evaluate()
        evaluation = (time.perf_counter() - start) / state.task.steps_per_epoch
    return (schedule.total(by_phase, PLANNED_OVER) / PLANNED_OVER + evaluation) / PLAN_SHARE
