"""How torch's idle threads wait on the CPU.

GNU OpenMP, which torch brings along, lets threads that have nothing to do spin for milliseconds, ready for the next
operation. Where other programs run too, a spinning thread takes the core from the one that it waits for, and a step
takes ten times as long. Figures: benchmarks/bench_shared_machine.py.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

CHOSEN_BY_USER = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
QUIET = "4000"  # turns of the spinning loop, of 300,000 by default: some tens of microseconds
SHARED = "0"  # sleep at once
LOOK_SECONDS = 0.06
STATISTICS = Path("/proc/stat")


def wait_briefly() -> None:
    """Let idle threads sleep soon, and at once where other programs are running, unless the environment says how they
    wait.

    OpenMP reads it when torch is imported, so this comes before; processes that are started later inherit it. Results
    do not depend on it.
    """
    if not any(name in os.environ for name in CHOSEN_BY_USER):
        os.environ["GOMP_SPINCOUNT"] = SHARED if busy_cores() >= 0.5 else QUIET


def busy_cores() -> float:
    """How many cores are at work or taken by other machines, watched for a moment; 0 where nobody tells."""
    try:
        before = _ticks()
        time.sleep(LOOK_SECONDS)
        spent = [now - then for now, then in zip(_ticks(), before, strict=True)]
    except (OSError, ValueError):
        return 0.0
    idle = spent[3] + spent[4]  # waiting for a disk is idle too
    return (os.cpu_count() or 1) * (1 - idle / max(1, sum(spent)))


def _ticks() -> list[int]:
    """Of all cores since the start: user, nice, system, idle, iowait, irq, softirq, steal."""
    line = STATISTICS.read_text(encoding="ascii").partition("\n")[0]
    return [int(value) for value in line.split()[1:9]]
