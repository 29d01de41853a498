"""`supernet.leaving` with a backward pass written by hand.

Kept for the backward pass are x and the outputs z of the convolutions above 1x1; ReLU, pooled map and normalised
values are computed again. The edge weights are folded into the scale of the normalisation. A 1x1 convolution never
becomes a tensor: with the mean mu and the covariance matrix S of relu(x), its output has mean W mu and variance
diag(W S W^T), and its share of a term is one matrix product.

With a = w / sqrt(var + eps), g = sum_p G_p and h = sum_p G_p (z_p - mean), the gradient of an output z is

    dz = a G + b z + c,    b = -a h / (P (var + eps)),    c = -a g / P - b mean

(batch normalisation, Ioffe & Szegedy 2015, arXiv:1502.03167, section 3, as one affine map per channel); without
batch statistics b = c = 0. The gradient of the edge weight is sum_c h_c / sqrt(var_c + eps).

Convolutions run in the type of x; statistics, sums over pixels and the terms are at least float32.

Shape suffixes: B batch, C channels, H height, W width, P pixels of all images, T targets of the node, S targets
that a convolution serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from supernet.fast_backward import Backward
from supernet.leaving import ConvInputs, Plan, leaving_plainly
from supernet.native import NAMES, native_passes
from supernet.normalised import Normalised
from supernet.passes import Passes, Term, rows

SMALL = 100_000  # values of a node, below which launching more operators costs more than they save


def leaving(
    plan: Plan, x_BCHW: Tensor, skip_T: Tensor | None, pool_T: Tensor | None, convs: Sequence[ConvInputs]
) -> list[Tensor]:
    """`leaving_plainly`, fast.

    Under autocast it computes in autocast's type; statistics and gradients of weights keep theirs. The plain form
    serves small batches and images, torch.compile, which fuses it, and devices that lack an operator used here.
    """
    device = x_BCHW.device.type
    if torch.is_autocast_enabled(device):
        x_BCHW = x_BCHW.to(torch.get_autocast_dtype(device))
    with torch.autocast(device, enabled=False):
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        if device not in ("cpu", "cuda") or torch.compiler.is_compiling() or x_BCHW.numel() < SMALL:
            return leaving_plainly(plan, x_BCHW, skip_T, pool_T, convs)
        flat = [tensor for inputs in convs for tensor in inputs]
        return list(FastLeaving.apply(plan, x_BCHW, skip_T, pool_T, *flat))


def passes_for(plan: Plan, x_BCHW: Tensor) -> Passes:
    """Compiled ones where they are wanted and serve."""
    compiled = plan.native and x_BCHW.device.type == "cpu" and x_BCHW.dtype in NAMES
    return (native_passes() if compiled else None) or Passes()


def regrouped(flat: Sequence[Tensor | None]) -> list[ConvInputs]:
    """The convolutions' tensors as they were before autograd wanted them in one row."""
    return [ConvInputs(*flat[i : i + 4]) for i in range(0, len(flat), 4)]  # type: ignore[arg-type]


class FastLeaving(torch.autograd.Function):
    """Arguments and results as `supernet.leaving.leaving_plainly`; x is channels-last, `flat` the convolutions'."""

    @staticmethod
    def forward(
        ctx: Any, plan: Plan, x_BCHW: Tensor, skip_T: Tensor | None, pool_T: Tensor | None, *flat: Tensor | None
    ) -> tuple[Tensor, ...]:
        wide = torch.promote_types(x_BCHW.dtype, torch.float32)
        convs, passes = regrouped(flat), passes_for(plan, x_BCHW)
        matrices = any(conv.kernel_size == 1 for conv in plan.convs)
        batch = any(inputs.mean is None for inputs in convs)
        x_PC = rows(x_BCHW)
        if batch and len(x_PC) == 1:
            raise ValueError("batch statistics need more than one value a channel; give a larger batch or image")
        relu_BCHW = x_BCHW.relu() if convs else x_BCHW
        relu_PC = rows(relu_BCHW).to(wide) if matrices else x_PC
        moments = passes.covariance(relu_PC) if matrices and batch else None
        normed = [
            Normalised(conv, inputs, relu_BCHW, moments, passes) for conv, inputs in zip(plan.convs, convs, strict=True)
        ]
        pool_PC = rows(passes.pool(x_BCHW)) if plan.pool else x_PC
        found = []
        for target in plan.reached:
            served = [(one, columns) for one in normed if (columns := one.columns(target)) is not None]
            base = x_BCHW.new_zeros((), dtype=wide)
            for one, columns in served:
                base = torch.addcmul(base, one.mean[columns], one.scale[columns], value=-1)
            terms = [Term(rows(one.z)[:, columns], one.scale[columns]) for one, columns in served if one.z is not None]
            for one, columns in served:
                if one.matrix is not None:
                    terms.append(Term(relu_PC, (one.matrix[columns] * one.scale[columns, None]).T))
            if target in plan.skip:
                terms.append(Term(x_PC, skip_T[target].to(wide)))  # type: ignore[index]
            if target in plan.pool:
                terms.append(Term(pool_PC, pool_T[target].to(wide) / 9))  # type: ignore[index]
            found_BCHW = torch.empty_like(x_BCHW, dtype=wide)
            passes.combine(rows(found_BCHW), terms, base if served else None)
            found.append(found_BCHW.to(x_BCHW.dtype))
        ctx.plan, ctx.normed, ctx.passes = plan, normed, passes
        ctx.save_for_backward(x_BCHW, skip_T, pool_T, *flat, *(one.z for one in normed))
        for one in normed:
            one.z = None  # autograd keeps it, and frees it after use
        statistics = [tensor for one in normed if one.batch and plan.statistics for tensor in (one.mean, one.var)]
        ctx.mark_non_differentiable(*statistics)
        return (*found, *statistics)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        count = 3 + 4 * len(plan.convs)
        saved = ctx.saved_tensors  # once: recomputation allows no second look
        inputs, outputs = saved[:count], saved[count:]
        needed = ctx.needs_input_grad[1:]
        gradients = gradients[: len(plan.reached)]  # the rest are the statistics'
        if torch.is_grad_enabled():  # second derivatives
            return None, *differentiable(plan, inputs, gradients, needed)
        with torch.autocast(inputs[0].device.type, enabled=False):
            return None, *Backward(plan, ctx.passes, ctx.normed, inputs, outputs, gradients, needed).run()


def differentiable(
    plan: Plan, inputs: Sequence[Tensor | None], gradients: Sequence[Tensor], needed: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients that can be differentiated again: those of the plain form."""
    x_BCHW, skip_T, pool_T, *flat = inputs
    terms = leaving_plainly(plan, x_BCHW, skip_T, pool_T, regrouped(flat))[: len(plan.reached)]  # type: ignore[arg-type]
    wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need and tensor is not None]
    found = iter(torch.autograd.grad(terms, wanted, gradients, create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needed]
