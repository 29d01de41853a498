"""Time of a genotype's network on this machine.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import statistics

import torch

from darts.blackbox.methods.base import at_least
from darts.blackbox.objectives.base import Objective
from darts.run.devices import threads_of
from darts.run.timing import timed, zeros
from supernet.spaces.base import Genotype


class Latency(Objective):
    """Time of a forward pass on the run's device, in evaluation mode; measured once a genotype and remembered.

    It is no number that repeats: a run keeps what it measured, another run measures anew.

    Args:
        channels, cells, num_classes, image_size: see `Objective`.
        images: of the batch.
        repeats: passes, of which the median counts; two more before them are not timed.
        threads: of torch meanwhile; with more than one, other programs disturb it more.
    """

    name, unit = "latency", "ms"
    exact = False

    def __init__(
        self, channels: int = 16, cells: int = 5, num_classes: int = 10, image_size: int = 32, images: int = 1,
        repeats: int = 10, threads: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(channels, cells, num_classes, image_size)
        for name, number in (("images", images), ("repeats", repeats), ("threads", threads)):
            at_least(name, number, 1)
        self.images, self.repeats, self.threads = images, repeats, threads
        self.known: dict[Genotype, float] = {}

    def __call__(self, genotype: Genotype) -> float:
        if genotype not in self.known:
            with threads_of(self.threads):
                self.known[genotype] = self._measured(genotype)
        return self.known[genotype]

    def _measured(self, genotype: Genotype) -> float:
        size = self.size
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            network = self.space.network(genotype, size).eval().to(self.device)
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            inputs = zeros(size.input_shape(self.space.takes, self.images), self.device)
            seconds = timed(lambda: network(inputs), self.repeats, self.device)
        return 1e3 * statistics.median(seconds)

    def describe(self) -> dict[str, str | bool]:
        measured = (
            f"{self.device.type}, batch of {self.images}, median of {self.repeats} passes, threads: {self.threads}"
        )
        return super().describe() | {"measured": measured}
