"""Random generators by name, and the switch for deterministic computation."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

import torch


def make_generator(seed: int, name: str) -> torch.Generator:
    """A CPU generator of its own for one purpose; different names give unrelated streams."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def torch_noise(device: torch.device, state: Sequence[torch.Tensor] | None = None) -> list[torch.Tensor]:
    """State of torch's own generators, from which layers such as dropout draw: the CPU's, and a CUDA device's.

    Args:
        device: whose generator counts beside the CPU's.
        state: put back, if given; that of a run on the CPU leaves a CUDA generator alone.
    """
    if state is not None:
        torch.set_rng_state(state[0])
        if device.type == "cuda" and len(state) > 1:
            torch.cuda.set_rng_state(state[1], device)
    cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *cuda]


def set_determinism(deterministic: bool, compiled: bool = False) -> None:
    """Deterministic algorithms on every device, or the fastest ones; `compiled`: of what torch.compile makes as well,
    whose import takes seconds."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if compiled:
        torch.use_deterministic_algorithms(deterministic)
    else:
        torch.set_deterministic_debug_mode("error" if deterministic else "default")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # guards against reading it; costs a fifth of a step
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
