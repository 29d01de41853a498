"""The gradient g of a loss by weight, and H w, the product of its Hessian with the weights, in first derivatives alone.

Every value x travels through the network with its tangent dx, its derivative where all weights grow in proportion:
forward-mode differentiation. The loss then has the tangent s = <g, dw>, dw = w. Its gradient with respect to w is H w,
with respect to dw it is g, and one reverse pass finds both (Pearlmutter 1994 in the other order).

PyTorch has rules for tangents, but not all of them can be differentiated again: some of those that go through saved
statistics lose a part without a word. So the operations that serve are listed, and others are refused.
Three have rules of their own here, in few passes over pixels:

A convolution z = w * x has dz = w * dx + w * x, whose second term is z itself. With gradients e of z and d of dz,
those of x and dx are e + d and d, passed through the convolution.

Batch normalisation with batch statistics (Ioffe & Szegedy 2015, arXiv:1502.03167, section 3): with y = (x - mean) r,
r = 1 / sqrt(var + eps), and P(v) = v - mean(v) - y mean(v y) by channel,

    out = scale y + shift,    d_out = scale r P(dx)

and with gradients e of out and d of d_out, both times `scale`, the gradients of dx and x are

    r P(d)    and    r P(e) - r^2 (mean(d y) P(dx) + mean(dx y) P(d)) - r^2 y mean(dx P(d))

The 3x3 mean is linear: value and tangent pass through it alike.

Shape suffixes: B batch, C channels, H height, W width, P pixels of all images.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from supernet.native import NAMES, native_passes
from supernet.passes import Passes, Term, rows

aten = torch.ops.aten
PLAIN = frozenset({
    F.linear, F.relu, F.avg_pool2d, F.adaptive_avg_pool2d, F.conv2d, Tensor.relu, Tensor.add, Tensor.add_, Tensor.mean,
    Tensor.flatten, torch.flatten, torch.zeros_like, Tensor.dim, Tensor.size,
})  # fmt: skip
"""Whose tangents PyTorch finds and differentiates right."""


def gradients_and_products(
    network: nn.Module, weights: Sequence[Tensor], images_BCHW: Tensor, loss: Callable[[Tensor], Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """g and H w by weight, zero where the loss does not reach; the network and its buffers are left alone.

    Args:
        network: from images to logits.
        weights: the parameters of the network that are differentiated; w are all of these.
        images_BCHW: the batch.
        loss: of logits.

    Raises:
        NotImplementedError: the network has an operation whose tangents are not known to be right.
    """
    chosen = {id(weight) for weight in weights}
    values, tangents, held = {}, {}, {name: buffer.clone() for name, buffer in network.named_buffers()}
    for name, parameter in network.named_parameters():
        held[name] = parameter.detach()
        if id(parameter) in chosen:
            values[name], tangents[name] = (parameter.detach().requires_grad_() for _ in range(2))
    with forward_ad.dual_level(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit")  # of what PyTorch imports here at the first use
        duals = {name: forward_ad.make_dual(value, tangents[name]) for name, value in values.items()}
        with _Rules():
            outputs = functional_call(network, held | duals, (images_BCHW,))
        logits, d_logits = forward_ad.unpack_dual(outputs)
    (errors,) = torch.autograd.grad(loss(logits), logits, create_graph=True)
    found = torch.autograd.grad(
        (errors * d_logits).sum(), [*tangents.values(), *values.values()], allow_unused=True, materialize_grads=True
    )
    return list(found[: len(values)]), list(found[len(values) :])


class _Rules(TorchFunctionMode):
    """Lets listed operations pass, those that have a rule here by that."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        found = RULES[func](*args, **kwargs) if func in RULES else None
        if found is None and func not in PLAIN:
            raise NotImplementedError(f"no tangents of {getattr(func, '__name__', func)}")
        return func(*args, **kwargs) if found is None else found


def _served(x_BCHW: Tensor, dx_BCHW: Tensor | None) -> bool:
    return dx_BCHW is not None and x_BCHW.ndim == 4 and x_BCHW.dtype in NAMES


def _passes(x_BCHW: Tensor) -> Passes:
    return (native_passes() if x_BCHW.device.type == "cpu" else None) or Passes()


def _last(x_BCHW: Tensor) -> Tensor:
    return x_BCHW.contiguous(memory_format=torch.channels_last)


def _convolve(
    x_BCHW: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor | None:
    (x_BCHW, dx_BCHW), (weight, d_weight) = forward_ad.unpack_dual(x_BCHW), forward_ad.unpack_dual(weight)
    growing = d_weight is not None and torch.equal(weight, d_weight)  # else it was computed from some weight
    if not _served(x_BCHW, dx_BCHW) or not growing or bias is not None or isinstance(padding, str):
        return None
    options = stride, padding, dilation, groups
    return forward_ad.make_dual(*_Convolution.apply(x_BCHW, dx_BCHW, weight, d_weight, options))


class _Convolution(torch.autograd.Function):
    """x, dx, w, dw (of w's values) and the options of F.conv2d to z, dz."""

    @staticmethod
    def forward(
        ctx: Any, x_BCHW: Tensor, dx_BCHW: Tensor, weight: Tensor, d_weight: Tensor, options: tuple[Any, ...]
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x_BCHW, dx_BCHW, weight)
        ctx.options = options
        z_BCHW = F.conv2d(x_BCHW, weight, None, *options)
        return z_BCHW, F.conv2d(dx_BCHW, weight, None, *options).add_(z_BCHW)

    @staticmethod
    def backward(ctx: Any, e_BCHW: Tensor, d_BCHW: Tensor) -> tuple[Tensor | None, ...]:
        x_BCHW, dx_BCHW, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.options

        def back(gradient_BCHW: Tensor, input_BCHW: Tensor, of_input: bool, of_weight: bool) -> tuple[Tensor, ...]:
            return aten.convolution_backward(
                gradient_BCHW, input_BCHW, weight, None, stride, padding, dilation, False, [0, 0], groups,
                [of_input, of_weight, False],
            )  # fmt: skip

        of_x_BCHW = back(e_BCHW + d_BCHW, x_BCHW, True, False)[0]
        of_dx_BCHW, of_weight, _ = back(d_BCHW, dx_BCHW, True, True)
        of_weight = of_weight + back(e_BCHW, x_BCHW, False, True)[1]
        return of_x_BCHW, of_dx_BCHW, of_weight, back(d_BCHW, x_BCHW, False, True)[1], None


def _normalise(
    x_BCHW: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    x_BCHW, dx_BCHW = forward_ad.unpack_dual(x_BCHW)
    if dx_BCHW is None:
        return F.batch_norm(x_BCHW, running_mean, running_var, weight, bias, training, momentum, eps)
    if not training or not _served(x_BCHW, dx_BCHW) or x_BCHW.numel() == x_BCHW.shape[1]:
        return None
    return forward_ad.make_dual(*_Normalisation.apply(x_BCHW, dx_BCHW, weight, bias, eps))


class _Normalisation(torch.autograd.Function):
    """x, dx, scale and shift, which are constants, to out, d_out."""

    @staticmethod
    def forward(
        ctx: Any, x_BCHW: Tensor, dx_BCHW: Tensor, scale: Tensor | None, shift: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor]:
        passes, x_BCHW, dx_BCHW = _passes(x_BCHW), _last(x_BCHW), _last(dx_BCHW)
        x_PC, dx_PC = rows(x_BCHW), rows(dx_BCHW)
        mean, var = passes.moments(x_PC)
        r = (var + eps).rsqrt()
        total, (product,), _ = passes.products(dx_PC, [x_PC], [])
        dx = total / len(x_PC)
        dx_y = (product / len(x_PC) - dx * mean) * r
        by = r if scale is None else r * scale
        slope = -by * dx_y * r
        out_BCHW, d_out_BCHW = torch.empty_like(x_BCHW), torch.empty_like(x_BCHW)
        constant = -by * mean
        passes.combine(rows(out_BCHW), [Term(x_PC, by)], constant if shift is None else constant + shift)
        passes.combine(rows(d_out_BCHW), [Term(dx_PC, by), Term(x_PC, slope)], -by * dx - slope * mean)
        ctx.save_for_backward(x_BCHW, dx_BCHW, scale)
        ctx.statistics = mean, r, dx, dx_y
        return out_BCHW, d_out_BCHW

    @staticmethod
    def backward(ctx: Any, e_BCHW: Tensor, d_BCHW: Tensor) -> tuple[Tensor | None, ...]:
        x_BCHW, dx_BCHW, scale = ctx.saved_tensors
        mean, r, dx, dx_y = ctx.statistics
        passes = _passes(x_BCHW)
        x_PC, dx_PC, e_PC, d_PC = (rows(_last(value)) for value in (x_BCHW, dx_BCHW, e_BCHW, d_BCHW))
        share = (torch.ones_like(mean) if scale is None else scale) / len(x_PC)
        total, (with_x,), _ = passes.products(e_PC, [x_PC], [])
        e = total * share
        e_y = (with_x * share - e * mean) * r
        total, (with_x, with_dx), _ = passes.products(d_PC, [x_PC, dx_PC], [])
        d = total * share
        d_y = (with_x * share - d * mean) * r
        d_dx = with_dx * share - d * dx - d_y * dx_y  # mean(dx P(d))
        by, square = r * share * len(x_PC), r.square()
        of_x_BCHW, of_dx_BCHW = torch.empty_like(x_BCHW), torch.empty_like(x_BCHW)
        slope = -square * d_y
        passes.combine(rows(of_dx_BCHW), [Term(d_PC, by), Term(x_PC, slope)], -r * d - slope * mean)
        slope = square * (r * (2 * d_y * dx_y - d_dx) - e_y)
        terms = [Term(e_PC, by), Term(x_PC, slope), Term(dx_PC, -square * d_y), Term(d_PC, -r * dx_y * by)]
        passes.combine(rows(of_x_BCHW), terms, square * (d_y * dx + dx_y * d) - r * e - slope * mean)
        return of_x_BCHW, of_dx_BCHW, None, None, None


def _pool(
    x_BCHW: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor | None:
    x_BCHW, dx_BCHW = forward_ad.unpack_dual(x_BCHW)
    options = kernel_size, stride, padding, count_include_pad, divisor_override
    if not _served(x_BCHW, dx_BCHW) or options != (3, 1, 1, False, None):
        return None
    return forward_ad.make_dual(_Mean.apply(x_BCHW), _Mean.apply(dx_BCHW))


class _Mean(torch.autograd.Function):
    """The 3x3 mean over the pixels inside the image."""

    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor) -> Tensor:
        return _passes(x_BCHW).pool(_last(x_BCHW)).div_(9)

    @staticmethod
    def backward(ctx: Any, e_BCHW: Tensor) -> Tensor:
        return _passes(e_BCHW).pool(_last(e_BCHW) / 9, transposed=True)


RULES: dict[Any, Callable[..., Tensor | None]] = {
    F.conv2d: _convolve,
    F.batch_norm: _normalise,
    F.avg_pool2d: _pool,
}
