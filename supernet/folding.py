"""Batch normalisation folded into the convolutions before it, for networks that are only used."""

from __future__ import annotations

import copy

import torch
from torch import nn

from supernet.convolution import Strided1x1


def folded(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode that computes the same with fewer operators.

    A convolution W and a normalisation by running mean m, variance v, scale g and shift b become one convolution of
    weight W g / sqrt(v + eps) and bias b - m g / sqrt(v + eps) (Jacob et al. 2018, arXiv:1712.05877, section 3.2),
    worked out in float64. Normalisations that follow no convolution stay, and those without running statistics.
    """
    network = copy.deepcopy(network).eval()
    for sequence in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for place in range(len(sequence) - 1):
            convolution, norm = sequence[place], sequence[place + 1]
            if not isinstance(convolution, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
                continue
            kinds = type(convolution), type(norm)  # other subclasses may compute otherwise
            plain = kinds in ((nn.Conv2d, nn.BatchNorm2d), (Strided1x1, nn.BatchNorm2d))
            if plain and convolution.padding_mode == "zeros" and norm.track_running_stats:
                sequence[place], sequence[place + 1] = _joined(convolution, norm), nn.Identity()
    return network.eval()


@torch.no_grad()
def _joined(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    mean_C, variance_C = norm.running_mean, norm.running_var
    assert mean_C is not None
    assert variance_C is not None
    scale_C = (variance_C.double() + norm.eps).rsqrt()
    if norm.affine:
        scale_C = scale_C * norm.weight.double()
    before_C = 0.0 if convolution.bias is None else convolution.bias.double()
    shift_C = (before_C - mean_C.double()) * scale_C + (norm.bias.double() if norm.affine else 0.0)
    made = nn.Conv2d(
        convolution.in_channels, convolution.out_channels, convolution.kernel_size, convolution.stride,  # type: ignore[arg-type]
        convolution.padding, convolution.dilation, convolution.groups, device="meta",  # type: ignore[arg-type]
    )  # fmt: skip
    weight = convolution.weight
    made.weight = nn.Parameter((weight.double() * scale_C.view(-1, 1, 1, 1)).to(weight.dtype))
    made.bias = nn.Parameter(shift_C.to(weight.dtype))
    return made
