"""The search: one loop over steps, epochs and phases, from the first batch to the cell.

Every method goes through this loop; what differs between methods are the objects it calls: phases, weight step,
architecture step, relaxation, regularizers, discretizer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from darts.run import ranks
from darts.run.checkpoint import check_kept, check_retries, keep_checkpoint, say_back
from darts.run.errors import UserError
from darts.run.signals import Interrupted, StopRequest
from darts.run.together import Clock, check_same
from darts.search.budget import Budget
from darts.search.discretizers.base import Discretizer
from darts.search.diverging import NonFiniteLoss, diverged
from darts.search.early_stopping import EarlyStopping
from darts.search.finish import result_of
from darts.search.monitors.base import Monitor
from darts.search.phases import Phase, Schedule, Steps
from darts.search.plan import current_begin, current_ends, end_phase, follow, meet_the_clock, planned_ends
from darts.search.result import SearchResult
from darts.search.saved import content_of, restored
from darts.search.state import SearchState
from supernet.spaces.base import Genotype


class Search:
    """One search, ready to run.

    Args:
        state: network, architecture parameters, optimizers, data.
        steps: the two half-steps and their order.
        phases: by name, in order.
        discretizer: from edge weights to a cell.
        budget: how long.
        monitors: told of every step and epoch.
        run_dir: where the checkpoint goes; nothing is written if None.
        checkpoint_minutes: working time between checkpoints inside an epoch; see `darts.run.together.Clock`.
        early_stopping: may end a phase that trains the architecture.
        identity: by name, the settings and data that it goes on with after a stop, or not at all.
        checkpoints: how many are kept: the last, and those before it.
        retries: how often it goes back to the last checkpoint, with smaller learning rates, where a number is no longer
            finite.
        retry_rate: factor of all learning rates each time.
    """

    def __init__(
        self,
        state: SearchState,
        steps: Steps,
        phases: Mapping[str, Phase],
        discretizer: Discretizer,
        budget: Budget,
        monitors: Sequence[Monitor] = (),
        run_dir: Path | None = None,
        checkpoint_minutes: float = 5.0,
        early_stopping: EarlyStopping | None = None,
        identity: Mapping[str, str] | None = None,
        checkpoints: int = 2,
        retries: int = 0,
        retry_rate: float = 0.5,
    ) -> None:
        if not checkpoint_minutes >= 0:
            raise ValueError(f"checkpoint_minutes: got {checkpoint_minutes}; give 0 (every step) or more")
        check_kept(checkpoints)
        check_retries(retries, retry_rate)
        self.retries, self.retry_rate = retries, retry_rate
        self.state, self.steps, self.schedule = state, steps, Schedule(phases)
        self.discretizer, self.budget, self.monitors = discretizer, budget, monitors
        self.run_dir, self.checkpoint_minutes, self.checkpoints = run_dir, checkpoint_minutes, checkpoints
        self.early_stopping, self.identity = early_stopping, dict(identity or {})
        self.stop = StopRequest("step")
        self.checkpointed_step = -1

    @property
    def told(self) -> Sequence[Monitor]:
        """Of the monitors, those that hear what happens: in the first process; in the others they only measure."""
        return self.monitors if ranks.first() else ()

    def run(self) -> SearchResult:
        """Search until the budget is spent.

        Raises:
            NonFiniteLoss: training diverged; the last good checkpoint is kept, see `roll_back`.
            Interrupted: asked to stop; the checkpoint is written.
        """
        state, clock, stopped_by = self.state, time.perf_counter(), "steps"
        if state.planned_steps == 0:
            follow(state, self.schedule, self.plan())
            clock = self._spend("planning", clock)
        steps_per_epoch, due = state.task.steps_per_epoch, Clock(self.checkpoint_minutes)
        for monitor in self.told:
            monitor.on_start(self)
        try:
            with self.stop.listening():
                self._checkpoint()
                begun, clock = clock, self._spend("checkpoints", clock)
                due.keeping(begun, clock)
                while state.step < state.planned_steps:
                    phase = self._phase()
                    self.steps.weights.schedule(state)
                    try:
                        numbers = phase.step(state, self.steps)
                    except NonFiniteLoss as error:
                        raise self._diverged(state.step + 1, str(error)) from None
                    state.step += 1
                    if phase.moves_supernet:
                        state.evaluated = None
                    if "train_loss" in numbers:
                        state.train_loss_sum += numbers["train_loss"]
                        state.train_loss_count += 1
                    clock = self._spend("training", clock)
                    for monitor in self.told:
                        monitor.on_step(self, numbers)

                    epoch_ends = state.step % steps_per_epoch == 0
                    keep, stopping = due.met(state.seconds, self.stop, clock, epoch_ends)
                    out_of_time = self.budget.seconds is not None and state.seconds["total"] >= self.budget.seconds
                    if phase.anytime:
                        meet_the_clock(state, self.schedule, self.budget)
                    if out_of_time or state.step == state.planned_steps:
                        self._leave()
                    if epoch_ends or out_of_time or state.step == state.planned_steps:
                        self._end_epoch()
                        if phase.trains_architecture and state.phase:
                            self._stop_early()
                        clock = self._spend("evaluation", clock)
                    if out_of_time and state.step < state.planned_steps:
                        stopped_by = "seconds"
                        break
                    if keep or stopping:
                        self._checkpoint()
                        begun, clock = clock, self._spend("checkpoints", clock)
                        due.keeping(begun, clock)
                    if stopping and state.step < state.planned_steps:
                        raise Interrupted
            self._checkpoint()
            result = result_of(state, self.steps, self.schedule, current_ends(state, self.schedule), stopped_by)
        finally:
            for phase in self.schedule.phases.values():
                phase.release()
            for monitor in self.told:
                monitor.on_end(self)
        return result

    def _phase(self) -> Phase:
        """The phase of the next step; leaves the one before and enters it where it begins."""
        state = self.state
        ends = current_ends(state, self.schedule)
        name = self.schedule.at(state.step, ends)
        if name != state.phase:
            if state.phase:
                self._leave()
            state.phase = name
            self.schedule.phases[name].enter(state)
        state.phase_progress = self.schedule.progress(state.step, ends)
        return self.schedule.phases[name]

    def _leave(self) -> None:
        """The phase under way ends; what it found, if it found something, holds until the next one ends."""
        state = self.state
        state.standing = None
        found = self.schedule.phases[state.phase].exit(state)
        state.phase, state.found = "", None if found is None else str(found)

    def plan(self) -> dict[str, int]:
        """The step before which each phase ends; times a few steps on throw-away state for seconds."""
        return planned_ends(self.state, self.steps, self.schedule, self.budget)

    def _stop_early(self) -> None:
        """End the phase under way if its history says so, with the architecture of its best epoch."""
        state = self.state
        if self.early_stopping is None or not self.early_stopping.applies(state, current_begin(state, self.schedule)):
            return
        end_phase(state, self.schedule)
        if state.step == state.planned_steps:
            self._leave()
        self._end_epoch()

    def check_budget(self) -> None:
        """Refuse a budget that does not reach a single step, before anything is written.

        Raises:
            ValueError: it does not.
        """
        if self.budget.seconds is None:
            self.plan()

    def change_budget(self, extend: bool) -> None:
        """Plan anew on a state that has steps behind it.

        Raises:
            UserError: the new budget is longer and `extend` is false, or it ends before where the run stands.
        """
        state, ends = self.state, self.plan()
        planned = max(ends.values())
        if planned > state.planned_steps and not extend:
            raise UserError(
                f"budget: {planned} steps are more than the {state.planned_steps} planned; "
                "add extend=true (schedules are stretched, so it is another run from here on)"
            )
        if planned <= state.step:
            raise UserError(f"budget: {planned} steps, but {state.step} are done already; give a larger budget")
        partial = state.history and state.history[-1]["step"] % state.task.steps_per_epoch
        if planned != state.planned_steps and partial:
            state.history.pop()  # the record of an epoch that now goes on
        follow(state, self.schedule, ends)
        state.found = state.standing = None
        self.checkpointed_step = -1

    def resume(self) -> dict[str, Any]:
        """Go on from the run folder's checkpoint; returns its content.

        Raises:
            UserError: no checkpoint, a broken one, or one of another space, other settings or other data.
        """
        assert self.run_dir is not None
        content = restored(self.state, self.schedule.phases, self.identity, self.run_dir)
        self.checkpointed_step = self.state.step
        return content

    def roll_back(self, error: NonFiniteLoss) -> None:
        """Go back to the last checkpoint, with smaller learning rates; then `run` goes on.

        Raises:
            NonFiniteLoss: the error, where there is no checkpoint or that was done `retries` times.
        """
        state = self.state
        if self.run_dir is None or self.checkpointed_step < 0 or len(state.rolled_back) >= self.retries:
            raise error
        rate, before, why = self.retry_rate * state.rate, state.rolled_back, error.where or str(error)
        self.resume()
        for group in state.arch_optimizer.param_groups:  # of the checkpoint; rates of weights follow a schedule
            group["lr"] *= rate / state.rate
        state.rate = rate
        state.rolled_back = [*before, {"why": why, "step": state.step, "rate": rate}]
        self.checkpointed_step = -1  # so that this is on the disk before the next step
        say_back(state.rolled_back, self.retries)

    def derived(self) -> Genotype:
        """What the discretizer makes of the architecture parameters now."""
        return self.discretizer(self.state.expected_weights().mean_EO, self.state.space)

    def _diverged(self, step: int, what: str) -> NonFiniteLoss:
        planned, phase = self.state.planned_steps, self.state.phase
        return diverged(step, planned, phase, what, self.run_dir, self.checkpointed_step, self.retries)

    def _end_epoch(self) -> None:
        state = self.state
        moved = state.evaluated is None
        if state.evaluated is None:
            state.evaluated = state.evaluate()
        valid_loss, value = state.evaluated
        if not math.isfinite(valid_loss):
            raise self._diverged(state.step, f"the validation loss in the evaluation is {valid_loss}")
        record = {
            "epoch": -(-state.step // state.task.steps_per_epoch),
            "step": state.step,
            "alphas": {name: value.tolist() for name, value in state.params.items()},
            "cell": state.found or str(self.derived()),
            "train_loss": state.mean_train_loss(),
            "valid_loss": valid_loss,
            f"valid_{state.task.metric.name}": value,
        }
        measured: dict[str, float] = {} if moved else dict(state.history[-1].get("measured", {}))
        for monitor in self.monitors if moved else ():
            measured |= ranks.from_first(monitor.measure(self))
        if measured:
            record["measured"] = measured
        if state.allowed_EO is not None:
            record["allowed"] = [list(row) for row in state.allowed_EO]
        state.train_loss_sum, state.train_loss_count = 0.0, 0
        state.history.append(record)
        check_same(self.run_dir, len(state.history), state.groups.count, state.shared)
        for monitor in self.told:
            monitor.on_epoch(self, record)

    def _checkpoint(self) -> None:
        state = self.state
        if self.run_dir is None or state.step == self.checkpointed_step:
            return
        if not state.is_finite():
            raise self._diverged(state.step, "a network weight or an architecture parameter is not finite")
        content = content_of(state, self.schedule.phases, self.identity, self.budget)
        if ranks.first():
            keep_checkpoint(self.run_dir, content, state.step, self.checkpointed_step, self.checkpoints)
        self.checkpointed_step = state.step

    def _spend(self, part: str, since: float) -> float:
        now = time.perf_counter()
        self.state.seconds[part] = self.state.seconds.get(part, 0.0) + now - since
        self.state.seconds["total"] += now - since
        return now
