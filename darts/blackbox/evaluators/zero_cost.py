"""Values from training-free scores: one batch through an untrained network."""

from __future__ import annotations

import math
from typing import Any

import torch

from darts.blackbox.evaluators.base import Context, Evaluator
from darts.blackbox.methods.base import at_least
from darts.blackbox.scores import PROXIES, Probe
from darts.run.seeding import make_generator
from darts.tasks.sizes import check_network
from supernet.spaces.base import Genotype


class ZeroCostEvaluator(Evaluator):
    """A score of `darts.blackbox.scores`. The same genotype gets the same score.

    Args:
        proxy: which one.
        channels, cells: of the network; the benchmark's are 16 and 5.
        batch_size: images of the batch.
        seed: of the batch and of the initial weights.
        truth: see `Evaluator`.
    """

    slow = True

    def __init__(
        self,
        proxy: str = "naswot",
        channels: int = 16,
        cells: int = 5,
        batch_size: int = 64,
        seed: int = 0,
        truth: str | None = "auto",
    ) -> None:
        super().__init__(truth)
        if proxy not in PROXIES:
            raise ValueError(f"proxy: got {proxy!r}; allowed are {', '.join(PROXIES)}")
        for name, number, least in (("channels", channels, 1), ("cells", cells, 1), ("batch_size", batch_size, 4)):
            at_least(name, number, least)
        self.proxy, self.channels, self.cells = proxy, channels, cells
        self.batch_size, self.seed = batch_size, seed

    def open(self, context: Context) -> None:
        check_network(context.space, self.channels, self.cells)
        self.space = context.space
        self.task = context.task(batch_size=1, seed=self.seed, device=context.device)
        self.batch = self.task.draw(self.batch_size, make_generator(self.seed, "batch"))
        self.size = self.task.network_size(self.channels, self.cells)

    def probe(self, genotype: Genotype) -> Probe:
        """The untrained network of a genotype, and the batch."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = self.space.network(genotype, self.size, batch_norm="batch")
        network = network.to(self.task.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return Probe(network.train(), *self.batch, self.task.loss)

    def value(self, genotype: Genotype, epochs: int) -> float | None:
        score = PROXIES[self.proxy](self.probe(genotype))
        return score if math.isfinite(score) else None

    def images(self, epochs: int) -> int:
        return self.batch_size

    def describe(self) -> dict[str, Any]:
        return {
            "name": "zero_cost",
            "signal": self.proxy,
            "batch": f"{self.batch_size} images of {self.task.name}",
            "network": f"C={self.channels}, N={self.cells}",
        }
