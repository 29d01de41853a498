"""A phase that trains cells for real: a cell and its neighbours, again and again.

Shared weights say which operations help a mixture; only networks of single cells show what those are worth, and in
networks deep enough to need a residual path at that. Short trainings say it where they are compared on the same batches
from the same initial weights, and averaged over several.

Shape suffixes: E edges, O operations, N observations, P terms of a model.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import nn

from darts.run.seeding import make_generator
from darts.search.phases import Phase, Steps
from darts.search.state import SearchState
from darts.tasks.base import Batch
from darts.training.fit import Diverged, fit_step, initialised
from darts.training.schedules import cosine
from supernet.relaxations.base import Relaxation
from supernet.spaces.base import Genotype, Space

WORST = float("inf")  # loss of a training that diverged
LARGEST = 1.0  # by which a loss is worse than the best of its group, at most
TERM, CELL = 0.06, 1.5  # ridge: variance of the noise over that of an operation's effect, and of a cell's own

Observed = dict[str, tuple[int, float]]  # by cell: the rung it reached in a round, and its loss there
Path = Sequence[int]


class Finalists(Phase):
    """Rounds of successive halving (Jamieson & Talwalkar 2016, arXiv:1502.07943) among a cell and cells near it.

    A round trains the incumbent and others for `rungs[0]` steps each, the best of them, one in `eta`, on to `rungs[1]`
    steps, and so on; a cell's loss is the mean training loss over the last half of a rung. All of a round see the same
    batches, each batch once, and start from the same generator, so differences of loss are those of the cells and of
    chance; the next round draws anew. Of cells that compute the same, one is trained.

    After a round a model is fitted to the losses of all rounds: a term for every operation on every edge, one for the
    cell, one for the round. The best cell by it is the next incumbent. The first round takes the most probable cell and
    all that differ from it on one edge; later ones those that promise most among all that differ on one or two.

    Args:
        share: see `Phase`.
        channels, cells: of the networks; deep and narrow ones tell residual paths apart.
        rungs: steps after which cells are compared, ascending.
        eta: one in so many goes on to the next rung.
        candidates: cells of a round, after the first.
        lr, weight_decay: of AdamW (arXiv:1711.05101), which brings deep cells on their way in so few steps; with plain
            SGD the loss prefers what is easy to train.
        warm_up: steps in which the rate rises; then it falls along a cosine until the end of the last rung.
        together: networks that are trained at the same time, one step of each a step of the search, each on one thread.

    Raises:
        ValueError: a value out of range.
    """

    trains_architecture = False
    moves_supernet = False
    chooses = True
    anytime = True

    def __init__(
        self,
        share: float = 1.0,
        channels: int = 8,
        cells: int = 5,
        rungs: Sequence[int] = (32, 96),
        eta: int = 4,
        candidates: int = 12,
        lr: float = 4e-3,
        weight_decay: float = 0.05,
        warm_up: int = 10,
        together: int = 2,
    ) -> None:
        super().__init__(share)
        if not rungs or sorted(set(rungs)) != list(rungs) or rungs[0] < 2:
            raise ValueError(f"rungs: got {list(rungs)}; give numbers of steps from 2, ascending, such as [25,150]")
        least = {"channels": (channels, 1), "cells": (cells, 1), "together": (together, 1), "eta": (eta, 2)}
        for name, (number, minimum) in (least | {"candidates": (candidates, 2), "warm_up": (warm_up, 0)}).items():
            if number < minimum:
                raise ValueError(f"{name}: got {number}; give {minimum} or more")
        if not 0 < lr < float("inf") or not weight_decay >= 0:
            raise ValueError(f"lr, weight_decay: got {lr} and {weight_decay}; give a rate above 0 and a decay from 0")
        self.channels, self.cells, self.rungs, self.eta, self.candidates = (
            channels,
            cells,
            tuple(rungs),
            eta,
            candidates,
        )
        self.lr, self.weight_decay, self.warm_up, self.together = lr, weight_decay, warm_up, together
        self.pool = ThreadPoolExecutor(together, initializer=partial(torch.set_num_threads, 1))
        self._forget()

    def _forget(self) -> None:
        self.incumbent: str | None = None
        self.rung = self.position = self.taken = 0
        self.alive: list[str] = []
        self.rounds: list[Observed] = []
        self.losses: dict[str, list[float]] = {}  # of this round
        self.mark: dict[str, Any] = {}  # where the stream of batches stood when the rung began
        self.trained: dict[str, tuple[nn.Module, torch.optim.Optimizer]] = {}
        self.stored: dict[str, Any] = {}  # weights and optimizers from a checkpoint, until they are needed

    def passes(self, steps: Steps, relaxation: Relaxation) -> int:
        return self.together

    def enter(self, state: SearchState) -> None:
        self._forget()
        best_E = state.expected_weights().mean_EO.argmax(dim=-1).tolist()
        self.incumbent = str(state.space.relaxed(living(state.space, best_E)))

    def step(self, state: SearchState, steps: Steps) -> dict[str, float]:
        if not self.alive:
            self._begin(state)
        group = self.alive[self.position : self.position + self.together]
        if self.taken == 0:
            state.task.train.load_state_dict(self.mark)  # every cell sees the same batches
        batch = state.task.train.next()
        networks = [self._network(state, cell) for cell in group]
        done = (self.rungs[self.rung - 1] if self.rung else 0) + self.taken
        rate = min(1.0, (done + 1) / (self.warm_up + 1)) * cosine(done / self.rungs[-1], self.lr, 0.0)
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
        self._choose(state)
        assert self.incumbent is not None
        found = state.space.parse(self.incumbent)
        self._forget()
        return found

    def _choose(self, state: SearchState) -> None:
        """The best cell by all that was observed, also in a round that has not ended."""
        seen = dict.fromkeys(cell for observed in self.rounds for cell in observed)
        if seen:
            value = self._model(state)
            self.incumbent = min(seen, key=lambda cell: value(_path(state, cell)))

    def _model(self, state: SearchState) -> Callable[[Path], float]:
        rows = [
            (_path(state, cell), number * len(self.rungs) + rung, loss)
            for number, observed in enumerate(self.rounds)
            for cell, (rung, loss) in observed.items()
        ]
        return fitted(rows, len(state.space.candidates))

    def _begin(self, state: SearchState) -> None:
        assert self.incumbent is not None
        space = state.space
        found: dict[str, str] = {}
        path_E, choices = _path(state, self.incumbent), range(len(space.candidates))
        changes = [(edge, choice) for edge, now in enumerate(path_E) for choice in choices if choice != now]
        paths, most = [changed(path_E, change) for change in changes], len(changes) + 1
        if self.rounds:
            pairs = (pair for pair in itertools.combinations(changes, 2) if pair[0][0] != pair[1][0])
            value, paths = self._model(state), paths + [changed(path_E, *pair) for pair in pairs]
            paths, most = sorted(paths, key=lambda path: value(living(space, path))), self.candidates
        for path in [path_E, *paths]:
            alike = space.relaxed(living(space, path))
            found.setdefault(space.canonical_form(alike), str(space.relaxed(path)))
            if len(found) == most:
                break
        self.alive = list(found.values())
        self.rounds.append({})
        self.rung = self.position = self.taken = 0
        self.losses, self.trained, self.stored = {}, {}, {}
        self.mark = copy.deepcopy(state.task.train.state_dict())

    def _next_group(self, state: SearchState) -> None:
        self.position, self.taken = self.position + self.together, 0
        if self.position < len(self.alive):
            return
        window = (self.rungs[self.rung] - (self.rungs[self.rung - 1] if self.rung else 0)) // 2
        loss = {cell: sum(self.losses[cell][-window:]) / window for cell in self.alive}
        self.rounds[-1] |= {cell: (self.rung, loss[cell]) for cell in self.alive}
        self.alive.sort(key=loss.__getitem__)
        self.position, self.rung = 0, self.rung + 1
        if self.rung == len(self.rungs):
            self.alive, self.rung = [], 0
            self._choose(state)
            state.found = self.incumbent
            return
        self.alive = self.alive[: -(-len(self.alive) // self.eta)]
        self.trained = {cell: self._network(state, cell) for cell in self.alive}
        self.mark = copy.deepcopy(state.task.train.state_dict())

    def _network(self, state: SearchState, cell: str) -> tuple[nn.Module, torch.optim.Optimizer]:
        if cell not in self.trained:
            size = state.task.network_size(self.channels, self.cells)
            network = state.space.network(state.space.parse(cell), size, "batch")
            for name, module in network.named_modules():  # by name: what two cells have in common begins alike
                if not list(module.children()):
                    initialised(module, make_generator(state.seed, f"finalists of round {len(self.rounds)}: {name}"))
            network.to(state.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            optimizer = torch.optim.AdamW(network.parameters(), self.lr, weight_decay=self.weight_decay, fused=True)
            self.trained[cell] = network, optimizer
            if (stored := self.stored.pop(cell, None)) is not None:
                network.load_state_dict(stored[0])
                optimizer.load_state_dict(stored[1])
        return self.trained[cell]

    @staticmethod
    def _train(
        state: SearchState, batch: Batch, rate: float, network: nn.Module, optimizer: torch.optim.Optimizer
    ) -> float:
        try:
            return fit_step(network, optimizer, state.task, batch, rate).item()
        except Diverged:
            return WORST

    _counters = ("incumbent", "rounds", "rung", "position", "taken", "alive", "losses", "mark")

    def state_dict(self) -> dict[str, Any]:
        kept = {cell: [part.state_dict() for part in parts] for cell, parts in self.trained.items()}
        return {name: getattr(self, name) for name in self._counters} | {"trained": {**self.stored, **kept}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._forget()
        for name in self._counters:
            if name in state:
                setattr(self, name, copy.deepcopy(state[name]))
        self.stored = dict(state.get("trained", {}))


def _path(state: SearchState, cell: str) -> tuple[int, ...]:
    """The candidate on every edge; none on those that lead from nothing or nowhere, since they do not matter."""
    return living(state.space, state.space.path(state.space.parse(cell)))


def living(space: Space, path_E: Path) -> tuple[int, ...]:
    """A path with none on all edges that nothing goes through."""
    found: list[int] = []
    for cell in space.cells.values():
        own = path_E[len(found) : len(found) + len(cell.edges)]
        none = cell.candidates.index("none") if "none" in cell.candidates else None
        live_E = cell.live([choice != none for choice in own])
        found += [choice if live or none is None else none for choice, live in zip(own, live_E, strict=True)]
    return tuple(found)


def changed(path_E: Path, *changes: tuple[int, int]) -> tuple[int, ...]:
    """A path with other operations on some edges."""
    found = list(path_E)
    for edge, choice in changes:
        found[edge] = choice
    return tuple(found)


def fitted(rows: Sequence[tuple[Path, int, float]], operations: int) -> Callable[[Path], float]:
    """A function from a path to its loss, up to a constant: terms of operations on edges and of cells that were seen.

    Ridge regression with a free term for every group, so only differences within a group count.

    Args:
        rows: path, group and loss of every observation.
        operations: on an edge.
    """
    edges = len(rows[0][0])
    cells = {path_E: place for place, path_E in enumerate(dict.fromkeys(path_E for path_E, *_ in rows))}
    groups = {group: place for place, group in enumerate(dict.fromkeys(group for _, group, _ in rows))}
    best = {group: min(loss for _, other, loss in rows if other == group) for group in groups}
    first_cell, first_group = edges * operations, edges * operations + len(cells)
    x_NP = torch.zeros(len(rows), first_group + len(groups), dtype=torch.float64)
    y_N = torch.zeros(len(rows), dtype=torch.float64)
    for place, (path_E, group, loss) in enumerate(rows):
        x_NP[place, [edge * operations + choice for edge, choice in enumerate(path_E)]] = 1
        x_NP[place, first_cell + cells[path_E]] = 1
        x_NP[place, first_group + groups[group]] = 1
        y_N[place] = min(loss - best[group], LARGEST) if best[group] < WORST else 0.0
    ridge_P = torch.tensor([TERM] * first_cell + [CELL] * len(cells) + [1e-9] * len(groups), dtype=torch.float64)
    terms = torch.linalg.solve(x_NP.T @ x_NP + ridge_P.diag(), x_NP.T @ y_N).tolist()

    def value(path_E: Path) -> float:
        own = terms[first_cell + cells[tuple(path_E)]] if tuple(path_E) in cells else 0.0
        return own + sum(terms[edge * operations + choice] for edge, choice in enumerate(path_E))

    return value
