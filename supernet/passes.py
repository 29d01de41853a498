"""The passes over pixels that `supernet.fast_leaving` is made of, in torch's operators.

`supernet.native` has the same in compiled code, several results a pass.

Shape suffixes: B batch, C channels, H height, W width, P pixels of all images, K products, S channels of all targets
that a convolution serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten


def rows(x_BCHW: Tensor) -> Tensor:
    """The pixels of a channels-last tensor as a matrix (P, C): a view."""
    return x_BCHW.permute(0, 2, 3, 1).flatten(0, 2)


def images(x_PC: Tensor, like_BCHW: Tensor) -> Tensor:
    """The reverse of `rows`: a view, channels-last."""
    batch, _, height, width = like_BCHW.shape
    return x_PC.view(batch, height, width, -1).permute(0, 3, 1, 2)


class Term(NamedTuple):
    """`value_PC * by`, or `value_PC @ by` where `by` is a matrix (C, C); else `by` is (C) or a number ()."""

    value_PC: Tensor
    by: Tensor


class Passes:
    """Matrices may have rows further apart than their columns go, but columns side by side."""

    def combine(
        self,
        out_PC: Tensor,
        terms: Sequence[Term],
        constant_C: Tensor | None = None,
        mask_PC: Tensor | None = None,
        after: Sequence[Term] = (),
    ) -> None:
        """out = (constant + sum of terms, or 0 where mask <= 0) + sum of the terms `after`."""
        total = out_PC.new_zeros(()) if constant_C is None else constant_C
        for term in terms:
            total = self._add(out_PC, total, term)
        if total is not out_PC:
            out_PC.copy_(total)
        if mask_PC is not None:
            aten.threshold_backward.grad_input(out_PC, mask_PC, 0, grad_input=out_PC)
        for term in after:
            self._add(out_PC, out_PC, term)

    def _add(self, out_PC: Tensor, total: Tensor, term: Term) -> Tensor:
        value_PC = term.value_PC.to(out_PC.dtype)
        if term.by.ndim < 2:
            return torch.addcmul(total, value_PC, term.by, out=out_PC)
        return torch.addmm(total, value_PC, term.by, out=out_PC)

    def products(
        self, left_PC: Tensor, by_channel: Sequence[Tensor], whole: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Sums over pixels: of `left`, of its products with matrices, and of those summed over channels too.

        The products by channel are diagonals of small matrix products, which read everything once.
        """
        flat, dtype = left_PC.flatten(), left_PC.dtype
        return (
            left_PC.sum(0),
            [(left_PC.T @ right_PC.to(dtype)).diagonal() for right_PC in by_channel],
            [torch.dot(flat, right_PC.to(dtype).flatten()) for right_PC in whole],
        )

    def gram(self, left_PC: Tensor, right_PC: Tensor) -> Tensor:
        """left^T right, (C, C)."""
        return left_PC.T @ right_PC

    def moments(self, x_PS: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of every column."""
        mean, var = torch.batch_norm_update_stats(x_PS, None, None, 0.0)
        return mean, var

    def covariance(self, x_PC: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance of the columns; a guess at the mean is taken away first: squares would cancel."""
        guess = x_PC[: -(-len(x_PC) // 64)].mean(0)
        centred_PC = x_PC - guess
        rest = centred_PC.mean(0)
        squares_CC = torch.outer(rest, rest)
        return guess + rest, torch.addmm(squares_CC, centred_PC.T, centred_PC, beta=-1, alpha=1 / len(x_PC))

    def pool(self, x_BCHW: Tensor, transposed: bool = False) -> Tensor:
        """Nine times the 3x3 mean over the pixels inside the image, or the transpose of that, which overwrites x.

        A depthwise convolution: oneDNN is fast at those. The ninth is left to who uses it: 1/9 is no number of
        bfloat16.
        """
        kernel = x_BCHW.new_ones(x_BCHW.shape[1], 1, 3, 3)
        out_BCHW = F.conv2d(_widen(x_BCHW) if transposed else x_BCHW, kernel, padding=1, groups=len(kernel))
        return out_BCHW if transposed else _widen(out_BCHW)


def _widen(x_BCHW: Tensor) -> Tensor:
    """In place, 3 / (pixels inside the image) along each axis: 3/2 at both ends, 3 where there is but one."""
    for axis, size in zip((2, 3), x_BCHW.shape[2:], strict=True):
        for end in {0, size - 1}:
            x_BCHW.select(axis, end).mul_(3.0 if size == 1 else 1.5)
    return x_BCHW
