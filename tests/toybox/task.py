"""Regression: how bright an image is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from darts.run.seeding import make_generator
from darts.tasks.base import Batch, Metric, Task
from darts.tasks.datasets.base import Dataset

CPU = torch.device("cpu")


class Draws:
    """Batches at random."""

    def __init__(self, inputs_NCHW: Tensor, targets_N1: Tensor, batch_size: int, generator: torch.Generator) -> None:
        self.inputs_NCHW, self.targets_N1 = inputs_NCHW, targets_N1
        self.batch_size, self.generator = batch_size, generator

    def next(self) -> Batch:
        chosen_B = torch.randint(len(self.inputs_NCHW), (self.batch_size,), generator=self.generator)
        return self.inputs_NCHW[chosen_B], self.targets_N1[chosen_B]

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])


class Brightness(Task):
    """The mean of an image's values, from the image; judged by the mean absolute error."""

    metric = Metric("error", "grey levels", higher_is_better=False, limits=(0, None))
    outputs = 1

    def __init__(
        self,
        dataset: Dataset,
        split: float = 0.5,
        batch_size: int = 16,
        seed: int = 0,
        device: torch.device = CPU,
        subset: float = 1.0,
    ) -> None:
        inputs_NCHW = dataset.load_train().images_NCHW.to(device).float() / 255
        targets_N1 = inputs_NCHW.mean(dim=(1, 2, 3))[:, None]
        first = round(split * len(inputs_NCHW))
        self.name, self.device, self.batch_size = f"brightness of {dataset.name}", device, batch_size
        self.in_channels, self.image_size = inputs_NCHW.shape[1], inputs_NCHW.shape[-1]
        self.sizes = (first, len(inputs_NCHW) - first)
        self.settings, self.steps_per_epoch = {"split": split}, first // batch_size
        self.train = Draws(inputs_NCHW[:first], targets_N1[:first], batch_size, make_generator(seed, "train"))
        self.valid = Draws(inputs_NCHW[first:], targets_N1[first:], batch_size, make_generator(seed, "valid"))

    def evaluation_batches(self) -> Iterator[Batch]:
        both = (self.valid.inputs_NCHW.split(self.batch_size), self.valid.targets_N1.split(self.batch_size))
        return zip(*both, strict=True)

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        chosen_B = torch.randperm(len(self.valid.inputs_NCHW), generator=generator)[:count]
        return self.valid.inputs_NCHW[chosen_B], self.valid.targets_N1[chosen_B]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs - targets) ** 2).mean()

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs().sum()

    per_item = 255.0
