"""Batch normalisation as a supernet needs it: a choice of statistics, and steps that leave them alone.

Two modes. ``batch``: every pass, evaluation included, normalises with the statistics of its own batch and
nothing is tracked. ``running``: training passes normalise with batch statistics and track running ones,
evaluation uses those. Which one a search used decides its results, so it is a config key (`network.batch_norm`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn

MODES = ("batch", "running")
MOMENTUM = 0.1
NormFactory = Callable[[int], nn.Module]


def norm_factory(mode: str, affine: bool) -> NormFactory:
    """A function from a number of channels to a batch normalisation.

    Raises:
        ValueError: unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"batch_norm: got {mode!r}; allowed are {', '.join(MODES)}")
    return partial(nn.BatchNorm2d, momentum=MOMENTUM, affine=affine, track_running_stats=mode == "running")


@contextmanager
def held_statistics(network: nn.Module) -> Iterator[None]:
    """Passes inside leave all running statistics as they are (they still normalise with batch statistics)."""
    held = [(module, module.momentum) for module in network.modules() if hasattr(module, "momentum")]
    for module, _ in held:
        module.momentum = 0.0  # type: ignore[assignment]
    try:
        yield
    finally:
        for module, momentum in held:
            module.momentum = momentum
