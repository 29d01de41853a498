"""What a run ran on: recorded in results and checkpoints, compared on resume."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

from darts import __version__
from darts.run import ranks

if TYPE_CHECKING:
    import torch


def environment(device: torch.device) -> dict[str, str | int]:
    """Versions, machine, device and thread count; equal values and an equal seed give equal bits."""
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "darts": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "machine": f"{platform.system()} {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "device": f"{device.type}: {name}",
        "threads": torch.get_num_threads(),
        "processes": ranks.size(),
    }


def software() -> dict[str, str | int]:
    """Versions of the program and of the libraries that it has loaded."""
    libraries = {
        name: sys.modules[name].__version__ for name in ("numpy", "torch", "optuna", "sklearn") if name in sys.modules
    }
    return {"darts": __version__, "python": platform.python_version(), "machine": platform.machine()} | libraries


def differences(before: dict[str, str | int], now: dict[str, str | int]) -> list[str]:
    """What changed, as ``torch: 2.6.0 -> 2.7.0``."""
    return [
        f"{key}: {before.get(key)} -> {now[key]}"
        for key in now
        if before.get(key, 1 if key == "processes" else None) != now[key]
    ]
