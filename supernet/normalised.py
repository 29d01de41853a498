"""A stacked convolution after its forward pass, with the statistics of its outputs.

Shape suffixes: B batch, C channels, H height, W width, P pixels of all images, S targets that a convolution serves.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.leaving import Conv, ConvInputs
from supernet.passes import Passes, rows


class Normalised:
    """One stacked convolution after its forward pass.

    Attributes:
        z: output (B, S C, H, W); None for a 1x1 convolution.
        matrix: the weight (S C, C) of a 1x1 convolution.
        mu, cov: of relu(x), for a 1x1 convolution with batch statistics.
        mean, inverse, scale: (S C) mean, 1 / sqrt(var + eps), and that times the edge weight.
    """

    def __init__(
        self,
        conv: Conv,
        inputs: ConvInputs,
        relu_BCHW: Tensor,
        moments: tuple[Tensor, Tensor] | None,
        passes: Passes,
    ) -> None:
        self.conv, self.channels, self.batch = conv, relu_BCHW.shape[1], inputs.mean is None
        wide = torch.promote_types(relu_BCHW.dtype, torch.float32)
        self.z, self.matrix, self.mu, self.cov = None, None, None, None
        mean, var = inputs.mean, inputs.var
        if conv.kernel_size > 1:
            weight = inputs.weight.to(relu_BCHW.dtype)
            self.z = F.conv2d(relu_BCHW, weight, padding=conv.kernel_size // 2)
            if self.batch:
                mean, var = passes.moments(rows(self.z).to(wide))
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
