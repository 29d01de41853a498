"""From a budget to the step before which each phase ends."""

from __future__ import annotations

import copy
import statistics
import time

from darts.run import ranks
from darts.search.budget import Budget
from darts.search.phases import Schedule, Steps
from darts.search.state import SearchState

RESERVE = 0.1  # of the seconds of a phase that follows a schedule: checkpoints, figures, a machine that slows down
TRIED = 0.01  # of the seconds of a phase, to time its steps; at least 6 steps, at most 60


def planned_ends(state: SearchState, steps: Steps, schedule: Schedule, budget: Budget) -> dict[str, int]:
    """By phase, in their order; for a budget in seconds it times a few steps of each on throw-away state."""
    task, relaxation = state.task, state.relaxation
    if budget.seconds is not None:
        start = time.perf_counter()
        seconds_per_step = _seconds_per_step(state, steps, schedule, budget.seconds)
        left = budget.seconds - ranks.from_first(time.perf_counter() - start)
        return schedule.ends_in(left, seconds_per_step, RESERVE)
    images = {name: phase.passes(steps, relaxation) * task.batch_size for name, phase in schedule.phases.items()}
    return schedule.ends(budget.steps_for(task.steps_per_epoch, lambda count: int(schedule.total(images, count))))


def current_ends(state: SearchState, schedule: Schedule) -> dict[str, int]:
    """The step before which each phase ends, as things stand."""
    return state.ends or schedule.ends(state.planned_steps)


def current_begin(state: SearchState, schedule: Schedule) -> int:
    """The step before the first one of the phase under way."""
    begins = dict(zip(schedule.phases, [0, *current_ends(state, schedule).values()], strict=False))
    return begins[state.phase]


def follow(state: SearchState, schedule: Schedule, ends: dict[str, int]) -> None:
    """From now on phases end there."""
    state.ends, state.planned_steps = ends, max(ends.values())
    state.moving_steps = schedule.moving_steps(ends)


def end_phase(state: SearchState, schedule: Schedule) -> None:
    """The phase under way ends here; those after it keep their steps."""
    ends = current_ends(state, schedule)
    left = ends[state.phase] - state.step
    follow(state, schedule, {name: end - left if end >= ends[state.phase] else end for name, end in ends.items()})


def meet_the_clock(state: SearchState, schedule: Schedule, budget: Budget) -> None:
    """A budget of seconds ends a last phase that is `anytime`, not a plan that was too hopeful or too careful."""
    ends = current_ends(state, schedule)
    if budget.seconds is None or state.phase != list(ends)[-1]:
        return
    left = budget.seconds - state.seconds["total"]
    if left <= 0:
        follow(state, schedule, ends | {state.phase: state.step})
    elif state.step == state.planned_steps:
        more = 1 + int(left * state.step / state.seconds["total"])
        follow(state, schedule, ends | {state.phase: state.step + more})


def _seconds_per_step(state: SearchState, steps: Steps, schedule: Schedule, budget: float) -> dict[str, float]:
    """Mean time of a step of each phase, its part of an evaluation included; state and phases stay as they were.

    Steps that draw paths are cheap and dear in turn, so that few say little; the first ones are slow (the very first
    may compile kernels, for half a minute), and do not count.
    """
    by_phase = {}
    with state.preserved():
        for name, phase in schedule.phases.items():
            times: list[float] = []
            before, enough = copy.deepcopy(phase.state_dict()), TRIED * budget * phase.share / schedule.shares
            state.phase = name
            phase.enter(state)
            while len(times) < 6 or (len(times) < 60 and sum(times) < enough):
                start = time.perf_counter()
                steps.weights.schedule(state)
                phase.step(state, steps)
                times.append(ranks.from_first(time.perf_counter() - start))
            later = times[len(times) // 2 :]
            by_phase[name] = statistics.fmean(later)
            phase.load_state_dict(before)
    with state.preserved():
        start = time.perf_counter()
        state.evaluate()
        evaluation = ranks.from_first(time.perf_counter() - start) / state.task.steps_per_epoch
    moving = (name for name, phase in schedule.phases.items() if phase.moves_supernet)
    return by_phase | {name: by_phase[name] + evaluation for name in moving}
