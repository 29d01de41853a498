"""Values from training-free scores: one batch through an untrained network."""

from __future__ import annotations

import math
from typing import Any

import torch

from darts.batches import Normalizer
from darts.datasets.base import Dataset
from darts.evaluators.base import Evaluator
from darts.oracle.base import Table
from darts.seeding import make_generator
from darts.zero_cost import PROXIES, Probe
from supernet.discrete_network import DiscreteNetwork
from supernet.genotype import Genotype
from supernet.search_space import SearchSpace


class ZeroCostEvaluator(Evaluator):
    """A score of `darts.zero_cost`. The same cell gets the same score.

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
            if number < least:
                raise ValueError(f"{name}: got {number}; give {least} or more")
        self.proxy, self.channels, self.cells = proxy, channels, cells
        self.batch_size, self.seed = batch_size, seed

    def open(self, space: SearchSpace, table: Table | None, dataset: Dataset) -> None:
        images = dataset.load_train()
        if self.batch_size > len(images):
            raise ValueError(f"batch_size: got {self.batch_size}; {dataset.name} has {len(images)} images")
        chosen = torch.randperm(len(images), generator=make_generator(self.seed, "batch"))[: self.batch_size]
        self.images_BCHW = Normalizer(images, torch.device("cpu"))(images.images_NCHW[chosen])
        self.labels_B = images.labels_N[chosen]
        self.classes, self.name = len(images.classes), dataset.name

    def probe(self, genotype: Genotype) -> Probe:
        """The untrained network of a cell, and the batch."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = DiscreteNetwork(
                genotype, self.channels, self.cells, self.classes, self.images_BCHW.shape[1], batch_norm="batch"
            )
        return Probe(network.to(memory_format=torch.channels_last).train(), self.images_BCHW, self.labels_B)

    def value(self, genotype: Genotype, epochs: int) -> float | None:
        score = PROXIES[self.proxy](self.probe(genotype))
        return score if math.isfinite(score) else None

    def images(self, epochs: int) -> int:
        return self.batch_size

    def describe(self) -> dict[str, Any]:
        return {
            "name": "zero_cost",
            "signal": self.proxy,
            "batch": f"{self.batch_size} images of {self.name}",
            "network": f"C={self.channels}, N={self.cells}",
        }
