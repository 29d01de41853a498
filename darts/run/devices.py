"""The device to compute on, and the threads of the CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from darts.run import ranks
from darts.run.errors import UserError, reason


def choose_device(name: str) -> torch.device:
    """``auto`` takes CUDA, then the CPU; anything else by name. Of several processes on a machine each takes a GPU of
    its own.

    Raises:
        UserError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and ranks.size() > 1:
        if ranks.local() >= torch.cuda.device_count():
            raise UserError(
                f"device: process {ranks.local()} of this machine has no GPU of its own; "
                f"start as many as there are GPUs ({torch.cuda.device_count()}), or give device=cpu"
            )
        name = f"cuda:{ranks.local()}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"device: {name!r} cannot be used here ({reason(error)}); give auto, cpu, cuda, cuda:N or mps"
        ) from None
    return device


def fast_at_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 itself: CUDA from capability 8, CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    questions = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return device.type == "cpu" and any(ask is not None and ask() for ask in questions)


def check_threads(threads: int | None, name: str = "threads") -> None:
    """Refuse a number of threads that the machine cannot serve.

    Args:
        threads: what was given.
        name: of the option.

    Raises:
        ValueError: other than None or 1 to four times the number of cores.
    """
    cores = os.cpu_count() or 1
    if threads is not None and (
        isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 4 * cores
    ):
        raise ValueError(f"{name}: got {threads!r}; give 1 to {4 * cores} (there are {cores} cores), or null")


@contextmanager
def threads_of(threads: int | None) -> Iterator[None]:
    """Inside, compute on so many threads; on as many as before if None."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
