"""What fits into this machine's memory, asked before anything large is made."""

from __future__ import annotations

import os

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
