"""A phase that trains cells for real: the search's own cell against its neighbours, again and again.

Shared weights say which operations help a mixture; only networks of single cells show what those are worth, and in
networks deep enough to need a residual path at that. Short trainings say it well where they are compared on the same
batches from the same initial weights.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import nn

from darts.run.seeding import make_generator
from darts.search.phases import Phase, Steps
from darts.search.state import SearchState
from darts.tasks.base import Batch
from darts.training.fit import Diverged, Recipe, fit_step, initialised
from supernet.relaxations.base import Relaxation
from supernet.spaces.base import Genotype

WORST = float("inf")  # loss of a training that diverged


class Finalists(Phase):
    """Rounds of successive halving (Jamieson & Talwalkar 2016, arXiv:1502.07943) among a cell and its neighbours.

    A round trains the incumbent and all its neighbours for `rungs[0]` steps each, the best `keep` of them on to
    `rungs[1]` steps, and so on; the one with the lowest training loss over the last half of the last rung is the next
    incumbent. All of a round see the same batches, each batch once, and start from the same generator, so differences
    of loss are those of the cells; the next round draws anew. The first incumbent is the most probable cell.

    Args:
        share: see `Phase`.
        channels, cells: of the networks; deep and narrow ones tell residual paths apart.
        rungs: steps after which cells are compared, ascending.
        keep: cells that go on to the next rung.
        lr, weight_decay: of SGD, whose rate falls along a cosine over the last rung.
        together: networks that are trained at the same time, one step of each a step of the search, each on one thread.

    Raises:
        ValueError: a value out of range.
    """

    trains_architecture = False
    moves_supernet = False
    requires = ("neighbours",)

    def __init__(
        self,
        share: float = 1.0,
        channels: int = 8,
        cells: int = 5,
        rungs: Sequence[int] = (25, 150),
        keep: int = 6,
        lr: float = 0.1,
        weight_decay: float = 5e-4,
        together: int = 2,
    ) -> None:
        super().__init__(share)
        if not rungs or sorted(set(rungs)) != list(rungs) or rungs[0] < 2:
            raise ValueError(f"rungs: got {list(rungs)}; give numbers of steps from 2, ascending, such as [25,150]")
        for name, number in (("channels", channels), ("cells", cells), ("keep", keep), ("together", together)):
            if number < 1:
                raise ValueError(f"{name}: got {number}; give 1 or more")
        self.channels, self.cells, self.rungs, self.keep, self.together = channels, cells, tuple(rungs), keep, together
        self.recipe = Recipe(1, lr, weight_decay=weight_decay)
        self.pool = ThreadPoolExecutor(together, initializer=partial(torch.set_num_threads, 1))
        self._forget()

    def _forget(self) -> None:
        self.incumbent: str | None = None
        self.round = self.rung = self.position = self.taken = 0
        self.alive: list[str] = []
        self.losses: dict[str, list[float]] = {}  # of this round
        self.mark: dict[str, Any] = {}  # where the stream of batches stood when the rung began
        self.trained: dict[str, tuple[nn.Module, torch.optim.Optimizer]] = {}
        self.stored: dict[str, Any] = {}  # weights and optimizers from a checkpoint, until they are needed

    def passes(self, steps: Steps, relaxation: Relaxation) -> int:
        return self.together

    def enter(self, state: SearchState) -> None:
        self._forget()
        best_E = state.expected_weights().mean_EO.argmax(dim=-1).tolist()
        self.incumbent = str(state.space.relaxed(best_E))

    def step(self, state: SearchState, steps: Steps) -> dict[str, float]:
        if not self.alive:
            self._begin(state)
        group = self.alive[self.position : self.position + self.together]
        if self.taken == 0:
            state.task.train.load_state_dict(self.mark)  # every cell sees the same batches
        batch = state.task.train.next()
        networks = [self._network(state, cell) for cell in group]
        done = (self.rungs[self.rung - 1] if self.rung else 0) + self.taken
        rate = self.recipe.learning_rate(done / self.rungs[-1])
        found = list(self.pool.map(lambda one: self._train(state, batch, rate, *one), networks))
        for cell, loss in zip(group, found, strict=True):
            self.losses.setdefault(cell, []).append(loss)
        state.images += len(batch[1]) * len(group)
        self.taken += 1
        if done + 1 == self.rungs[self.rung]:
            self._next_group(state)
        finite = [loss for loss in found if loss < WORST]
        if not finite:
            return {}
        return {"finalists_loss": sum(finite) / len(finite)}

    def exit(self, state: SearchState) -> Genotype:
        if self.rung and self.round == 1:  # no round has ended, but a rung: better than nothing
            self.incumbent = self.alive[0]
        assert self.incumbent is not None
        found = state.space.parse(self.incumbent)
        self._forget()
        return found

    def _begin(self, state: SearchState) -> None:
        assert self.incumbent is not None
        genotype = state.space.parse(self.incumbent)
        self.alive = list(dict.fromkeys(map(str, [genotype, *state.space.neighbours(genotype)])))
        self.round, self.rung, self.position, self.taken = self.round + 1, 0, 0, 0
        self.losses, self.trained, self.stored = {}, {}, {}
        self.mark = copy.deepcopy(state.task.train.state_dict())

    def _next_group(self, state: SearchState) -> None:
        self.position, self.taken = self.position + self.together, 0
        if self.position < len(self.alive):
            return
        window = (self.rungs[self.rung] - (self.rungs[self.rung - 1] if self.rung else 0)) // 2
        self.alive.sort(key=lambda cell: sum(self.losses[cell][-window:]))
        self.position, self.rung = 0, self.rung + 1
        if self.rung == len(self.rungs):
            self.incumbent, self.alive, self.rung = self.alive[0], [], 0
            state.found = self.incumbent
            return
        self.alive = self.alive[: self.keep]
        self.trained = {cell: self._network(state, cell) for cell in self.alive}
        self.mark = copy.deepcopy(state.task.train.state_dict())

    def _network(self, state: SearchState, cell: str) -> tuple[nn.Module, torch.optim.Optimizer]:
        if cell not in self.trained:
            size = state.task.network_size(self.channels, self.cells)
            network = state.space.network(state.space.parse(cell), size, "batch")
            initialised(network, make_generator(state.seed, f"finalists of round {self.round}"))
            network.to(state.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.trained[cell] = network, self.recipe.optimizer(network)
            if (stored := self.stored.pop(cell, None)) is not None:
                network.load_state_dict(stored[0])
                self.trained[cell][1].load_state_dict(stored[1])
        return self.trained[cell]

    @staticmethod
    def _train(
        state: SearchState, batch: Batch, rate: float, network: nn.Module, optimizer: torch.optim.Optimizer
    ) -> float:
        try:
            return fit_step(network, optimizer, state.task, batch, rate).item()
        except Diverged:
            return WORST

    _counters = ("incumbent", "round", "rung", "position", "taken", "alive", "losses", "mark")

    def state_dict(self) -> dict[str, Any]:
        kept = {cell: [part.state_dict() for part in parts] for cell, parts in self.trained.items()}
        return {name: getattr(self, name) for name in self._counters} | {"trained": {**self.stored, **kept}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._forget()
        for name in self._counters:
            if name in state:
                setattr(self, name, copy.deepcopy(state[name]))
        self.stored = dict(state.get("trained", {}))
