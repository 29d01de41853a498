"""How torch's idle threads wait on the CPU.

OpenMP's threads spin for milliseconds when they have nothing to do, ready for the next operation. On a machine that
other programs use too, a spinning thread takes the core from the one that it waits for, and a step takes ten times as
long. A short spin costs a quiet machine nothing that can be measured, and a busy one little; figures:
benchmarks/bench_shared_machine.py.
"""

from __future__ import annotations

import os

TURNS = "10000"  # of the spinning loop of GNU OpenMP, which torch brings along; some ten microseconds
CHOSEN_BY_USER = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def wait_briefly() -> None:
    """Let idle threads sleep soon, unless the environment says how they wait.

    OpenMP reads it once, when torch is imported, so this comes before; processes that are started later inherit it.
    """
    if not any(name in os.environ for name in CHOSEN_BY_USER):
        os.environ["GOMP_SPINCOUNT"] = TURNS
