"""The candidate operations of NAS-Bench-201 and of the DARTS space by name, and the place where others are added.

An operation maps (B, C, H, W) to (B, C, H / stride, W / stride), rounded up. Its builder takes the number of channels,
the stride and a function that makes a batch normalisation, so that the supernet, the reference and the final network
share one definition.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.convolution import Strided1x1, convolution
from supernet.norm import NormFactory

Builder = Callable[[int, int, NormFactory], nn.Module]


class Zero(nn.Module):
    """No connection: zeros."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.stride > 1:
            x_BCHW = x_BCHW[:, :, :: self.stride, :: self.stride]
        return torch.zeros_like(x_BCHW)


class ReLUConvBN(nn.Sequential):
    """ReLU, a k x k convolution without bias, batch normalisation."""

    def __init__(self, channels: int, kernel_size: int, norm: NormFactory, stride: int = 1) -> None:
        super().__init__(nn.ReLU(), convolution(channels, channels, kernel_size, stride), norm(channels))
        self.kernel_size = kernel_size

    @property
    def convolution(self) -> nn.Conv2d:
        """The convolution."""
        return self[1]  # type: ignore[return-value]

    @property
    def norm(self) -> nn.BatchNorm2d:
        """The batch normalisation."""
        return self[2]  # type: ignore[return-value]


class AvgPool3x3(nn.AvgPool2d):
    """3x3 mean; padding is not counted, neither ReLU nor normalisation."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__(3, stride=stride, padding=1, count_include_pad=False)


class MaxPool3x3(nn.MaxPool2d):
    """3x3 maximum, neither ReLU nor normalisation."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__(3, stride=stride, padding=1)


class NormalisedPool(nn.Sequential):
    """A pooling and a batch normalisation without parameters: what DARTS' search network has for a pooling."""

    def __init__(self, pool: AvgPool3x3 | MaxPool3x3, norm: nn.Module) -> None:
        super().__init__(pool, norm)


class SeparableConv(nn.Sequential):
    """ReLU, a depthwise convolution, a 1x1 convolution and batch normalisation, as often as there are dilations (DARTS,
    Liu et al. 2019, arXiv:1806.09055, section 3.1). The first depthwise convolution has the stride."""

    def __init__(
        self, channels: int, kernel_size: int, norm: NormFactory, stride: int = 1, dilations: Sequence[int] = (1, 1)
    ) -> None:
        layers: list[nn.Module] = []
        for dilation in dilations:
            padding = dilation * (kernel_size // 2)
            layers += [
                nn.ReLU(),
                nn.Conv2d(channels, channels, kernel_size, stride, padding, dilation, groups=channels, bias=False),
                nn.Conv2d(channels, channels, 1, bias=False),
                norm(channels),
            ]
            stride = 1
        super().__init__(*layers)


class CrossConv(nn.Sequential):
    """ReLU, a 1x7 and a 7x1 convolution, batch normalisation (Real et al. 2019, arXiv:1802.01548, figure 6)."""

    def __init__(self, channels: int, norm: NormFactory, stride: int = 1) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False),
            nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False),
            norm(channels),
        )


class Noise(nn.Module):
    """Standard normal noise in place of the input (RobustDARTS, Zela et al. 2020, arXiv:1909.09656, section 3)."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.randn_like(x_BCHW[:, :, :: self.stride, :: self.stride])


class FactorizedReduce(nn.Module):
    """A skip connection of stride 2: ReLU, two 1x1 convolutions on pixels that are one apart, each with half of the
    channels, batch normalisation (DARTS, Liu et al. 2019, arXiv:1806.09055, section 3.1)."""

    def __init__(self, channels_in: int, channels: int, norm: NormFactory) -> None:
        super().__init__()
        self.even = Strided1x1(channels_in, channels - channels // 2, 2)
        self.odd = Strided1x1(channels_in, channels // 2, 2)
        self.norm = norm(channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = x_BCHW.relu()
        shifted_BCHW = F.pad(x_BCHW, (0, 1, 0, 1))[:, :, 1:, 1:]  # odd sizes: a last row and column of zeros
        return self.norm(torch.cat([self.even(x_BCHW), self.odd(shifted_BCHW)], dim=1))


def _skip(channels: int, stride: int, norm: NormFactory) -> nn.Module:
    if stride > 2:
        raise ValueError(f"stride: got {stride}; skip_connect has 1 and 2")
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, norm)


OPERATIONS: dict[str, Builder] = {
    "none": lambda channels, stride, norm: Zero(stride),
    "skip_connect": _skip,
    "nor_conv_1x1": lambda channels, stride, norm: ReLUConvBN(channels, 1, norm, stride),
    "nor_conv_3x3": lambda channels, stride, norm: ReLUConvBN(channels, 3, norm, stride),
    "avg_pool_3x3": lambda channels, stride, norm: AvgPool3x3(stride),
    "max_pool_3x3": lambda channels, stride, norm: MaxPool3x3(stride),
    "sep_conv_3x3": lambda channels, stride, norm: SeparableConv(channels, 3, norm, stride),
    "sep_conv_5x5": lambda channels, stride, norm: SeparableConv(channels, 5, norm, stride),
    "sep_conv_7x7": lambda channels, stride, norm: SeparableConv(channels, 7, norm, stride),
    "dil_conv_3x3": lambda channels, stride, norm: SeparableConv(channels, 3, norm, stride, (2,)),
    "dil_conv_5x5": lambda channels, stride, norm: SeparableConv(channels, 5, norm, stride, (2,)),
    "conv_7x1_1x7": lambda channels, stride, norm: CrossConv(channels, norm, stride),
    "noise": lambda channels, stride, norm: Noise(stride),
}


def register_operation(name: str, build: Builder) -> None:
    """Add a candidate operation under a name of its own.

    Parameters and FLOPs are counted from the module that `build` returns; nothing else is to be declared.

    Args:
        name: what cell strings will call it; without '|', '~' and '+'.
        build: (channels, stride, norm) to a module that keeps the channels; `norm(channels)` makes a batch
            normalisation of the kind the surrounding network uses.

    Raises:
        ValueError: the name is taken.
    """
    if name in OPERATIONS:
        raise ValueError(f"operation {name!r} is registered already; choose another name")
    OPERATIONS[name] = build


def build_operation(
    name: str, channels: int, stride: int, norm: NormFactory, normalised_pools: bool = False
) -> nn.Module:
    """The module of one operation; with `normalised_pools` poolings are normalised as well.

    Raises:
        ValueError: no operation of that name.
    """
    if name not in OPERATIONS:
        raise ValueError(
            f"unknown operation {name!r}; known are {', '.join(OPERATIONS)}; "
            "add others with supernet.operations.register_operation"
        )
    operation = OPERATIONS[name](channels, stride, norm)
    if normalised_pools and isinstance(operation, AvgPool3x3 | MaxPool3x3):
        return NormalisedPool(operation, norm(channels))
    return operation
