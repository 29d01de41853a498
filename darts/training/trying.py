"""A step of a retraining, thrown away: whether it fits into memory."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from darts.training.build import build_retraining
from darts.training.fit import FitMonitor, FitState, fit
from darts.training.model import Model


class _Enough(Exception):
    """A step was made."""


class _OneStep(FitMonitor):
    def on_step(self, state: FitState, loss: Tensor) -> None:
        raise _Enough


def tried(settings: Mapping[str, Any], start: Model | None) -> int:
    """Make a step; how many items there are to train on.

    Raises:
        UserError: problems of the config.
        MemoryError, RuntimeError: it does not fit.
    """
    training = build_retraining(settings, Path(), start)
    plan = training.plan
    with suppress(_Enough):
        fit(training.network, plan.task, plan.recipe, training.state, [_OneStep()], plan.bfloat16)
    return plan.task.sizes[0]
