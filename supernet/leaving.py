"""What leaves one node of a search cell.

All edges that leave a node share its value x. For its T targets the terms

    y_t = skip_t x + pool_t avg_pool(x) + sum_k w_kt BN(conv_k(relu(x), W_kt))

are computed together. `leaving_plainly` says so in torch's differentiable operators; `supernet.fast_leaving`
computes the same fast.

Shape suffixes: B batch, C channels, H height, W width, T targets of the node, S targets that a convolution serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.operations import AvgPool3x3


@dataclass(frozen=True)
class Conv:
    """One stacked convolution: which of its targets are active, and how it is normalised.

    Attributes:
        targets: ascending; the weight holds their output channels one after the other, and only theirs.
        kernel_size: odd; the padding keeps the image's size.
        eps: of the normalisation.
    """

    targets: tuple[int, ...]
    kernel_size: int
    eps: float


@dataclass(frozen=True)
class Plan:
    """What is computed; known on the host. Active targets of every kind, ascending.

    Attributes:
        skip, pool: targets of the identity and of the pooling.
        convs: the stacked convolutions.
        statistics: whether batch statistics are wanted beside the terms, for running averages.
        native: whether compiled kernels may be used.
    """

    skip: tuple[int, ...]
    pool: tuple[int, ...]
    convs: tuple[Conv, ...]
    statistics: bool = True
    native: bool = False

    @property
    def reached(self) -> list[int]:
        """Targets with a term."""
        kinds = (self.skip, self.pool, *(conv.targets for conv in self.convs))
        return sorted({target for kind in kinds for target in kind})


class ConvInputs(NamedTuple):
    """Tensors of one stacked convolution.

    Attributes:
        weight: (S C, C, k, k) for its S active targets.
        weights_T: edge weights; those of inactive targets are not read.
        mean, var: (S C) statistics to normalise with, or None for those of the batch.
    """

    weight: Tensor
    weights_T: Tensor
    mean: Tensor | None
    var: Tensor | None

    def scales(self, conv: Conv) -> Tensor:
        """Edge weights (S) of the active targets."""
        if len(conv.targets) == len(self.weights_T):
            return self.weights_T
        return torch.stack([self.weights_T[target] for target in conv.targets])


AVG_POOL = AvgPool3x3()


def leaving_plainly(
    plan: Plan, x_BCHW: Tensor, skip_T: Tensor | None, pool_T: Tensor | None, convs: Sequence[ConvInputs]
) -> list[Tensor]:
    """The terms of `plan.reached`, then, if wanted, batch mean and biased variance of every convolution."""
    terms: dict[int, Tensor] = {}
    statistics: list[Tensor] = []
    channels = x_BCHW.shape[1]

    def add(target: int, term_BCHW: Tensor) -> None:
        terms[target] = terms[target] + term_BCHW if target in terms else term_BCHW

    relu_BCHW = x_BCHW.relu() if convs else x_BCHW
    for conv, inputs in zip(plan.convs, convs, strict=True):
        z_BCHW = F.conv2d(relu_BCHW, inputs.weight.to(x_BCHW.dtype), padding=conv.kernel_size // 2)
        if inputs.mean is None and plan.statistics:
            var, mean = torch.var_mean(z_BCHW.detach().to(inputs.weight.dtype), dim=(0, 2, 3), correction=0)
            statistics += [mean, var]
        scale = inputs.scales(conv).repeat_interleave(channels)
        batch_statistics = inputs.mean is None
        out_BCHW = F.batch_norm(z_BCHW, inputs.mean, inputs.var, scale, None, batch_statistics, 0.0, conv.eps)
        for target, term_BCHW in zip(conv.targets, out_BCHW.split(channels, dim=1), strict=True):
            add(target, term_BCHW)
    for target in plan.skip:
        assert skip_T is not None
        add(target, skip_T[target] * x_BCHW)
    pooled_BCHW = AVG_POOL(x_BCHW) if plan.pool else x_BCHW
    for target in plan.pool:
        assert pool_T is not None
        add(target, pool_T[target] * pooled_BCHW)
    return [terms[target].to(x_BCHW.dtype) for target in plan.reached] + statistics
