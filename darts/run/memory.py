"""What fits into this machine's memory, asked before anything large is made."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from darts.run.errors import reason

if TYPE_CHECKING:
    from torch import nn

GIB = 2**30
MOST_CELLS = 1000  # a stage; each is some dozens of modules
CONTAINER = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
FULL = re.compile(r"can't allocate memory|out of memory|not enough memory|Storage size calculation overflowed", re.I)


def is_full(error: BaseException) -> bool:
    """Whether an error says that memory is at its end; torch has several ways to."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(FULL.search(str(error))))


def total_memory() -> int:
    """Of this machine, or of the container that this process runs in, bytes."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in CONTAINER:
        with suppress(OSError, ValueError):  # there is none, or it says "max"
            limits.append(int(file.read_text(encoding="ascii")))
    return min(limits)


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
    """Refuse a network whose weights do not fit; a deeper one is reckoned from two.

    Args:
        make: a network of so many cells a stage, of shapes alone.
        channels, cells: what was given.

    Raises:
        ValueError: it does not, or there is none of that size.
    """
    from torch.nn.parameter import UninitializedParameter as Unknown

    if not 1 <= cells <= MOST_CELLS:
        raise ValueError(f"cells: got {cells}; give 1 to {MOST_CELLS} cells a stage")
    given = f"channels={channels}, cells={cells}"
    try:
        networks = [make(few) for few in (1, 2)]
    except RuntimeError as error:  # more than torch can count
        raise ValueError(f"channels, cells: got {given}; no network is as large ({reason(error)}); give less") from None
    params = [sum(p.numel() for p in one.parameters() if not isinstance(p, Unknown)) for one in networks]
    needed = 16 * (params[0] + (cells - 1) * (params[1] - params[0]))  # weight, gradient, momentum, a copy
    check_memory("channels, cells", given, needed, "the weights and what trains them")
