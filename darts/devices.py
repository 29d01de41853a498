"""The device to compute on."""

from __future__ import annotations

import ctypes
import sys

import torch

from darts.errors import UserError, reason


def choose_device(name: str) -> torch.device:
    """``auto`` takes CUDA, then the CPU; anything else by name.

    Raises:
        UserError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"device: {name!r} cannot be used here ({reason(error)}); give auto, cpu, cuda, cuda:N or mps"
        ) from None
    return device


def keep_memory() -> None:
    """Let glibc keep what a step frees for the next step, instead of handing it back and getting it page by page."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "gnu_get_libc_version"):
        trim_threshold, mmap_max = -1, -4  # of malloc.h
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_max, 0)
