"""How long a call takes, on any device."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

Shape = Callable[[int], tuple[int, ...]]
"""From a number of items to the shape of a batch of them."""

WARM_UP = 2  # calls that are not timed


def zeros(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """A batch of zeros; images in the layout of fast convolutions."""
    found = torch.zeros(shape, device=device)
    return found.to(memory_format=torch.channels_last) if found.dim() == 4 else found


def timed(call: Callable[[], object], repeats: int, device: torch.device) -> list[float]:
    """Seconds of every repeat, until the device has finished it."""
    seconds = []
    for number in range(WARM_UP + repeats):
        begun = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - begun)
    return seconds
