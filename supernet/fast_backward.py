"""The gradients of `supernet.fast_leaving`, whose module docstring has the formulas.

Shape suffixes: B batch, C channels, H height, W width, P pixels of all images, T targets of the node, S targets
that a convolution serves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from supernet.leaving import Plan
from supernet.normalised import Normalised
from supernet.passes import Passes, Term, images, rows

aten = torch.ops.aten


class Backward:
    """One backward pass.

    Args:
        plan: what was computed.
        passes: what computes over pixels.
        normed: statistics and folded scales of the convolutions.
        inputs: x, skip, pool, and four tensors a convolution, as the forward pass got them.
        outputs: of the convolutions.
        gradients: of every reached target.
        needed: which inputs need a gradient.
    """

    def __init__(
        self,
        plan: Plan,
        passes: Passes,
        normed: Sequence[Normalised],
        inputs: Sequence[Tensor | None],
        outputs: Sequence[Tensor | None],
        gradients: Sequence[Tensor],
        needed: Sequence[bool],
    ) -> None:
        assert inputs[0] is not None
        self.plan, self.passes, self.normed, self.outputs = plan, passes, normed, outputs
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
        self.sums: dict[int, Tensor] = {}  # by target: sum of G
        self.products: dict[tuple[int, int], Tensor] = {}  # by target and convolution: sum of G z
        self.terms: list[Term] = []  # of the gradient of relu(x)

    def run(self) -> list[Tensor | None]:
        """The gradient of every input that needs one."""
        found: list[Tensor | None] = [None] * (3 + 4 * len(self.normed))
        found[1], found[2] = self._reduce()
        constant_C = None
        for place, one in enumerate(self.normed):
            through = self._through if one.matrix is None else self._through_matrix
            found[3 + 4 * place], found[4 + 4 * place], constant = through(place, one)
            if constant is not None:
                constant_C = constant if constant_C is None else constant_C + constant
        if self.need_x:
            found[0] = self._through_x(constant_C)
        return found

    def _reduce(self) -> tuple[Tensor | None, Tensor | None]:
        """Sums over pixels, and the gradients of skip and pool that are among them."""
        skip: dict[int, Tensor] = {}
        pool: dict[int, Tensor] = {}
        pool_PC = rows(self.passes.pool(self.x_BCHW)) if self.need_pool and self.plan.pool else self.x_PC
        for target, gradient_PC in self.gradients.items():
            served = [  # by a convolution whose statistics or scales ask for sums
                (place, one, columns)
                for place, one in enumerate(self.normed)
                if (columns := one.columns(target)) is not None
                and (one.batch or self.need_scale[place] or (one.matrix is not None and self.need_weight[place]))
            ]
            large = [
                (place, rows(z)[:, columns]) for place, _, columns in served if (z := self.outputs[place]) is not None
            ]
            whole = [(skip, self.x_PC)] if self.need_skip and target in self.plan.skip else []
            if self.need_pool and target in self.plan.pool:
                whole.append((pool, pool_PC))
            if served or whole:
                self.sums[target], by_channel, totals = self.passes.products(
                    gradient_PC, [z_PC for _, z_PC in large], [value_PC for _, value_PC in whole]
                )
                for (place, _), product_C in zip(large, by_channel, strict=True):
                    self.products[target, place] = product_C
                for (kind, _), total in zip(whole, totals, strict=True):
                    kind[target] = total
        skip_T = self._spread(skip, self.skip_T) if self.need_skip else None
        return skip_T, self._spread(pool, self.pool_T) / 9 if self.need_pool else None

    def _spread(self, values: dict[int, Tensor], like_T: Tensor | None) -> Tensor:
        """A gradient (T) that is zero where an operation is inactive."""
        assert like_T is not None
        zero = like_T.new_zeros(())
        return torch.stack([values[t].to(zero) if t in values else zero for t in range(len(like_T))])

    def _affine(self, one: Normalised, gradient_S: Tensor, h_S: Tensor) -> tuple[Tensor, Tensor]:
        """b and c of the output's gradient, for batch statistics."""
        b_S = h_S * one.inverse.square() * one.scale / -len(self.x_PC)
        return b_S, torch.addcmul(one.scale * gradient_S / -len(self.x_PC), b_S, one.mean, value=-1)

    def _scale_gradient(self, place: int, one: Normalised, h_S: Tensor) -> Tensor:
        by_target = (h_S * one.inverse).view(-1, one.channels).sum(1)
        return self._spread(dict(zip(one.conv.targets, by_target, strict=True)), self.weights_T[place])

    def _through(self, place: int, one: Normalised) -> tuple[Tensor | None, Tensor | None, None]:
        """Through one large convolution: gradients of its weight and of its edge weights; adds to those of relu(x)."""
        z_BCHW, weight = self.outputs[place], self.weights[place]
        assert z_BCHW is not None
        assert weight is not None
        targets, need_weight = one.conv.targets, self.need_weight[place]
        if one.batch or self.need_scale[place]:
            gradient_S = torch.cat([self.sums[target] for target in targets])
            h_S = torch.cat([self.products[target, place] for target in targets])
            h_S = torch.addcmul(h_S, one.mean, gradient_S, value=-1)
        d_scale = self._scale_gradient(place, one, h_S) if self.need_scale[place] else None
        if not self.need_x and not need_weight:
            return None, d_scale, None
        b_S, c_S = self._affine(one, gradient_S, h_S) if one.batch else (None, None)
        z_PS = rows(z_BCHW)
        d_z_PS = torch.empty_like(z_PS, dtype=self.wide)
        for target in targets:
            columns = one.columns(target)
            terms = [Term(self.gradients[target], one.scale[columns])]
            if b_S is not None:
                terms.append(Term(z_PS[:, columns], b_S[columns]))
            self.passes.combine(d_z_PS[:, columns], terms, None if c_S is None else c_S[columns])
        padding = one.conv.kernel_size // 2
        d_relu_BCHW, d_weight, _ = aten.convolution_backward(
            images(d_z_PS.to(z_BCHW.dtype), z_BCHW), self.relu_BCHW, weight.to(z_BCHW.dtype), None, [1, 1],
            [padding, padding], [1, 1], False, [0, 0], 1, [self.need_x, need_weight, False],
        )  # fmt: skip
        if self.need_x:
            self.terms.append(Term(rows(d_relu_BCHW), one.scale.new_ones(())))
        return d_weight.to(weight.dtype) if need_weight else None, d_scale, None

    def _through_matrix(self, place: int, one: Normalised) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """`_through` for a 1x1 convolution, from products with relu(x) alone; also a constant of relu(x)'s gradient."""
        weight, matrix, targets = self.weights[place], one.matrix, one.conv.targets
        assert weight is not None
        assert matrix is not None
        need_weight, d_weight, d_scale, constant_C = self.need_weight[place], None, None, None
        if one.batch or self.need_scale[place] or need_weight:
            gradient_S = torch.cat([self.sums[target] for target in targets])
            moments_SC = torch.cat([self.passes.gram(self.gradients[target], self.relu_PC) for target in targets])
            if one.mu is not None:  # sum over pixels of G (relu(x) - mu)^T
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
            scaled_SC = one.scale[:, None] * matrix
            self.terms += [Term(self.gradients[target], scaled_SC[one.columns(target)]) for target in targets]
            if one.batch:
                self.terms.append(Term(self.relu_PC, matrix.T @ (b_S[:, None] * matrix)))
                constant_C = c_S @ matrix
        return d_weight, d_scale, constant_C

    def _through_x(self, constant_C: Tensor | None) -> Tensor:
        """The gradient of x: through ReLU, identities and pooling."""
        d_x_BCHW = torch.empty_like(self.x_BCHW, dtype=self.wide)
        after = [Term(self.gradients[t], self.skip_T[t].to(self.wide)) for t in self.plan.skip]  # type: ignore[index]
        if self.plan.pool:
            pooled_BCHW = torch.empty_like(d_x_BCHW)
            shares = [Term(self.gradients[t], self.pool_T[t].to(self.wide)) for t in self.plan.pool]  # type: ignore[index]
            self.passes.combine(rows(pooled_BCHW), shares)
            pooled_PC = rows(self.passes.pool(pooled_BCHW.to(self.x_BCHW.dtype), transposed=True))
            after.append(Term(pooled_PC, d_x_BCHW.new_tensor(1 / 9)))
        self.passes.combine(rows(d_x_BCHW), self.terms, constant_C, self.relu_PC if self.terms else None, after)
        return d_x_BCHW.to(self.x_BCHW.dtype)
