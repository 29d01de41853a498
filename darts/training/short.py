"""The short training of one cell's network, step by step, wherever its worker is."""

from __future__ import annotations

import threading
from typing import Any

import torch

from darts.run.seeding import make_generator
from darts.tasks.base import Batch, Task
from darts.training.fit import Diverged, fit_step, initialised
from supernet.size import NetworkSize
from supernet.spaces.base import Space

ONE = threading.Lock()  # of the threads of a process that share torch's generator


class ShortTraining:
    """By AdamW (arXiv:1711.05101), on one thread.

    Args:
        space: of the cells.
        task: gives the loss; its data are not asked for.
        size: of the networks.
        lr, weight_decay: of AdamW.
    """

    def __init__(self, space: Space, task: Task, size: NetworkSize, lr: float, weight_decay: float) -> None:
        self.space, self.task, self.size, self.lr, self.weight_decay = space, task, size, lr, weight_decay

    def begin(self, cell: str, seed: int, name: str, state: Any = None) -> None:
        """Another cell, with initial weights of a seed and a name, or where `state` was taken."""
        with ONE, torch.random.fork_rng(devices=[]):  # layers draw weights that are drawn again below, also on resume
            network = self.space.network(self.space.parse(cell), self.size, "batch")
        for place, module in network.named_modules():  # by name: what two cells have in common begins alike
            if not list(module.children()):
                initialised(module, make_generator(seed, f"{name}: {place}"))
        self.network = network.to(self.task.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), self.lr, weight_decay=self.weight_decay, fused=True
        )
        if state is not None:
            self.network.load_state_dict(state[0])
            self.optimizer.load_state_dict(state[1])

    def step(self, batch: Batch, rate: float) -> float | None:
        """The loss before it; None if it is none."""
        torch.set_num_threads(1)
        try:
            return fit_step(self.network, self.optimizer, self.task, batch, rate).item()
        except Diverged:
            return None

    def state(self) -> list[Any]:
        """Of network and optimizer."""
        return [self.network.state_dict(), self.optimizer.state_dict()]
