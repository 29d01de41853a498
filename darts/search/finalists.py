"""A phase that trains cells for real: a cell and its neighbours, again and again.

Shared weights say which operations help a mixture; only networks of single cells show what those are worth, and in
networks deep enough to need a residual path at that. Short trainings say it where they are compared on the same batches
from the same initial weights, and averaged over several.

Shape suffix: E edges.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from darts.run.devices import check_threads
from darts.run.seeding import make_generator
from darts.search.cell_model import WORST, Posterior, liking, posterior
from darts.search.paths import Path, changed, living
from darts.search.phases import Phase, Steps
from darts.search.short_trainings import ALLOWED, ShortTrainings
from darts.search.standing import standing
from darts.search.state import SearchState
from darts.tasks.sizes import check_network
from darts.training.executors import check_executor
from supernet.relaxations.base import Relaxation
from supernet.spaces.base import Genotype, Space

DRAWS = 1000  # to fill a round; if they agree too much, the best by their mean follow

Observed = dict[str, tuple[int, float]]  # by cell: the rung it reached in a round, and its loss there


class Finalists(Phase):
    """Rounds of successive halving (Jamieson & Talwalkar 2016, arXiv:1502.07943) among a cell and cells near it.

    A round trains the incumbent and others for `rungs[0]` steps each, the best of them, one in `eta`, on to `rungs[1]`
    steps, and so on; a cell's loss is the mean training loss over the last two thirds of a rung. All of a round see the
    same batches, each batch once, and start from the same generator, so differences of loss are those of the cells and
    of chance; the next round draws anew. Of cells that compute the same, one is trained.

    A model of the losses of all rounds (`cell_model`) says which cell is the incumbent: the best of those trained. The
    first round takes the most probable cell and all that differ from it on one edge; later ones draw losses from the
    model (Thompson 1933) for all that differ from the incumbent on one or two edges or were trained before, and take
    the best of each draw, so that a cell is trained the oftener the likelier it is the best.

    Args:
        share: see `Phase`.
        channels, cells: of the networks; deep and narrow ones tell residual paths apart.
        rungs: steps after which cells are compared, ascending.
        eta: one in so many goes on to the next rung.
        candidates: cells of a round, after the first.
        trust: in the edge weights that the phase begins with, see `cell_model.liking`: by what share of the loss an
            operation is expected to be better whose weight's logarithm is one deviation larger.
        lr, weight_decay: of AdamW (arXiv:1711.05101), which brings deep cells on their way in so few steps; with plain
            SGD the loss prefers what is easy to train.
        warm_up: steps in which the rate rises; then it falls along a cosine until the end of the last rung.
        together: networks that are trained at the same time, one step of each a step of the search, each on one thread.
        executor: where: ``thread`` for threads of this process, ``serial`` for one after the other, ``process`` for
            processes of this machine, ``ray`` for a cluster; the bits are the same.

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
        rungs: Sequence[int] = (64,),
        eta: int = 4,
        candidates: int = 12,
        trust: float = 0.01,
        lr: float = 4e-3,
        weight_decay: float = 0.05,
        warm_up: int = 10,
        together: int = 2,
        executor: str = "thread",
    ) -> None:
        super().__init__(share)
        if not rungs or sorted(set(rungs)) != list(rungs) or rungs[0] < 2:
            raise ValueError(f"rungs: got {list(rungs)}; give numbers of steps from 2, ascending, such as [25,150]")
        least = {
            "channels": (channels, 1),
            "cells": (cells, 1),
            "together": (together, 1),
            "eta": (eta, 2),
        }
        for name, (number, minimum) in (least | {"candidates": (candidates, 2), "warm_up": (warm_up, 0)}).items():
            if number < minimum:
                raise ValueError(f"{name}: got {number}; give {minimum} or more")
        if not 0 < lr < float("inf") or not weight_decay >= 0:
            raise ValueError(f"lr, weight_decay: got {lr} and {weight_decay}; give a rate above 0 and a decay from 0")
        if not 0 <= trust < float("inf"):
            raise ValueError(f"trust: got {trust}; give 0 or more")
        check_executor(executor, ALLOWED)
        self.channels, self.cells, self.rungs, self.eta = channels, cells, tuple(rungs), eta
        self.candidates, self.trust, self.together = candidates, trust, together
        self.trainings = ShortTrainings(channels, cells, lr, weight_decay, warm_up, together, executor)
        self.executor: str = executor
        self._forget()

    def _forget(self) -> None:
        self.incumbent: str | None = None
        self.weights: list[list[float]] = []  # (E, O) of the relaxation, when the phase began
        self.rung = self.position = self.taken = 0
        self.alive: list[str] = []
        self.rounds: list[Observed] = []
        self.losses: dict[str, list[float]] = {}  # of this round
        self.mark: dict[str, Any] = {}  # where the stream of batches stood when the rung began
        self.trainings.begin("")

    def passes(self, steps: Steps, relaxation: Relaxation) -> int:
        return self.together

    def check(self, space: Space) -> None:
        if not space.every_edge or space.allowed_EO is not None:
            raise ValueError(
                f"it changes the operations of single edges, where {type(space).__name__} allows not everything; "
                "choose another method, such as method=darts_v1_cells"
            )
        check_network(space, self.channels, self.cells)
        if self.executor != "ray":
            check_threads(self.together, "together")

    def reach(self, state: SearchState, ray_address: str | None) -> None:
        ALLOWED[self.executor].reach(ray_address)
        self.trainings.address = ray_address
        self.trainings.open(state)

    def release(self) -> None:
        self.trainings.close()

    def enter(self, state: SearchState) -> None:
        self._forget()
        weights_EO = state.expected_weights().mean_EO
        self.weights = weights_EO.tolist()
        self.incumbent = str(state.space.relaxed(living(state.space, weights_EO.argmax(dim=-1).tolist())))

    def step(self, state: SearchState, steps: Steps) -> dict[str, float]:
        if not self.alive:
            self._begin(state)
        group = self.alive[self.position : self.position + self.together]
        if self.taken == 0:
            state.task.train.load_state_dict(self.mark)  # every cell sees the same batches
        batch = state.task.train.next()
        done = (self.rungs[self.rung - 1] if self.rung else 0) + self.taken
        found = self.trainings.step(state, group, batch, done, self.rungs[-1])
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
        if self.position > 1:  # cells that have ended a rung that others have not
            self._observe(self.alive[: self.position])
        state.standing = self._choose(state)
        assert self.incumbent is not None
        found = state.space.parse(self.incumbent)
        self._forget()
        return found

    def _choose(self, state: SearchState) -> dict[str, Any] | None:
        """Takes the best cell by all that was observed, also in a round that has not ended; says by how much each is
        worse by the model, with the deviation of that difference."""
        seen = Counter(cell for observed in self.rounds for cell in observed)
        if not seen:
            return None
        model = self._model(state, [_path(state, cell) for cell in seen])
        best = int(model.mean_A.argmin())
        self.incumbent = list(seen)[best]
        own_A, with_A = model.covariance_AA.diagonal(), model.covariance_AA[best]
        deviation_A = (own_A + own_A[best] - 2 * with_A).clamp(min=0).sqrt()
        worse_A = model.mean_A - model.mean_A[best]
        rows = zip(seen, worse_A.tolist(), deviation_A.tolist(), seen.values(), strict=True)
        steps = " or ".join(map(str, self.rungs))
        measure = f"training loss over the best's (C={self.channels}, N={self.cells}, {steps} steps)"
        return standing(measure, sorted(rows, key=lambda row: row[1]), higher_is_better=False)

    def _model(self, state: SearchState, asked: Sequence[Path]) -> Posterior:
        rows = [
            (_path(state, cell), number * len(self.rungs) + rung, loss)
            for number, observed in enumerate(self.rounds)
            for cell, (rung, loss) in observed.items()
        ]
        liked = liking(torch.tensor(self.weights))
        return posterior(rows, asked, lambda path_E: -self.trust * liked(path_E))

    def _observe(self, cells: Sequence[str]) -> dict[str, float]:
        """Keeps their losses of a rung that they have ended."""
        steps = self.rungs[self.rung] - (self.rungs[self.rung - 1] if self.rung else 0)
        window = steps - steps // 3
        loss = {cell: sum(self.losses[cell][-window:]) / window for cell in cells}
        self.rounds[-1] |= {cell: (self.rung, loss[cell]) for cell in cells}
        return loss

    def _begin(self, state: SearchState) -> None:
        assert self.incumbent is not None
        space = state.space
        path_E, choices = _path(state, self.incumbent), range(len(space.candidates))
        changes = [(edge, choice) for edge, now in enumerate(path_E) for choice in choices if choice != now]
        paths, most = [path_E, *(changed(path_E, change) for change in changes)], len(changes) + 1
        if self.rounds:
            pairs = (pair for pair in itertools.combinations(changes, 2) if pair[0][0] != pair[1][0])
            paths += [changed(path_E, *pair) for pair in pairs]
            paths += [_path(state, cell) for observed in self.rounds for cell in observed]
            asked, most = list(dict.fromkeys(living(space, path) for path in paths)), self.candidates
            generator = make_generator(state.seed, f"finalists of round {len(self.rounds) + 1}")
            model = self._model(state, asked)
            best_D = model.draws(DRAWS, generator).argmin(dim=-1)
            paths = [asked[place] for place in [*best_D.tolist(), *model.mean_A.argsort().tolist()]]
        found: dict[str, str] = {}
        for path in paths:
            alike = space.relaxed(living(space, path))
            found.setdefault(space.canonical_form(alike), str(space.relaxed(path)))
            if len(found) == most:
                break
        self.alive = list(found.values())
        self.rounds.append({})
        self.rung = self.position = self.taken = 0
        self.losses = {}
        self.trainings.begin(f"finalists of round {len(self.rounds)}")
        self.mark = copy.deepcopy(state.task.train.state_dict())

    def _next_group(self, state: SearchState) -> None:
        self.trainings.end_group(keep=self.rung + 1 < len(self.rungs))
        self.position, self.taken = self.position + self.together, 0
        if self.position < len(self.alive):
            return
        loss = self._observe(self.alive)
        self.alive.sort(key=loss.__getitem__)
        self.position, self.rung = 0, self.rung + 1
        if self.rung == len(self.rungs):
            self.alive, self.rung = [], 0
            self._choose(state)
            state.found = self.incumbent
            return
        self.alive = self.alive[: -(-len(self.alive) // self.eta)]
        self.trainings.keep(self.alive)
        self.mark = copy.deepcopy(state.task.train.state_dict())

    _counters = ("incumbent", "weights", "rounds", "rung", "position", "taken", "alive", "losses", "mark")

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._counters} | {"trained": self.trainings.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._forget()
        for name in self._counters:
            if name in state:
                setattr(self, name, copy.deepcopy(state[name]))
        self.trainings.begin(f"finalists of round {len(self.rounds)}")
        self.trainings.load_state_dict(state.get("trained", {}))


def _path(state: SearchState, cell: str) -> tuple[int, ...]:
    """The candidate on every edge; none on those that lead from nothing or nowhere, since they do not matter."""
    return living(state.space, state.space.path(state.space.parse(cell)))
