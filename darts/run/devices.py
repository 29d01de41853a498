"""The device to compute on."""

from __future__ import annotations

import torch

from darts.run.errors import UserError, reason


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
