"""How the supernet is evaluated: in which type, with how much memory, compiled or captured.

Shape suffixes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from supernet.cell import SearchCell
from supernet.relaxations.base import EdgeWeights

CHOICES = {"precision": ("float32", "bfloat16"), "recompute": ("none", "cells")}  # of those arguments


class Compute:
    """The supernet's logits, by the `engine` keys of the same names.

    Args:
        network: the supernet, on its device.
        precision: ``bfloat16`` runs convolutions and keeps activations in bfloat16 (autocast). Weights, batch
            statistics, architecture parameters, losses and optimizer states stay float32.
        recompute: ``cells`` keeps only the inputs of cells for the backward pass and runs each cell once more in it.
        native: on the CPU in float32, use compiled kernels, which a C++ compiler makes at the first use; without one,
            torch's operators (`supernet.native`).
        compile: compile the search cell with torch.compile; minutes at the start.
        cuda_graphs: capture forward and backward of each half-step where every operation is active, which spares
            launching their kernels one by one.

    Raises:
        ValueError: CUDA graphs without CUDA or together with the other two.
    """

    def __init__(
        self,
        network: nn.Module,
        precision: str = "float32",
        recompute: str = "none",
        native: bool = False,
        compile: bool = False,
        cuda_graphs: bool = False,
    ) -> None:
        self.network, self.device = network, next(network.parameters()).device
        if cuda_graphs and (self.device.type != "cuda" or recompute != "none" or compile):
            raise ValueError(
                f"cuda_graphs: got true on {self.device.type} with recompute={recompute} and compile={compile}; "
                "it needs device=cuda, recompute=none and compile=false"
            )
        self.precision, self.bfloat16 = precision, precision == "bfloat16"
        if recompute == "cells" and not hasattr(network, "recompute"):
            raise ValueError(f"recompute: got {recompute!r}; {type(network).__name__} has none, give none")
        network.recompute = recompute == "cells"  # type: ignore[assignment]
        self.captured: dict[tuple[object, ...], nn.Module] | None = {} if cuda_graphs else None
        for module in network.modules():
            if isinstance(module, SearchCell):
                module.native = native
                if compile:
                    module.compile()

    def logits(
        self,
        images_BCHW: Tensor,
        edge_weights: EdgeWeights,
        alone: bool = True,
        network: Callable[..., Tensor] | None = None,
    ) -> Tensor:
        """Logits (B, K), float32.

        Args:
            images_BCHW: the batch.
            edge_weights: one path.
            alone: whether its backward pass comes before the next forward pass.
            network: the supernet, or the function that it is in a run of several processes.
        """
        network = self.network if network is None else network
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.bfloat16, cache_enabled=self.captured is None
        ):
            if self.captured is not None and alone and torch.is_grad_enabled() and _plain(edge_weights):
                logits_BK = self._replay(images_BCHW, edge_weights)
            else:
                logits_BK = network(images_BCHW, edge_weights)
        return logits_BK.float() if self.bfloat16 else logits_BK

    def _replay(self, images_BCHW: Tensor, edge_weights: EdgeWeights) -> Tensor:
        assert self.captured is not None
        weights = edge_weights.weights
        trained = next(self.network.parameters()).requires_grad
        key = (images_BCHW.shape, weights.shape, weights.requires_grad, trained)
        if key not in self.captured:
            buffers = {name: value.clone() for name, value in self.network.named_buffers()}
            sample = weights.detach().clone().requires_grad_(weights.requires_grad)
            half = _HalfStep(self.network, edge_weights)
            torch.cuda.make_graphed_callables(half, (images_BCHW.clone(), sample))  # replaces half.forward
            self.captured[key] = half
            for name, value in self.network.named_buffers():  # capturing took passes of its own
                value.copy_(buffers[name])
        return self.captured[key](images_BCHW, weights)


class _HalfStep(nn.Module):
    """The supernet as a function of tensors alone, as capturing wants it."""

    def __init__(self, network: nn.Module, edge_weights: EdgeWeights) -> None:
        super().__init__()
        self.network, self.active_EO = network, edge_weights.active_EO

    def forward(self, images_BCHW: Tensor, weights: Tensor) -> Tensor:
        return self.network(images_BCHW, EdgeWeights(weights, self.active_EO))


def _plain(edge_weights: EdgeWeights) -> bool:
    """Every operation active, nothing beside: the same kernels in every step."""
    dense = all(all(row) for row in edge_weights.active_EO)
    return dense and edge_weights.partial == 1 and edge_weights.extra_skip is None
