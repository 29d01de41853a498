"""The phases of a search: what one step updates, and for which share of the budget.

More kinds (shrink, project and fine-tune, evolve over the supernet) are further classes here or in plug-ins.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from darts.search.arch_steps.base import ArchStep
from darts.search.state import SearchState
from darts.search.weight_steps.base import WeightStep, backward
from supernet.relaxations.base import Relaxation
from supernet.spaces.base import Genotype, Space

ORDERS = ("architecture_first", "weights_first")


@dataclass(frozen=True)
class Steps:
    """The two half-steps of a search and which comes first.

    Raises:
        ValueError: unknown order.
    """

    weights: WeightStep
    architecture: ArchStep
    order: str = "architecture_first"

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ValueError(f"order: got {self.order!r}; allowed are {', '.join(ORDERS)}")


class Phase(ABC):
    """A stretch of the search in which every step does the same.

    The loop calls `enter` before the first step, `step` for every step, `exit` after the last one; a resumed search
    calls `load_state_dict` instead of `enter` where the phase was under way. `SearchState.phase_progress` is the share
    of the phase that is done. A phase may narrow the space (`SearchState.allow`), and need not train anything.

    Args:
        share: its part of the budget, relative to the other phases'; 0 leaves it out.

    Raises:
        ValueError: share is negative.
    """

    trains_architecture = True
    moves_supernet = True  # False: its steps leave the supernet and the architecture parameters as they are
    chooses = False  # True: `exit` gives the genotype that the search has found
    anytime = False  # True: it may end at any step, no schedule hangs on how many there are
    requires: tuple[str, ...] = ()  # abilities that a space must have, of `supernet.spaces.base.ABILITIES`
    executor: str | None = None  # where it trains networks of single cells, by its name

    def __init__(self, share: float = 1.0) -> None:
        if not 0 <= share < math.inf:
            raise ValueError(f"share: got {share}; give 0 or more")
        self.share = share

    @abstractmethod
    def passes(self, steps: Steps, relaxation: Relaxation) -> int:
        """Forward passes of a batch in one step."""

    @abstractmethod
    def step(self, state: SearchState, steps: Steps) -> dict[str, float]:
        """Draw batches, update; returns the numbers worth a curve, ``train_loss`` among them if it trains weights."""

    def check(self, space: Space) -> None:
        """Refuse options that the space or this machine cannot serve, before anything is made.

        Raises:
            ValueError: they cannot.
        """
        return

    def reach(self, state: SearchState, ray_address: str | None) -> None:
        """Refuse to begin where something is not there that the phase runs on.

        Args:
            state: of the search, which begins or goes on.
            ray_address: of a Ray cluster, if one was given.

        Raises:
            ValueError: it is not.
        """
        return

    def release(self) -> None:
        """Let go of what it runs on; the search ends or stops here."""
        return

    def fits(self, state: SearchState) -> None:
        """Refuse options that do not go together with the rest of the search, before it begins.

        Raises:
            ValueError: they do not.
        """
        return

    def enter(self, state: SearchState) -> None:
        """The phase begins."""
        return

    def exit(self, state: SearchState) -> Genotype | None:
        """The phase ends; the last one may give the genotype that the search has found, in place of the discretizer's,
        and say in `state.standing` how its candidates stand."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What the phase itself has to remember, as tensors, numbers, strings, lists and dicts."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly there."""
        return


class WarmUp(Phase):
    """Network weights alone."""

    trains_architecture = False

    def passes(self, steps: Steps, relaxation: Relaxation) -> int:
        return steps.weights.passes(relaxation)

    def step(self, state: SearchState, steps: Steps) -> dict[str, float]:
        return steps.weights(state, state.task.train.next(), None)


class Bilevel(Phase):
    """An architecture step on a validation batch and a weight step on a training batch."""

    def passes(self, steps: Steps, relaxation: Relaxation) -> int:
        return steps.weights.passes(relaxation) + steps.architecture.passes(relaxation)

    def step(self, state: SearchState, steps: Steps) -> dict[str, float]:
        train_batch, valid_batch = state.task.train.next(), state.task.valid.next()
        both = (steps.architecture, steps.weights)
        numbers: dict[str, float] = {}
        for half in both if steps.order == "architecture_first" else reversed(both):
            numbers |= half(state, train_batch, valid_batch)
        return numbers


class SingleLevel(Phase):
    """Weights and architecture move together, by one pass over a training batch."""

    def passes(self, steps: Steps, relaxation: Relaxation) -> int:
        return relaxation.paths("architecture")

    def step(self, state: SearchState, steps: Steps) -> dict[str, float]:
        batch, paths = state.task.train.next(), state.edge_weights("architecture")
        part = "training loss in the single-level step"
        loss = backward(state, batch, paths, part, state.regularization())
        for value in state.params.values():  # relaxations read it
            value.grad = torch.zeros_like(value) if value.grad is None else value.grad
        steps.weights.update(state, paths)
        steps.architecture.update(state)
        return {"train_loss": loss, "lr": state.weight_optimizer.param_groups[0]["lr"]}


class Schedule:
    """Phases by name, in order, over a planned number of steps.

    Raises:
        ValueError: no phase has a share.
    """

    def __init__(self, phases: Mapping[str, Phase]) -> None:
        self.phases = {name: phase for name, phase in phases.items() if phase.share > 0}
        if not self.phases:
            raise ValueError("share: all phases have 0; give at least one a share above 0")
        self.shares = sum(phase.share for phase in self.phases.values())

    def ends(self, planned_steps: int) -> dict[str, int]:
        """The step before which each phase ends, by its share of the steps."""
        done, ends = 0.0, {}
        for name, phase in self.phases.items():
            done += phase.share
            ends[name] = round(planned_steps * done / self.shares)
        return ends

    def ends_in(self, seconds: float, seconds_per_step: Mapping[str, float], reserve: float) -> dict[str, int]:
        """The same, by its share of the time, of which phases that are not `anytime` leave a part in reserve."""
        end, ends = 0, {}
        for name, phase in self.phases.items():
            time = seconds * phase.share / self.shares * (1 if phase.anytime else 1 - reserve)
            end += max(1, int(time / seconds_per_step[name]))
            ends[name] = end
        return ends

    def moving_steps(self, ends: Mapping[str, int]) -> int:
        """The step before which the last phase ends that moves the supernet; of all, if none does."""
        return max((ends[name] for name, phase in self.phases.items() if phase.moves_supernet), default=0) or max(
            ends.values()
        )

    @staticmethod
    def at(step: int, ends: Mapping[str, int]) -> str:
        """Name of the phase that a step belongs to."""
        return next((name for name, end in ends.items() if step < end), list(ends)[-1])

    @staticmethod
    def progress(step: int, ends: Mapping[str, int]) -> float:
        """Share of its phase that is done before a step, in [0, 1]."""
        all_ends = [0, *ends.values()]
        begin, end = next(((a, b) for a, b in itertools.pairwise(all_ends) if step < b), (step, step + 1))
        return (step - begin) / (end - begin)

    def total(self, value: Mapping[str, float], planned_steps: int) -> float:
        """Sum over all steps of something that a step of each phase has a value of."""
        start, total = 0, 0.0
        for name, end in self.ends(planned_steps).items():
            total += (end - start) * value[name]
            start = end
        return total
