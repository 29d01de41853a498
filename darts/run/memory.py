"""What fits into this machine's memory, asked before anything large is made."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

GIB = 2**30


def total_memory() -> int:
    """Of this machine, bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_memory(name: str, given: object, needed: float, what: str) -> None:
    """Refuse an option whose value needs more memory than there is.

    Args:
        name, given: the option, and what was given for it.
        needed: bytes, at least.
        what: that takes them.

    Raises:
        ValueError: it does not fit.
    """
    if needed > (there := total_memory()):
        raise ValueError(
            f"{name}: got {given}; {what} alone would take {needed / GIB:,.1f} GiB, and this machine has "
            f"{there / GIB:,.1f}; give less"
        )


def check_weights(make: Callable[[int], nn.Module], channels: int, cells: int) -> None:
    """Refuse a network whose weights do not fit; nothing is computed, and two networks are made of shapes alone, from
    which a deeper one is reckoned.

    Args:
        make: a network of so many cells a stage.
        channels, cells: what was given.

    Raises:
        ValueError: it does not, or there is none of that size.
    """
    import torch

    if cells < 1:
        raise ValueError(f"cells: got {cells}; give 1 or more")
    with torch.device("meta"):
        params = [sum(parameter.numel() for parameter in make(few).parameters()) for few in (1, 2)]
    needed = 16 * (params[0] + (cells - 1) * (params[1] - params[0]))  # weight, gradient, momentum, a copy
    given = f"channels={channels}, cells={cells}"
    check_memory("channels, cells", given, needed, "the weights and what trains them")
