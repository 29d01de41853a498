"""Convolutions of all edges that leave a node, as one tensor.

Shape suffixes: C channels, T targets of one source node, S chosen ones of its channels.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from supernet.leaving import ConvInputs
from supernet.operations import ReLUConvBN


def can_be_stacked(operation: nn.Module) -> bool:
    """Whether an operation is what a stack computes, part by part: a ReLU, a convolution that keeps the size and has no
    bias, a batch normalisation with a momentum and without scale and shift."""
    if type(operation) is not ReLUConvBN:
        return False
    if tuple(map(type, operation)) != (nn.ReLU, nn.Conv2d, nn.BatchNorm2d):
        return False
    convolution, norm = operation.convolution, operation.norm
    half = tuple(size // 2 for size in convolution.kernel_size)
    spacing = (convolution.stride, convolution.dilation, convolution.padding, convolution.padding_mode)
    plain = spacing == ((1, 1), (1, 1), half, "zeros") and convolution.groups == 1 and convolution.bias is None
    return plain and norm.momentum is not None and not norm.affine


class StackedConvBN(nn.Module):
    """k x k convolutions (no bias) and normalisations of T edges that share their input, stored as one tensor.

    Output channels are ordered target by target: `weight[t * C : (t + 1) * C]` belongs to the t-th edge.
    """

    running_mean: Tensor | None
    running_var: Tensor | None

    def __init__(self, template: ReLUConvBN, num_targets: int) -> None:
        super().__init__()
        convolution, norm = template.convolution, template.norm
        assert norm.momentum is not None
        self.num_targets, self.channels = num_targets, convolution.out_channels
        self.kernel_size, self.eps, self.momentum = template.kernel_size, norm.eps, norm.momentum
        self.weight = nn.Parameter(torch.empty(num_targets * self.channels, *convolution.weight.shape[1:]))
        tracked = norm.track_running_stats
        self.register_buffer("running_mean", torch.zeros(num_targets * self.channels) if tracked else None)
        self.register_buffer("running_var", torch.ones(num_targets * self.channels) if tracked else None)

    def rows(self, target: int) -> slice:
        """Where the channels of one edge stand."""
        return slice(target * self.channels, (target + 1) * self.channels)

    def copy_to(self, operation: ReLUConvBN, target: int) -> None:
        """Copy one edge's weights and running statistics into a module of its own."""
        rows = self.rows(target)
        with torch.no_grad():
            operation.convolution.weight.copy_(self.weight[rows])
            for mine, theirs in (
                (self.running_mean, operation.norm.running_mean),
                (self.running_var, operation.norm.running_var),
            ):
                if mine is not None and theirs is not None:
                    theirs.copy_(mine[rows])

    def prepare(self, targets: tuple[int, ...], channels: int, weights_T: Tensor) -> ConvInputs:
        """The tensors of the chosen edges, of their first `channels` channels."""
        weight: Tensor = self.weight
        mean, var = (None, None) if self.training else (self.running_mean, self.running_var)
        if (index_S := self._index(targets, channels)) is not None:
            weight = weight[index_S, :channels]
            mean, var = (None if mean is None else mean[index_S], None if var is None else var[index_S])
        return ConvInputs(weight, weights_T, mean, var)

    def track(self, targets: tuple[int, ...], channels: int, pixels: int, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics of the chosen edges towards those of a batch (as nn.BatchNorm2d does)."""
        if self.running_mean is None or self.running_var is None or not self.training:
            return
        index_S = self._index(targets, channels)
        unbiased = var * (pixels / max(1, pixels - 1))
        for running, value in ((self.running_mean, mean), (self.running_var, unbiased)):
            if index_S is None:
                running.lerp_(value.to(running), self.momentum)
            else:
                running[index_S] = torch.lerp(running[index_S], value.to(running), self.momentum)

    def _index(self, targets: tuple[int, ...], channels: int) -> Tensor | None:
        """Rows of the weight that are chosen, on its device; None for all."""
        if len(targets) == self.num_targets and channels == self.channels:
            return None
        return rows_of(targets, self.channels, channels, self.weight.device)


@cache
def index_on(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Made once, so that choosing rows never waits for a copy to the device."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


@cache
def rows_of(targets: tuple[int, ...], stride: int, channels: int, device: torch.device) -> Tensor:
    """The first `channels` rows of some targets, which have `stride` rows each."""
    return index_on(tuple(target * stride + channel for target in targets for channel in range(channels)), device)
