"""What `supernet.fast_leaving` is made of: pooling, and convolutions with the statistics of their outputs.

Shape suffixes: B batch, C channels, H height, W width, P pixels of all images, S targets that a convolution serves.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.leaving import Conv, ConvInputs


def rows(x_BCHW: Tensor) -> Tensor:
    """The pixels of a channels-last tensor as a matrix (P, C): a view."""
    return x_BCHW.permute(0, 2, 3, 1).flatten(0, 2)


class Pool:
    """Nine times the 3x3 mean over the pixels inside the image, and its transpose, as a depthwise convolution.

    oneDNN is fast at those. The ninth is left to the weight: 1/9 is no number of bfloat16.
    """

    def __init__(self, x_BCHW: Tensor) -> None:
        self.sizes = x_BCHW.shape[2:]
        self.kernel = x_BCHW.new_ones(x_BCHW.shape[1], 1, 3, 3)

    def _widen(self, x_BCHW: Tensor) -> Tensor:
        """In place, 3 / (pixels inside the image) along each axis: 3/2 at both ends, 3 where there is but one."""
        for axis, size in zip((2, 3), self.sizes, strict=True):
            for end in {0, size - 1}:
                x_BCHW.select(axis, end).mul_(3.0 if size == 1 else 1.5)
        return x_BCHW

    def _sum(self, x_BCHW: Tensor) -> Tensor:
        return F.conv2d(x_BCHW, self.kernel, padding=1, groups=len(self.kernel))

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        return self._widen(self._sum(x_BCHW))

    def transposed_(self, gradient_BCHW: Tensor) -> Tensor:
        """Gradient of the input; overwrites its argument."""
        return self._sum(self._widen(gradient_BCHW))


def mean_and_covariance(x_PC: Tensor) -> tuple[Tensor, Tensor]:
    """Of the columns; a guess at the mean is taken away first, so that squares do not cancel."""
    guess = x_PC[: -(-len(x_PC) // 64)].mean(0)
    centred_PC = x_PC - guess
    rest = centred_PC.mean(0)
    return guess + rest, torch.addmm(torch.outer(rest, rest), centred_PC.T, centred_PC, beta=-1, alpha=1 / len(x_PC))


class Normalised:
    """One stacked convolution after its forward pass.

    Attributes:
        z: output (B, S C, H, W); None for a 1x1 convolution.
        matrix: the weight (S C, C) of a 1x1 convolution.
        mu, cov: of relu(x), for a 1x1 convolution with batch statistics.
        mean, inverse, scale: (S C) mean, 1 / sqrt(var + eps), and that times the edge weight.
    """

    def __init__(
        self, conv: Conv, inputs: ConvInputs, relu_BCHW: Tensor, moments: tuple[Tensor, Tensor] | None
    ) -> None:
        self.conv, self.channels, self.batch = conv, relu_BCHW.shape[1], inputs.mean is None
        wide = torch.promote_types(relu_BCHW.dtype, torch.float32)
        self.z, self.matrix, self.mu, self.cov = None, None, None, None
        mean, var = inputs.mean, inputs.var
        if conv.kernel_size > 1:
            weight = inputs.weight.to(relu_BCHW.dtype)
            self.z = F.conv2d(relu_BCHW, weight, padding=conv.kernel_size // 2)
            if self.batch:
                mean, var = torch.batch_norm_update_stats(self.z.to(wide), None, None, 0.0)
        else:
            self.matrix = inputs.weight[:, :, 0, 0].to(wide)
            if moments is not None:
                self.mu, self.cov = moments
                mean, var = self.matrix @ self.mu, ((self.matrix @ self.cov) * self.matrix).sum(1).clamp_min(0)
        assert mean is not None
        assert var is not None
        self.mean, self.var = mean.to(wide), var.to(wide)
        self.inverse = (self.var + conv.eps).rsqrt()
        self.scale = (self.inverse.view(-1, self.channels) * inputs.scales(conv).to(wide)[:, None]).flatten()

    def columns(self, target: int) -> slice | None:
        """Where a target's channels stand, if it is served."""
        if target not in self.conv.targets:
            return None
        first = self.conv.targets.index(target) * self.channels
        return slice(first, first + self.channels)
