"""The candidate operations of NAS-Bench-201 by name, and the place where others are added.

An operation maps (B, C, H, W) to (B, C, H, W). Its builder takes the number of channels and a function that
makes a batch normalisation, so that the supernet, the reference and the final network share one definition.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from supernet.norm import NormFactory

Builder = Callable[[int, NormFactory], nn.Module]


class Zero(nn.Module):
    """No connection: zeros of the input's shape."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.zeros_like(x_BCHW)


class ReLUConvBN(nn.Sequential):
    """ReLU, a k x k convolution without bias, batch normalisation."""

    def __init__(self, channels: int, kernel_size: int, norm: NormFactory) -> None:
        convolution = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, bias=False)
        super().__init__(nn.ReLU(), convolution, norm(channels))
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
    """3x3 mean, stride 1; padding is not counted, neither ReLU nor normalisation."""

    def __init__(self) -> None:
        super().__init__(3, stride=1, padding=1, count_include_pad=False)


OPERATIONS: dict[str, Builder] = {
    "none": lambda channels, norm: Zero(),
    "skip_connect": lambda channels, norm: nn.Identity(),
    "nor_conv_1x1": lambda channels, norm: ReLUConvBN(channels, 1, norm),
    "nor_conv_3x3": lambda channels, norm: ReLUConvBN(channels, 3, norm),
    "avg_pool_3x3": lambda channels, norm: AvgPool3x3(),
}

BUILT_IN = frozenset(OPERATIONS)


def register_operation(name: str, build: Builder) -> None:
    """Add a candidate operation under a name of its own.

    Parameters and FLOPs are counted from the module that `build` returns; nothing else is to be declared.

    Args:
        name: what cell strings will call it; without '|', '~' and '+'.
        build: (channels, norm) to a module that keeps the shape (B, C, H, W); `norm(channels)` makes a batch
            normalisation of the kind the surrounding network uses.

    Raises:
        ValueError: the name is taken.
    """
    if name in OPERATIONS:
        raise ValueError(f"operation {name!r} is registered already; choose another name")
    OPERATIONS[name] = build


def build_operation(name: str, channels: int, norm: NormFactory) -> nn.Module:
    """The module of one operation.

    Raises:
        ValueError: no operation of that name.
    """
    if name not in OPERATIONS:
        raise ValueError(
            f"unknown operation {name!r}; known are {', '.join(OPERATIONS)}; "
            "add others with supernet.operations.register_operation"
        )
    return OPERATIONS[name](channels, norm)
