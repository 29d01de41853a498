"""Operations of a search cell that cannot be stacked: what they share, and what is folded.

All operations of a node that begin with a ReLU get it computed once, and the weight of an edge is the scale of the
normalisation that an operation ends with, which spares a pass over its output and keeping that for the backward pass.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.convolution import Strided1x1, convolved
from supernet.operations import AvgPool3x3, FactorizedReduce, MaxPool3x3, NormalisedPool

SHARED = (AvgPool3x3, MaxPool3x3, NormalisedPool)
"""Operations without parameters and chance, which all edges that leave a node have in common."""
PLAIN = (nn.ReLU, nn.Conv2d, Strided1x1, nn.BatchNorm2d, AvgPool3x3, MaxPool3x3)


def is_plain(operation: nn.Module) -> bool:
    """Whether an operation is a row of layers that can be run on the first of its channels alone."""
    if not isinstance(operation, nn.Sequential) or type(operation).forward is not nn.Sequential.forward:
        return False
    return all(_narrows(layer) for layer in operation)


def _narrows(layer: nn.Module) -> bool:
    if type(layer) not in PLAIN or getattr(layer, "momentum", 0.0) is None:
        return False
    return not isinstance(layer, nn.Conv2d) or layer.groups in (1, layer.in_channels)


def rectifier(x_BCHW: Tensor) -> Callable[[], Tensor]:
    """Gives relu(x), computed when it is first asked for."""
    known: list[Tensor] = []

    def rectified() -> Tensor:
        if not known:
            known.append(x_BCHW.relu())
        return known[0]

    return rectified


def weighted(
    operation: nn.Module, full: int, x_BCHW: Tensor, rectified: Callable[[], Tensor], weight: Tensor | None = None
) -> Tensor:
    """An operation, built for at least as many channels, on the first of them; times a weight, if one is given.

    Args:
        operation: keeps the number of channels.
        full: channels that it was built for; one that is no row of layers sees those that are not there as zeros.
        x_BCHW: its input.
        rectified: gives relu(x).
        weight: a number.
    """
    channels = x_BCHW.shape[1]
    if type(operation) is FactorizedReduce and channels < full:
        y_BCHW = _halves(operation, rectified(), channels)
        return y_BCHW if weight is None else weight * y_BCHW
    if not is_plain(operation):
        missing = full - channels
        y_BCHW = operation(F.pad(x_BCHW, (0, 0, 0, 0, 0, missing)) if missing else x_BCHW)[:, :channels]
        return y_BCHW if weight is None else weight * y_BCHW
    layers = list(operation)  # type: ignore[call-overload]
    if type(layers[0]) is nn.ReLU:
        x_BCHW, layers = rectified(), layers[1:]
    last = layers.pop() if type(layers[-1]) is nn.BatchNorm2d else None
    for layer in layers:
        x_BCHW = _layer(layer, x_BCHW, channels)
    if last is not None:
        return _normalised(last, x_BCHW, channels, weight)
    return x_BCHW if weight is None else weight * x_BCHW


def _halves(operation: FactorizedReduce, x_BCHW: Tensor, channels: int) -> Tensor:
    """Both of its convolutions on the first channels, each with its first outputs."""
    shifted_BCHW = F.pad(x_BCHW, (0, 1, 0, 1))[:, :, 1:, 1:]
    counts = (channels - channels // 2, channels // 2)
    both = [
        convolved(layer, value_BCHW, layer.weight[:count, :channels])
        for layer, value_BCHW, count in zip(
            (operation.even, operation.odd), (x_BCHW, shifted_BCHW), counts, strict=True
        )
    ]
    norm: nn.BatchNorm2d = operation.norm  # type: ignore[assignment]
    return _normalised(norm, torch.cat(both, dim=1), channels, None)


def _layer(layer: nn.Module, x_BCHW: Tensor, channels: int) -> Tensor:
    if isinstance(layer, nn.BatchNorm2d):
        return _normalised(layer, x_BCHW, channels, None)
    if not isinstance(layer, nn.Conv2d) or layer.in_channels == channels:
        return layer(x_BCHW)
    weight, groups = layer.weight[:channels, :channels], 1 if layer.groups == 1 else channels
    bias = None if layer.bias is None else layer.bias[:channels]
    return convolved(layer, x_BCHW, weight, bias, groups)


def _normalised(layer: nn.BatchNorm2d, x_BCHW: Tensor, channels: int, weight: Tensor | None) -> Tensor:
    if weight is None and layer.num_features == channels:
        return layer(x_BCHW)
    mean, var = (None if v is None else v[:channels] for v in (layer.running_mean, layer.running_var))
    tracks = layer.training and mean is not None
    if tracks and layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
    scale, shift = (None if v is None else v[:channels] for v in (layer.weight, layer.bias))
    if weight is not None:
        # a copy: batch_norm's backward pass writes as many numbers as there are into the memory of its scale's shape
        scale = weight.repeat(channels) if scale is None else weight * scale
        shift = None if shift is None else weight * shift
    return F.batch_norm(
        x_BCHW, mean, var, scale, shift, layer.training or mean is None, layer.momentum or 0.0, layer.eps
    )
