"""Series: windows of steps, and what comes after them.

Shape suffixes: N windows, L steps of a window, C columns, K targets, T steps of the whole series.
"""

from __future__ import annotations

import hashlib
import itertools
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from darts.run.errors import UserError
from darts.tasks.datasets.base import Source

TEST = 0.2  # of a series, at its end, for the final network
LEAST = 8  # windows of a part


class Windows(NamedTuple):
    """Inputs (N, L, C) and targets (N, K), float32."""

    inputs_NLC: Tensor
    targets_NK: Tensor

    def identity(self) -> dict[str, str]:
        """What tells these from others."""
        sums = {
            name: hashlib.blake2b(part.contiguous().numpy().data, digest_size=8).hexdigest()
            for name, part in (("inputs", self.inputs_NLC), ("targets", self.targets_NK))
        }
        return {"windows": " x ".join(map(str, self.inputs_NLC.shape)), **sums}

    def joined(self, other: Windows) -> Windows:
        """These and others."""
        return Windows(*(torch.cat(pair) for pair in zip(self, other, strict=True)))


@dataclass(frozen=True)
class SeriesParts:
    """Windows for the weights, for the architecture, and for the judgement at the end.

    Attributes:
        inputs: what has to be known to use a network: see `darts.tasks.base.Task.inputs`.
    """

    train: Windows
    valid: Windows
    test: Windows
    inputs: dict[str, Any] = field(default_factory=dict)


class SeriesSource(Source):
    """A source of windows. The engine calls `load` once.

    Args:
        name: what reports call it.
    """

    gives = "series"

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def load(self, split: float) -> SeriesParts:
        """The three parts; `split` is the share of what is not kept for the judgement that trains the weights.

        Raises:
            ValueError: a split that leaves a part without windows.
            UserError: data that cannot be read.
        """


class FixedSeries(SeriesSource):
    """Windows at hand, in two parts that no split changes."""

    def __init__(self, name: str, train: Windows, valid: Windows, inputs: dict[str, Any]) -> None:
        super().__init__(name)
        self.parts = SeriesParts(train, valid, valid, inputs)

    def load(self, split: float) -> SeriesParts:
        return self.parts


def check_split(split: float) -> None:
    """Refuse what is no share of the windows.

    Raises:
        ValueError: it is not above 0 and at most 1.
    """
    if not 0 < split <= 1:
        raise ValueError(f"split: got {split}; give a share above 0, at most 1")


def windows(values_TC: Tensor, targets_TK: Tensor, length: int, horizon: int, first: int, last: int) -> Windows:
    """All windows whose target is one of the steps first to last - 1. A window ends `horizon` steps before its target,
    and may reach back before `first`.

    Args:
        values_TC, targets_TK: the series.
        length: L steps.
        horizon: 1 for the step after the window.
        first, last: steps of the targets.
    """
    begin = max(first, length + horizon - 1)
    if begin >= last:
        shape = (0, length, values_TC.shape[1])
        return Windows(values_TC.new_empty(shape), targets_TK.new_empty((0, targets_TK.shape[1])))
    start = begin - length - horizon + 1
    inputs_NLC = values_TC[start : last - horizon].unfold(0, length, 1).transpose(1, 2)
    return Windows(inputs_NLC.contiguous(), targets_TK[begin:last].contiguous())


class TimeSeries(SeriesSource):
    """Columns over time: the last part of it is kept for the judgement, and of the rest the first part trains the
    weights. All columns are scaled to mean 0 and deviation 1 by that part alone, targets too.

    Args:
        name: what reports call it.
        window: steps L that a network sees.
        horizon: how many steps after the last of these the target lies.

    Raises:
        ValueError: numbers below 1.
    """

    def __init__(self, name: str, window: int = 24, horizon: int = 1) -> None:
        super().__init__(name)
        for key, number in (("window", window), ("horizon", horizon)):
            if type(number) is not int or number < 1:
                raise ValueError(f"{key}: got {number!r}; give 1 or more steps")
        self.window, self.horizon = window, horizon

    @abstractmethod
    def table(self) -> tuple[Tensor, tuple[str, ...], tuple[str, ...]]:
        """The series (T, C) in float64, the names of its columns, and those of the targets among them."""

    def load(self, split: float) -> SeriesParts:
        check_split(split)
        values_TC, columns, targets = self.table()
        steps = len(values_TC)
        kept = steps - round(TEST * steps)
        ends = (0, round(split * kept), kept, steps)
        needed = self.window + self.horizon - 1
        if steps < needed + 3 * LEAST:
            raise UserError(
                f"dataset: {self.name} has {steps:,} rows; windows of {self.window} steps with a horizon of "
                f"{self.horizon} need at least {needed + 3 * LEAST:,}; give more rows, or a smaller dataset.window or "
                "dataset.horizon"
            )
        mean_C = values_TC[: ends[1]].mean(dim=0)
        deviation_C = values_TC[: ends[1]].std(dim=0, correction=0)
        deviation_C = torch.where(deviation_C > 0, deviation_C, 1.0)  # a constant column stays 0
        scaled_TC = ((values_TC - mean_C) / deviation_C).float()
        places = [columns.index(name) for name in targets]
        train, valid, test = (
            windows(scaled_TC, scaled_TC[:, places], self.window, self.horizon, first, last)
            for first, last in itertools.pairwise(ends)
        )
        needed_parts = (train, valid, test) if split < 1 else (train, test)
        if (short := min(len(part.targets_NK) for part in needed_parts)) < LEAST:
            raise ValueError(
                f"split: of {steps:,} rows a share of {split:.6g} leaves a part with {short} windows; give another"
            )
        inputs = {
            "columns": list(columns), "targets": list(targets), "window": self.window, "horizon": self.horizon,
            "mean": mean_C.tolist(), "deviation": deviation_C.tolist(),
        }  # fmt: skip
        return SeriesParts(train, valid, test, inputs)
