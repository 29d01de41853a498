"""What a task is: batches, loss and metrics, and what it asks of a network.

Shape suffixes: B batch, N items, C channels, H height, W width.
"""

from __future__ import annotations

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from darts.run import ranks
from supernet.size import NetworkSize

Batch = tuple[Tensor, Tensor]
"""Inputs (B, ...) and targets (B, ...)."""


@dataclass(frozen=True)
class Metric:
    """What a task is judged by, beside its loss.

    Attributes:
        name: as it stands in results, ``valid_NAME``, and in reports.
        unit: behind a value.
        higher_is_better: its direction.
        limits: lowest and highest value, for axes; None where there is no bound.
    """

    name: str
    unit: str = ""
    higher_is_better: bool = True
    limits: tuple[float | None, float | None] = (None, None)

    def stored(self) -> dict[str, Any]:
        """As a result holds it, and `read` takes it again."""
        return asdict(self) | {"limits": list(self.limits)}

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Metric:
        """From what a result holds."""
        return Metric(**{**stored, "limits": tuple(stored["limits"])})

    def worth(self, value: float) -> float:
        """The value with the sign that makes more better."""
        return value if self.higher_is_better else -value

    def text(self, value: float) -> str:
        """The value for people: ``98.47%``."""
        return f"{value:.2f}%" if self.unit == "%" else f"{value:.4g} {self.unit}".rstrip()


class Stream(Protocol):
    """Endless batches whose whole position is in a state."""

    def next(self) -> Batch:
        """The next batch, on the task's device."""

    def state_dict(self) -> dict[str, Any]:
        """Where it stands."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly there."""


class Task(ABC):
    """Data in two parts, one for the weights and one for the architecture, and how an answer is judged.

    The engine draws from `train` and `valid` in every step, and goes through `evaluation_batches` at the end of every
    epoch. Whoever fits a single network does the same.

    A constructor takes a data set, `split`, `batch_size`, `seed`, `device` and `subset`, as those of `Classification`,
    and whatever else its YAML has.

    Attributes, after the constructor:
        name: of the data, for reports.
        device: where batches are.
        batch_size: items of a batch.
        steps_per_epoch: batches in one pass over the weights' part.
        train, valid: streams of the two parts.
        metric: what supernets and networks are judged by.
        in_channels, outputs, image_size: what a network gets and has to give; of series the size is their length.
        full_image_size: side of images for the network that is trained in the end; None for `image_size`.
        sizes: items of the two parts.
        settings: what else a result hinges on; stands in it.
        about: the data in one line; `remarks` are what a user must know of single files.
        identity: what tells these data from others, by name; a run goes on with the same ones alone.
        takes: ``images`` or ``series``: what a data set has to give, and what its networks get.
    """

    takes = "images"
    identity: Mapping[str, str] = MappingProxyType({})
    about: str = ""
    remarks: tuple[str, ...] = ()
    full_image_size: int | None = None

    name: str
    device: torch.device
    batch_size: int
    steps_per_epoch: int
    train: Stream
    valid: Stream
    metric: Metric
    in_channels: int
    outputs: int
    image_size: int
    sizes: tuple[int, int]
    settings: dict[str, Any]

    @abstractmethod
    def evaluation_batches(self) -> Iterator[Batch]:
        """The architecture part once, always in the same order."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over the batch."""

    @abstractmethod
    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sum over the batch of what the metric is the mean of, times `per_item`."""

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Items drawn from both parts, without augmentation: for scores of untrained networks.

        Raises:
            ValueError: more than there are.
        """

    def without_data(self) -> Task:
        """The same without its streams, to be sent where batches are: it has loss and score."""
        found = copy.copy(self)
        del found.train, found.valid
        return found

    per_item = 1.0  # factor from the mean score to the metric

    def judge(self, answer: Callable[[Tensor], Tensor], batches: int | None = None) -> float:
        """The metric of a function from inputs to outputs, over the architecture part, or so many batches of it."""

        def judged(batch: Batch) -> tuple[Tensor, int]:
            inputs, targets = batch
            score = self.score(answer(inputs), targets)
            return score if ranks.size() == 1 else score.cpu(), len(targets)

        rows = ranks.spread(itertools.islice(self.evaluation_batches(), batches), judged)
        scores, items = zip(*rows, strict=True)
        return self.per_item * float(torch.stack(scores).sum()) / sum(items)

    def inputs(self) -> dict[str, Any]:
        """Whoever uses a trained network has to know of its inputs and outputs, as plain values: of a classifier
        `classes`, `mean` and `deviation` (of values from 0 to 1, by channel), and `decoded_size`, the side that images
        have before they are made `image_size`. Nothing for tasks that no file can be read for."""
        return {}

    def pictures(self, places_N: Tensor) -> Tensor | None:
        """Items of the architecture part as images (N, C, H, W) in bytes, by their places in `evaluation_batches`; None
        where they are no images."""
        return None

    def network_size(self, channels: int, cells: int) -> NetworkSize:
        """The size of a network for this task."""
        return NetworkSize(channels, cells, self.outputs, self.in_channels, self.image_size)

    def final_size(self) -> NetworkSize:
        """The size of a network that is trained in the end: as deep and wide as the benchmark's, for these data."""
        size = NetworkSize(num_classes=self.outputs, in_channels=self.in_channels, image_size=self.image_size)
        return size if self.full_image_size is None else replace(size, image_size=self.full_image_size)

    def state_dict(self) -> dict[str, Any]:
        """Where both streams stand."""
        return {"train": self.train.state_dict(), "valid": self.valid.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly there.

        Raises:
            ValueError: the state is of other data.
        """
        self.train.load_state_dict(state["train"])
        self.valid.load_state_dict(state["valid"])
