"""Networks of single cells under training, several at a time; each process of a run trains its own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import nn

from darts.run import ranks
from darts.run.seeding import make_generator
from darts.search.cell_model import WORST
from darts.search.state import SearchState
from darts.tasks.base import Batch
from darts.training.fit import Diverged, fit_step, initialised
from darts.training.schedules import cosine


class ShortTrainings:
    """Trains networks by AdamW (arXiv:1711.05101), whose rate rises and then falls along a cosine.

    Args:
        channels, cells: of the networks.
        lr, weight_decay, warm_up: of AdamW; batches in which the rate rises.
        together: networks at the same time, each on one thread.
    """

    def __init__(self, channels: int, cells: int, lr: float, weight_decay: float, warm_up: int, together: int) -> None:
        self.channels, self.cells, self.together = channels, cells, together
        self.lr, self.weight_decay, self.warm_up = lr, weight_decay, warm_up
        self.pool = ThreadPoolExecutor(together, initializer=partial(torch.set_num_threads, 1))
        self.begin("")

    def begin(self, name: str) -> None:
        """Anew, without networks; those that follow have initial weights of that name."""
        self.name = name
        self.trained: dict[str, tuple[nn.Module, torch.optim.Optimizer]] = {}
        self.stored: dict[str, Any] = {}  # weights and optimizers from a checkpoint, until they are needed
        self.places: dict[str, int] = {}  # of cells, in the order in which their trainings began

    def step(self, state: SearchState, cells: Sequence[str], batch: Batch, done: int, length: int) -> list[float]:
        """Trains the network of each cell on a batch, after `done` of `length`; losses, `WORST` where one diverged."""
        rising = min(1.0, (done + 1) / (self.warm_up + 1))
        rate = rising * cosine(done / length, self.lr, 0.0)
        own = [cell for cell in cells if self._is_own(cell)]
        networks = [self._network(state, cell) for cell in own]
        found = list(self.pool.map(lambda one: self._train(state, batch, rate, *one), networks))
        losses = {
            cell: loss for part in ranks.gathered(dict(zip(own, found, strict=True))) for cell, loss in part.items()
        }
        return [losses[cell] for cell in cells]

    def _is_own(self, cell: str) -> bool:
        """Whether this process trains it."""
        return self.places.setdefault(cell, len(self.places)) % ranks.size() == ranks.rank()

    def keep(self, state: SearchState, cells: Sequence[str]) -> None:
        """Go on with these alone."""
        self.trained = {cell: self._network(state, cell) for cell in cells if self._is_own(cell)}
        self.stored = {}

    def drop(self, cells: Sequence[str]) -> None:
        """They are done, and need no place in a checkpoint."""
        for cell in cells:
            self.trained.pop(cell, None)
            self.stored.pop(cell, None)  # of another process

    def _network(self, state: SearchState, cell: str) -> tuple[nn.Module, torch.optim.Optimizer]:
        if cell not in self.trained:
            size = state.task.network_size(self.channels, self.cells)
            with torch.random.fork_rng(devices=[]):  # layers draw weights that are drawn again below, also on resume
                network = state.space.network(state.space.parse(cell), size, "batch")
            for name, module in network.named_modules():  # by name: what two cells have in common begins alike
                if not list(module.children()):
                    initialised(module, make_generator(state.seed, f"{self.name}: {name}"))
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

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimizers by cell; of all processes in the first one."""
        kept = {cell: [part.state_dict() for part in parts] for cell, parts in self.trained.items()}
        return self.stored | {cell: state for part in ranks.brought(kept) for cell, state in part.items()}
