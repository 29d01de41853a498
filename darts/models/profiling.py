"""What a network costs where it runs: from shapes, and measured here.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from darts.run.quiet import quiet
from darts.run.timing import Shape, timed, zeros


@dataclass(frozen=True)
class Measured:
    """Forward passes of batches of one size.

    Attributes:
        images: of a batch.
        ms_median, ms_p95: time of a pass.
        images_per_second: by the median.
        peak_mb: most memory that tensors of a pass take at once, weights and images left out.
    """

    images: int
    ms_median: float
    ms_p95: float
    images_per_second: float
    peak_mb: float


@torch.inference_mode()
def measured(network: nn.Module, shape: Shape, images: int, repeats: int, device: torch.device) -> Measured:
    """Time and memory of a network in evaluation mode on its device."""
    images_BCHW = zeros(shape(images), device)
    ms = [1e3 * second for second in timed(lambda: network(images_BCHW), repeats, device)]
    median = float(np.median(ms))
    return Measured(
        images, median, float(np.quantile(ms, 0.95)), 1e3 * images / median, peak_bytes(network, images_BCHW) / 1e6
    )  # fmt: skip


def peak_bytes(network: nn.Module, images_BCHW: Tensor) -> int:
    """Most bytes that tensors of a pass hold at once; on the CPU without what libraries take for themselves."""
    device = images_BCHW.device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        network(images_BCHW)
        return torch.cuda.max_memory_allocated(device) - before
    with torch.no_grad(), _Living() as living:
        network(images_BCHW)
    return living.peak


class _Living(TorchDispatchMode):
    """Counts the bytes of tensors that operators make, until the last tensor of a storage is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: dict[int, int] = {}  # by address of the storage
        self.held = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        for tensor in outputs if isinstance(outputs, tuple | list) else [outputs]:
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                place, size = storage.data_ptr(), storage.nbytes()
                if place not in self.tensors:
                    self.tensors[place] = 0
                    self.held += size
                    self.peak = max(self.peak, self.held)
                self.tensors[place] += 1
                weakref.finalize(tensor, self._gone, place, size)
        return outputs

    def _gone(self, place: int, size: int) -> None:
        self.tensors[place] -= 1
        if not self.tensors[place]:
            del self.tensors[place]
            self.held -= size


def counted(network: nn.Module, shape: Shape) -> dict[str, Any]:
    """fvcore's counts of one image: `flops` by operator (convolutions and linear layers are the benchmark's),
    `activations`, the values that convolutions and linear layers put out, and both as a table by module."""
    images_BCHW = zeros(shape(1), next(network.parameters()).device)
    with quiet("fvcore"):  # torch warns of scripts and traces, which fvcore makes
        from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis, flop_count_table

        flops, activations = FlopCountAnalysis(network, images_BCHW), ActivationCountAnalysis(network, images_BCHW)
        for analysis in (flops, activations):
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return {
            "flops": {name: int(number) for name, number in flops.by_operator().items()},
            "activations": int(activations.total()),
            "table": flop_count_table(flops, max_depth=3, activations=activations),
        }


def parameters_of(network: nn.Module) -> int:
    """Trainable ones."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def all_measured(
    network: nn.Module, shape: Shape, batches: Sequence[int], repeats: int, device: torch.device
) -> list[Measured]:
    """`measured` for every size of a batch."""
    network.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return [measured(network, shape, images, repeats, device) for images in batches]
