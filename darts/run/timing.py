"""How long a call takes, on any device."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

WARM_UP = 2  # calls that are not timed


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
