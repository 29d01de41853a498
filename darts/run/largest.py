"""`data.batch_size=auto`: the largest batch that fits into memory, found by trying."""

from __future__ import annotations

import gc
import os
import resource
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from darts.run import ranks
from darts.run.errors import UserError
from darts.run.memory import GIB, is_full, total_memory

AUTO = "auto"
LEAST = 8  # the first that is tried
SHARE = 0.8  # of the memory that there is, at most
STEPS = 10  # an epoch, at least


def with_batch_size(settings: Mapping[str, Any], attempt: Callable[[dict[str, Any]], int]) -> dict[str, Any]:
    """Settings with a number for `data.batch_size=auto`; others as they are.

    The largest power of two with which a step takes four fifths of the memory at most, and that leaves ten steps an
    epoch. Sizes are doubled; one is tried only if, by how much more the last took than the one before, it will fit.

    Args:
        settings: of a search or retraining.
        attempt: makes a step of all kinds with such settings, and says how many items the data have for it.

    Raises:
        UserError: the smallest does not fit, or whatever `attempt` raises.
    """
    data = settings.get("data")
    if not isinstance(data, dict) or data.get("batch_size") != AUTO:
        return dict(settings)

    processes = ranks.size()

    def of_size(size: int) -> int:  # the share of a process, as one group
        own = {"data": data | {"batch_size": size}, "engine": dict(settings["engine"]) | {"groups": None}}
        return attempt({**settings, **own}) // processes

    def found() -> int:
        with ranks.alone():
            return largest(of_size, str(settings.get("device")) != "cpu" and torch.cuda.is_available())

    each = ranks.gathered(ranks.agreed(found))
    size = min(each) * processes
    print(f"data.batch_size: {size}, the largest that fits and leaves ten steps an epoch", file=sys.stderr)
    return {**settings, "data": data | {"batch_size": size}}


def largest(attempt: Callable[[int], int], cuda: bool) -> int:
    """The largest power of two, from 8, with which an attempt fits into memory.

    Args:
        attempt: with a size; how many items there are to make batches of.
        cuda: whether it is the memory of a GPU that counts.

    Raises:
        UserError: the smallest does not fit.
    """
    memory = _Cuda() if cuda else _Host()
    before, size, found = memory.peak(), LEAST, 0
    while True:
        memory.begin()
        try:
            items = attempt(size)
        except (MemoryError, RuntimeError) as error:
            if not is_full(error):
                raise
            break
        finally:
            gc.collect()
        most = max(1, items // STEPS)
        if size > most:
            return most
        found, peak = size, memory.peak()
        if 2 * size > most or peak + 2 * max(0, peak - before) > SHARE * memory.limit():
            break
        before, size = peak, 2 * size
    if not found:
        raise UserError(
            f"data.batch_size: got {AUTO}; a step with {LEAST} items does not fit into memory "
            f"({memory.limit() / GIB:.1f} GiB); give fewer network.channels or network.cells, smaller images, or, to a "
            "search, engine.recompute=cells"
        )
    return found


class _Cuda:
    """Memory of this process's GPU, bytes."""

    def begin(self) -> None:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        return int(torch.cuda.max_memory_allocated())

    def limit(self) -> int:
        return int(torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved())  # others may have some


class _Host:
    """Memory of this process, bytes."""

    def begin(self) -> None:
        with suppress(OSError):  # Linux forgets the highest until now; elsewhere larger sizes pass it anyway
            Path("/proc/self/clear_refs").write_text("5")

    def peak(self) -> int:
        with suppress(OSError, LookupError):
            return _kilobytes("/proc/self/status", "VmHWM")
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def limit(self) -> int:
        limits = [total_memory()]
        with suppress(OSError, LookupError):  # what others have is not to be had; Linux alone says it so
            available = _kilobytes("/proc/meminfo", "MemAvailable")
            limits.append(available + _kilobytes("/proc/self/status", "VmRSS"))
        return min(limits) // (int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if ranks.started() else 1)


def _kilobytes(file: str, name: str) -> int:
    """A line ``name:  12 kB`` of the kernel's, in bytes."""
    rows = (line.split() for line in Path(file).read_text(encoding="ascii").splitlines())
    return 1024 * int({row[0]: row[1] for row in rows if len(row) > 1}[f"{name}:"])
