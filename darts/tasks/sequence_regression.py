"""Foretelling numbers from series.

Shape suffixes: B batch, L steps, C columns, K targets, N windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from darts.run.seeding import make_generator
from darts.tasks.base import Batch, Metric, Task
from darts.tasks.batches import ShuffledStream
from darts.tasks.datasets.windows import SeriesSource, Windows

CPU = torch.device("cpu")


class WindowStream(ShuffledStream):
    """An endless stream of shuffled windows; see `ShuffledStream`."""

    def __init__(self, windows: Windows, batch_size: int, generator: torch.Generator) -> None:
        super().__init__(len(windows.targets_NK), batch_size, generator)
        self.windows = windows

    def batch(self, chosen_B: Tensor) -> Batch:
        """Inputs (B, L, C) and targets (B, K)."""
        chosen_B = chosen_B.to(self.windows.targets_NK.device)
        return self.windows.inputs_NLC[chosen_B], self.windows.targets_NK[chosen_B]


class SequenceRegression(Task):
    """Windows of a series and the numbers that follow; the mean squared error is loss and metric, less is better. The
    weights' part comes first in time, then the architecture's.

    Args:
        dataset: where the series come from.
        split: share that trains the weights.
        batch_size: windows a batch, for both parts.
        seed: of the order, and of what is left aside.
        device: where the windows live.
        subset: share of the weights' part that is used; the rest is left aside.

    Raises:
        ValueError: a batch larger than a part, or a split that leaves a part empty.
        UserError: data that cannot be read.
    """

    takes = "series"
    metric = Metric("mse", "", higher_is_better=False, limits=(0, None))
    train: WindowStream
    valid: WindowStream

    def __init__(
        self,
        dataset: SeriesSource,
        split: float = 0.5,
        batch_size: int = 64,
        seed: int = 0,
        device: torch.device = CPU,
        subset: float = 1.0,
    ) -> None:
        if not 0 < subset <= 1:
            raise ValueError(f"subset: got {subset}; give a share above 0, at most 1")
        if batch_size < 1:
            raise ValueError(f"batch_size: got {batch_size}; give 1 or more")
        parts = dataset.load(split)
        train, valid = parts.train, parts.valid
        if subset < 1:
            order = torch.randperm(len(train.targets_NK), generator=make_generator(seed, "subset"))
            used = order[: max(1, round(subset * len(order)))].sort().values
            train = Windows(train.inputs_NLC[used], train.targets_NK[used])
        self.name, self.device, self.batch_size = dataset.name, device, batch_size
        self.sizes = (len(train.targets_NK), len(valid.targets_NK))
        if not min(self.sizes):
            raise ValueError(f"split: got {split}; it leaves no windows for the weights or for the architecture")
        if batch_size > self.sizes[0]:
            raise ValueError(
                f"batch_size: got {batch_size}, but the weights have {self.sizes[0]} windows; give at most that"
            )
        self.outputs, self.in_channels = train.targets_NK.shape[1], train.inputs_NLC.shape[2]
        self.image_size = train.inputs_NLC.shape[1]
        self.identity = train.joined(valid).identity()
        self.about = f"{self.sizes[0]:,} and {self.sizes[1]:,} windows of {self.image_size} steps"
        self.settings, self.described = {"split": split}, parts.inputs
        self.train, self.valid = (
            WindowStream(
                Windows(part.inputs_NLC.to(device), part.targets_NK.to(device)),
                min(batch_size, len(part.targets_NK)), make_generator(seed, name),
            )
            for part, name in ((train, "train"), (valid, "valid"))
        )  # fmt: skip
        self.steps_per_epoch = self.train.batches

    def inputs(self) -> dict[str, Any]:
        return self.described

    def evaluation_batches(self) -> Iterator[Batch]:
        windows = self.valid.windows
        return zip(*(part.split(self.batch_size) for part in windows), strict=True)  # type: ignore[return-value]

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        both = self.train.windows.joined(self.valid.windows)
        if count > (there := len(both.targets_NK)):
            raise ValueError(f"batch_size: got {count}; {self.name} has {there} windows")
        chosen_B = torch.randperm(there, generator=generator)[:count].to(both.targets_NK.device)
        return both.inputs_NLC[chosen_B], both.targets_NK[chosen_B]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error of answers (B, K)."""
        return F.mse_loss(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sum over the batch of the squared errors, each the mean over the targets."""
        return ((outputs - targets) ** 2).mean(dim=1).sum()
