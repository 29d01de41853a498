"""Training-free scores of a network, from one batch at its initial weights. More is better.

Weights are those of convolutions and linear layers; weights that the loss does not reach count nothing.

Shape suffixes: B batch, C channels, H height, W width, U units of all rectifiers, D values of an image.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.cost import count
from supernet.tangents import gradients_and_products


class Probe:
    """A network and a batch; passes that several scores need are made once, when one asks for them.

    Args:
        network: from images to logits; in training mode, so that normalisation uses the batch.
        images_BCHW, labels_B: the batch, at least four images.
        loss: mean over a batch, of outputs and labels.
    """

    def __init__(
        self,
        network: nn.Module,
        images_BCHW: Tensor,
        labels_B: Tensor,
        loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    ) -> None:
        self.network, self.images_BCHW, self.labels_B, self.loss = network, images_BCHW, labels_B, loss
        self.weights = [layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]

    @cached_property
    def forward(self) -> tuple[Tensor, Tensor]:
        """Images that ask for gradients, and their logits."""
        images_BCHW = self.images_BCHW.clone().requires_grad_()
        return images_BCHW, self.network(images_BCHW)

    @cached_property
    def agreeing(self) -> Tensor:
        """How many rectifiers are on, or off, for both of a pair of images: (B, B)."""
        agreeing_BB = torch.zeros(2 * (len(self.images_BCHW),), dtype=torch.float64, device=self.images_BCHW.device)

        def agree(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            on_BU = (output.detach() > 0).flatten(1).float()
            agreeing_BB.add_(on_BU @ on_BU.T + (1 - on_BU) @ (1 - on_BU).T)

        handles = [layer.register_forward_hook(agree) for layer in self.network.modules() if isinstance(layer, nn.ReLU)]
        with torch.no_grad():
            self.network(self.images_BCHW)
        for handle in handles:
            handle.remove()
        return agreeing_BB

    @cached_property
    def gradients(self) -> list[Tensor]:
        """Of the mean loss, by weight."""
        return self.gradients_of(self.loss(self.forward[1], self.labels_B), retain_graph=True)

    def gradients_of(self, value: Tensor, retain_graph: bool = False, create_graph: bool = False) -> list[Tensor]:
        """Gradients by weight, zero where there is none."""
        found = torch.autograd.grad(
            value, self.weights, retain_graph=retain_graph or create_graph, create_graph=create_graph,
            allow_unused=True, materialize_grads=True,
        )  # fmt: skip
        return list(found)


def _total(values: Sequence[Tensor]) -> float:
    return float(torch.stack([value.detach().double() for value in values]).sum())


def naswot(probe: Probe) -> float:
    """log |det K| of the kernel of agreeing rectifiers (Mellor et al. 2021, arXiv:2006.04647, section 3)."""
    return float(torch.linalg.slogdet(probe.agreeing)[1])


def jacobian_covariance(probe: Probe) -> float:
    """-sum log(v + k) + 1 / (v + k) over eigenvalues v of the correlations between the images' gradients of the summed
    logits, k = 1e-5 (the first version of arXiv:2006.04647; Abdelfattah et al. 2021, arXiv:2101.08134)."""
    images_BCHW, logits_BK = probe.forward
    (jacobian_BCHW,) = torch.autograd.grad(
        logits_BK.sum(), images_BCHW, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    correlations_BB = torch.corrcoef(jacobian_BCHW.flatten(1).double())
    if not correlations_BB.isfinite().all():  # an image whose gradient is constant: nothing reaches the logits
        return math.nan
    values = torch.linalg.eigvalsh(correlations_BB) + 1e-5
    return float(-(values.log() + 1 / values).sum())


def gradient_norm(probe: Probe) -> float:
    """Sum over weights of the 2-norms of their gradients (arXiv:2101.08134, section 3.1)."""
    return _total([gradient.norm() for gradient in probe.gradients])


def snip(probe: Probe) -> float:
    """Sum of |weight * gradient| (Lee et al. 2019, arXiv:1810.02340; as a score arXiv:2101.08134)."""
    pairs = zip(probe.weights, probe.gradients, strict=True)
    return _total([(weight.detach() * gradient).abs().sum() for weight, gradient in pairs])


def grasp(probe: Probe) -> float:
    """-sum of weight * (H gradient), H the Hessian of the loss (Wang et al. 2020, arXiv:2002.07376, equation 8; as a
    score arXiv:2101.08134)."""
    try:
        pairs = gradients_and_products(
            probe.network,
            probe.weights,
            probe.images_BCHW,
            lambda logits_BK: probe.loss(logits_BK, probe.labels_B),
        )
    except NotImplementedError:
        return grasp_plainly(probe)
    return _total([-(gradient * product).sum() for gradient, product in zip(*pairs, strict=True)])


def grasp_plainly(probe: Probe) -> float:
    """`grasp` of any network, by differentiating the gradient: several times slower."""
    loss = probe.loss(probe.network(probe.images_BCHW), probe.labels_B)
    gradients = probe.gradients_of(loss, create_graph=True)
    products = probe.gradients_of(torch.stack([(gradient.detach() * gradient).sum() for gradient in gradients]).sum())
    return _total([-(w.detach() * product).sum() for w, product in zip(probe.weights, products, strict=True)])


def synflow(probe: Probe) -> float:
    """log(1 + sum of |weight * gradient|) of the summed logits, with absolute weights, no normalisation and an image of
    ones (Tanaka et al. 2020, arXiv:2006.05467, equation 1; in float64, for it grows exponentially with depth)."""
    network = copy.deepcopy(probe.network).double()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    ones = Probe(network, torch.ones_like(probe.images_BCHW[:1], dtype=torch.float64), probe.labels_B[:1])
    gradients = ones.gradients_of(network(ones.images_BCHW).sum())
    return math.log1p(_total([(w * g).abs().sum() for w, g in zip(ones.weights, gradients, strict=True)]))


def zico(probe: Probe) -> float:
    """Sum over layers of log sum |mean gradient| / its deviation over two halves of the batch (Li et al. 2023,
    arXiv:2301.11300, equation 12: mean of absolute values); layers without a gradient count nothing."""
    halves = zip(probe.images_BCHW.chunk(2), probe.labels_B.chunk(2), strict=True)
    found = [probe.gradients_of(probe.loss(probe.network(images), labels)) for images, labels in halves]
    score = 0.0
    for first, second in zip(*found, strict=True):
        mean, deviation = (first.abs() + second.abs()) / 2, (first - second).abs() / 2
        varying = deviation > 0
        if varying.any():
            score += math.log(float((mean[varying] / deviation[varying]).double().sum()))
    return score


def params(probe: Probe) -> float:
    """Number of parameters."""
    return float(sum(parameter.numel() for parameter in probe.network.parameters()))


def flops(probe: Probe) -> float:
    """Multiply-adds of an image."""
    return float(count(probe.network, probe.images_BCHW.shape[1], probe.images_BCHW.shape[2]).flops)


PROXIES: dict[str, Callable[[Probe], float]] = {
    proxy.__name__: proxy
    for proxy in (naswot, jacobian_covariance, gradient_norm, snip, grasp, synflow, zico, params, flops)
}
