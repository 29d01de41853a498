"""Random generators by name, and the switch for deterministic computation."""

from __future__ import annotations

import hashlib
import os

import torch


def make_generator(seed: int, name: str) -> torch.Generator:
    """A CPU generator of its own for one purpose; different names give unrelated streams."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def set_determinism(deterministic: bool) -> None:
    """Deterministic algorithms on every device, or the fastest ones."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # guards against reading it; costs a fifth of a step
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
