"""The gradients of `supernet.fast_leaving`, whose module docstring has the formulas.

Shape suffixes: B batch, C channels, H height, W width, P pixels of all images, T targets of the node, S targets
that a convolution serves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from supernet.fast_parts import Normalised, Pool, rows
from supernet.leaving import Plan

aten = torch.ops.aten


class Backward:
    """One backward pass.

    Args:
        plan: what was computed.
        normed: statistics and folded scales of the convolutions.
        inputs: x, skip, pool, and four tensors a convolution, as the forward pass got them.
        outputs: of the convolutions.
        gradients: of every reached target.
        needed: which inputs need a gradient.
    """

    def __init__(
        self,
        plan: Plan,
        normed: Sequence[Normalised],
        inputs: Sequence[Tensor | None],
        outputs: Sequence[Tensor | None],
        gradients: Sequence[Tensor],
        needed: Sequence[bool],
    ) -> None:
        assert inputs[0] is not None
        self.plan, self.normed, self.outputs = plan, normed, outputs
        self.x_BCHW, self.skip_T, self.pool_T = inputs[0], inputs[1], inputs[2]
        self.weights, self.weights_T = inputs[3::4], inputs[4::4]
        self.need_x, self.need_skip, self.need_pool = needed[:3]
        self.need_weight, self.need_scale = needed[3::4], needed[4::4]
        self.wide = torch.promote_types(self.x_BCHW.dtype, torch.float32)
        self.x_PC = rows(self.x_BCHW)
        self.relu_BCHW = self.x_BCHW.relu() if normed else self.x_BCHW
        self.relu_PC = rows(self.relu_BCHW).to(self.wide)
        self.gradients = {
            target: rows(gradient.contiguous(memory_format=torch.channels_last)).to(self.wide)
            for target, gradient in zip(plan.reached, gradients, strict=True)
        }
        self.stacks: dict[tuple[int, ...], Tensor] = {}
        self.sums: dict[tuple[int, ...], Tensor] = {}
        self.pool = Pool(self.x_BCHW) if plan.pool else None

    def run(self) -> list[Tensor | None]:
        """The gradient of every input that needs one."""
        found: list[Tensor | None] = [None] * (3 + 4 * len(self.normed))
        if self.need_skip:
            found[1] = self._products(self.x_PC, self.plan.skip, self.skip_T)
        if self.pool is not None and self.need_pool:
            found[2] = self._products(rows(self.pool(self.x_BCHW)), self.plan.pool, self.pool_T) / 9
        d_relu_PC: Tensor | None = None
        for place, one in enumerate(self.normed):
            gradient_PS = self._stacked(one.conv.targets)
            through = self._through if one.matrix is None else self._through_matrix
            found[3 + 4 * place], found[4 + 4 * place], d_relu_PC = through(place, one, gradient_PS, d_relu_PC)
        if self.need_x:
            found[0] = self._through_x(d_relu_PC)
        return found

    def _stacked(self, targets: tuple[int, ...]) -> Tensor:
        """Gradients of some targets side by side, as a convolution's outputs stand: (P, S C)."""
        if targets not in self.stacks:
            self.stacks[targets] = torch.cat([self.gradients[target] for target in targets], dim=1)
        return self.stacks[targets]

    def _summed(self, targets: tuple[int, ...]) -> Tensor:
        """Their sums over pixels, (S C)."""
        if targets not in self.sums:
            self.sums[targets] = self._stacked(targets).sum(0)
        return self.sums[targets]

    def _spread(self, values: Tensor, targets: Sequence[int], like_T: Tensor | None) -> Tensor:
        """A gradient (T) that is zero where an operation is inactive."""
        assert like_T is not None
        values = values.to(like_T.dtype)
        if len(targets) == len(like_T):
            return values
        by_target = dict(zip(targets, values, strict=True))
        return torch.stack([by_target.get(target, values.new_zeros(())) for target in range(len(like_T))])

    def _products(self, value_PC: Tensor, targets: Sequence[int], like_T: Tensor | None) -> Tensor:
        """sum of G_t * value for every target."""
        flat = value_PC.to(self.wide).flatten()
        found = [torch.dot(self.gradients[target].flatten(), flat) for target in targets]
        return self._spread(torch.stack(found), targets, like_T)

    def _affine(self, one: Normalised, gradient_S: Tensor, h_S: Tensor) -> tuple[Tensor, Tensor]:
        """b and c of the output's gradient, for batch statistics."""
        b_S = h_S * one.inverse.square() * one.scale / -len(self.x_PC)
        return b_S, torch.addcmul(one.scale * gradient_S / -len(self.x_PC), b_S, one.mean, value=-1)

    def _scale_gradient(self, place: int, one: Normalised, h_S: Tensor) -> Tensor:
        by_target = (h_S * one.inverse).view(-1, one.channels).sum(1)
        return self._spread(by_target, one.conv.targets, self.weights_T[place])

    def _through(
        self, place: int, one: Normalised, gradient_PS: Tensor, d_relu_PC: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Through one large convolution: gradients of its weight, of its edge weights, and of relu(x) so far."""
        z_BCHW, weight = self.outputs[place], self.weights[place]
        assert z_BCHW is not None
        assert weight is not None
        z_PS = rows(z_BCHW).to(self.wide)
        need_weight, d_scale = self.need_weight[place], None
        if one.batch or self.need_scale[place]:
            gradient_S = self._summed(one.conv.targets)
            h_S = column_products(z_PS, gradient_PS, one.channels).addcmul_(one.mean, gradient_S, value=-1)
            if self.need_scale[place]:
                d_scale = self._scale_gradient(place, one, h_S)
        if not self.need_x and not need_weight:
            return None, d_scale, d_relu_PC
        if one.batch:
            b_S, c_S = self._affine(one, gradient_S, h_S)
            d_z_PS = torch.addcmul(c_S, z_PS, b_S).addcmul_(gradient_PS, one.scale)
        else:
            d_z_PS = gradient_PS * one.scale
        batch, _, height, width = z_BCHW.shape
        d_z_BCHW = d_z_PS.to(z_BCHW.dtype).view(batch, height, width, -1).permute(0, 3, 1, 2)
        padding = one.conv.kernel_size // 2
        d_relu_BCHW, d_weight, _ = aten.convolution_backward(
            d_z_BCHW, self.relu_BCHW, weight.to(z_BCHW.dtype), None, [1, 1], [padding, padding], [1, 1], False,
            [0, 0], 1, [self.need_x, need_weight, False],
        )  # fmt: skip
        if self.need_x:
            found_PC = rows(d_relu_BCHW).to(self.wide)
            d_relu_PC = found_PC if d_relu_PC is None else d_relu_PC.add_(found_PC)
        return d_weight.to(weight.dtype) if need_weight else None, d_scale, d_relu_PC

    def _through_matrix(
        self, place: int, one: Normalised, gradient_PS: Tensor, d_relu_PC: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """`_through` for a 1x1 convolution, from products with relu(x) alone."""
        weight, matrix = self.weights[place], one.matrix
        assert weight is not None
        assert matrix is not None
        need_weight, d_weight, d_scale = self.need_weight[place], None, None
        if one.batch or self.need_scale[place] or need_weight:
            gradient_S = self._summed(one.conv.targets)
            moments_SC = gradient_PS.T @ self.relu_PC  # sum over pixels of G (relu(x) - mu)^T
            if one.mu is not None:
                moments_SC = torch.addr(moments_SC, gradient_S, one.mu, alpha=-1)
            h_S = (moments_SC * matrix).sum(1)
            if one.mu is None:
                h_S = h_S.addcmul_(one.mean, gradient_S, value=-1)
            if self.need_scale[place]:
                d_scale = self._scale_gradient(place, one, h_S)
        if one.batch:
            b_S, c_S = self._affine(one, gradient_S, h_S)
        if need_weight:
            d_matrix = one.scale[:, None] * moments_SC
            if one.cov is not None:
                d_matrix = torch.addmm(d_matrix, b_S[:, None] * matrix, one.cov, alpha=len(self.x_PC))
            d_weight = d_matrix.to(weight.dtype)[:, :, None, None]
        if self.need_x:
            constant_C = c_S @ matrix if one.batch else matrix.new_zeros(self.x_PC.shape[1])
            found_PC = torch.addmm(constant_C, gradient_PS, one.scale[:, None] * matrix)
            if one.batch:
                found_PC.addmm_(self.relu_PC, matrix.T @ (b_S[:, None] * matrix))
            d_relu_PC = found_PC if d_relu_PC is None else d_relu_PC.add_(found_PC)
        return d_weight, d_scale, d_relu_PC

    def _through_x(self, d_relu_PC: Tensor | None) -> Tensor:
        """The gradient of x: through ReLU, identities and pooling."""
        d_x_BCHW = torch.empty_like(self.x_BCHW, dtype=self.wide)
        d_x_PC = rows(d_x_BCHW)
        if d_relu_PC is None:
            d_x_PC.zero_()
        else:
            aten.threshold_backward.grad_input(d_relu_PC, self.relu_PC, 0, grad_input=d_x_PC)
        for target in self.plan.skip:
            d_x_PC.addcmul_(self.gradients[target], self.skip_T[target])  # type: ignore[index]
        if self.pool is not None:
            first, *others = self.plan.pool
            pooled_PC = self.gradients[first] * self.pool_T[first]  # type: ignore[index]
            for target in others:
                pooled_PC.addcmul_(self.gradients[target], self.pool_T[target])  # type: ignore[index]
            batch, _, height, width = self.x_BCHW.shape
            pooled_BCHW = pooled_PC.to(self.x_BCHW.dtype).view(batch, height, width, -1).permute(0, 3, 1, 2)
            d_x_PC.add_(rows(self.pool.transposed_(pooled_BCHW)), alpha=1 / 9)
        return d_x_BCHW.to(self.x_BCHW.dtype)


def column_products(left_PS: Tensor, right_PS: Tensor, channels: int) -> Tensor:
    """sum over rows of left * right, by column: diagonals of small matrix products, which read everything once."""
    pairs = zip(left_PS.split(channels, dim=1), right_PS.split(channels, dim=1), strict=True)
    return torch.cat([(left_PC.T @ right_PC).diagonal() for left_PC, right_PC in pairs])
