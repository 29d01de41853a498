"""Convolutions with a stride.

oneDNN 3.12 (in torch 2.14) writes beyond its memory in the backward pass of 1x1 convolutions with a stride, of two to
seven channels laid out channels-last, on processors with AVX2 and without AVX-512: the process dies, now or later. They
read one pixel of every stride x stride alone, so taking these first gives the same.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Strided1x1(nn.Conv2d):
    """A 1x1 convolution with a stride.

    Args:
        channels_in, channels, stride: of it; it has no bias.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__(channels_in, channels, 1, stride, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        return convolved(self, input, self.weight)


def convolution(channels_in: int, channels: int, kernel_size: int, stride: int) -> nn.Conv2d:
    """One without bias, whose output is as large as its input, or smaller by the stride."""
    if kernel_size == 1 and stride > 1:
        return Strided1x1(channels_in, channels, stride)
    return nn.Conv2d(channels_in, channels, kernel_size, stride, kernel_size // 2, bias=False)


def convolved(layer: nn.Conv2d, x_BCHW: Tensor, weight: Tensor, bias: Tensor | None = None, groups: int = 1) -> Tensor:
    """What a convolution makes of an input with other weights, such as a part of its own."""
    stride: tuple[int, ...] = layer.stride
    if isinstance(layer, Strided1x1):
        x_BCHW, stride = x_BCHW[:, :, :: stride[0], :: stride[1]], (1, 1)
    return F.conv2d(x_BCHW, weight, bias, stride, layer.padding, layer.dilation, groups)  # type: ignore[arg-type]
