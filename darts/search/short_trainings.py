"""Networks of single cells under training, several at a time, by an executor; each process of a run trains its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from darts.run import ranks
from darts.run.errors import UserError
from darts.search.cell_model import WORST
from darts.search.state import SearchState
from darts.tasks.base import Batch
from darts.training.executors import EXECUTORS, Here
from darts.training.schedules import cosine
from darts.training.short import ShortTraining
from darts.training.workers import ATTEMPTS, Died, Executor, Worker

ALLOWED: dict[str, type[Executor[ShortTraining]]] = {"thread": Here, **EXECUTORS}

Found = TypeVar("Found")


class ShortTrainings:
    """Trains networks by AdamW (arXiv:1711.05101), whose rate rises and then falls along a cosine.

    They are trained in groups, a step of each at a time. Where a worker dies, another one begins where its network was
    when that was last kept, and trains it on the batches since then.

    Args:
        channels, cells: of the networks.
        lr, weight_decay, warm_up: of AdamW; batches in which the rate rises.
        together: networks at the same time, each on one thread.
        executor: where, by its name in `ALLOWED`; on a cluster at `address`, if that is set.
    """

    def __init__(
        self,
        channels: int,
        cells: int,
        lr: float,
        weight_decay: float,
        warm_up: int,
        together: int,
        executor: str = "thread",
    ) -> None:
        self.channels, self.cells, self.together = channels, cells, together
        self.lr, self.weight_decay, self.warm_up = lr, weight_decay, warm_up
        self.kind = executor
        self.address: str | None = None
        self.pool = ThreadPoolExecutor(1 if executor == "serial" else together)
        self.executor: Executor[ShortTraining] | None = None
        self.workers: dict[int, Worker[ShortTraining]] = {}  # of this process, by place in a group
        self.seed = 0
        self.begin("")

    def begin(self, name: str) -> None:
        """Anew, without networks; those that follow have initial weights of that name."""
        self.name = name
        self.kept: dict[str, Any] = {}  # by cell, what `ShortTraining.state` gave
        self._enter([])

    def _enter(self, group: Sequence[str]) -> None:
        self.group = list(group)
        self.since: list[tuple[Batch, float]] = []  # what its networks are trained on since they began or were kept
        self.seen: dict[int, int] = {}  # by place, of a network that there is: how many of those it was trained on

    def step(self, state: SearchState, cells: Sequence[str], batch: Batch, done: int, length: int) -> list[float]:
        """Trains the network of each cell on a batch, after `done` of `length`; losses, `WORST` where one diverged.

        Raises:
            UserError: a worker that dies again and again.
        """
        executor = self.open(state)
        if list(cells) != self.group:
            self._enter(cells)
        rate = min(1.0, (done + 1) / (self.warm_up + 1)) * cosine(done / length, self.lr, 0.0)
        self.since.append((batch, rate))
        losses = {place: WORST if loss is None else loss for place, loss in self._gathered(self._trained).items()}
        if not executor.dies:
            self._forget_batches()
        return [losses[place] for place in range(len(cells))]

    def end_group(self, keep: bool) -> None:
        """The group's networks are needed once more, or no longer."""
        if keep:
            self.kept |= {self.group[place]: found for place, found in self._gathered(self._state).items()}
        else:
            self.kept = {cell: found for cell, found in self.kept.items() if cell not in self.group}
        self._enter([])

    def keep(self, cells: Sequence[str]) -> None:
        """Go on with these alone."""
        self.kept = {cell: self.kept[cell] for cell in cells}

    def close(self) -> None:
        """Ends workers that are processes; their networks go on, if they do, from where they were last kept."""
        if self.executor is not None and self.executor.dies:
            self.executor.close()
            self.executor, self.workers = None, {}
            self._enter([])

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimizers by cell; of all processes in the first one."""
        own = {self.group[place]: found for place, found in self._of_own(self._state).items()}
        if self.executor is not None and self.executor.dies:
            self.kept |= own
            self._forget_batches()
        return self.kept | {cell: found for part in ranks.brought(own) for cell, found in part.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on there."""
        self.kept = dict(state)
        self._enter([])

    def open(self, state: SearchState) -> Executor[ShortTraining]:
        """The executor, which begins workers where they are first needed.

        Raises:
            ValueError: there is no way to it, or it has not as many places.
        """
        if self.executor is None:
            self.seed, kind, task = state.seed, ALLOWED[self.kind], state.task
            size = task.network_size(self.channels, self.cells)
            make = partial(
                ShortTraining, state.space, task.without_data() if kind.dies else task, size, self.lr, self.weight_decay
            )
            executor = kind(make, self.together, self.address, state.device, state.plugins)
            if executor.places < self.together:
                executor.close()
                raise ValueError(f"together: got {self.together}; the cluster has room for {executor.places}")
            self.executor = executor
        return self.executor

    def _forget_batches(self) -> None:
        self.since = []
        self.seen = dict.fromkeys(self.seen, 0)

    def _of_own(self, compute: Callable[[int], Found]) -> dict[int, Found]:
        """By place in the group, of those that this process trains."""
        own = [place for place in range(len(self.group)) if place % ranks.size() == ranks.rank()]
        return dict(zip(own, self.pool.map(compute, own), strict=True))

    def _gathered(self, compute: Callable[[int], Found]) -> dict[int, Found]:
        """By place in the group, of all."""
        return {place: found for part in ranks.gathered(self._of_own(compute)) for place, found in part.items()}

    def _trained(self, place: int) -> float | None:
        return self._surely(place, lambda worker, loss: loss)

    def _state(self, place: int) -> list[Any]:
        return self._surely(place, lambda worker, loss: worker.call(ShortTraining.state))

    def _surely(self, place: int, compute: Callable[[Worker[ShortTraining], float | None], Found]) -> Found:
        """Of a worker whose network has been trained on all batches, and its last loss; of another one if it dies."""
        for _ in range(ATTEMPTS):
            try:
                return compute(*self._caught_up(place))
            except Died as problem:
                cell, why = self.group[place], str(problem)
                logging.getLogger(__name__).warning("The worker that trained %s died: %s.", cell, why)
                self._lose(place)
        raise UserError(
            f"finalists: the worker that trained {cell} died {ATTEMPTS} times ({why}); the last checkpoint is kept: go "
            "on with resume=RUN_DIR; where memory is short begin anew with fewer networks at a time (together)"
        )

    def _caught_up(self, place: int) -> tuple[Worker[ShortTraining], float | None]:
        assert self.executor is not None
        if place not in self.workers:
            self.workers[place] = self.executor.begin()
        worker, cell, loss = self.workers[place], self.group[place], None
        if place not in self.seen:
            worker.call(ShortTraining.begin, cell, self.seed, self.name, self.kept.get(cell))
            self.seen[place] = 0
        for batch, rate in self.since[self.seen[place] :]:
            loss = worker.call(ShortTraining.step, batch, rate)
            self.seen[place] += 1
        return worker, loss

    def _lose(self, place: int) -> None:
        assert self.executor is not None
        self.seen.pop(place, None)
        if (worker := self.workers.pop(place, None)) is not None:
            self.executor.end(worker)
