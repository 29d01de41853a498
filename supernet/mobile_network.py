"""The network of a chain of inverted residuals.

Shape suffixes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import copy
import re

import torch
from torch import Tensor, nn

from supernet.alike import take_alike
from supernet.chain import ChainPlan, Place
from supernet.folding import folded
from supernet.genomes import Blocks
from supernet.norm import NormFactory, norm_factory
from supernet.size import NetworkSize

WORST = 1e7  # condition of a stabiliser that can still be taken out


def conv(
    channels_in: int, channels: int, kernel: int, stride: int, norm: NormFactory, groups: int = 1
) -> list[nn.Module]:
    """A convolution without bias, and its normalisation."""
    convolution = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, norm(channels)]


class InvertedResidual(nn.Module):
    """1x1 convolution to more channels, depthwise convolution, 1x1 convolution back (Sandler et al. 2018,
    arXiv:1801.04381, figure 3), and the input added where the shape stays."""

    def __init__(self, place: Place, kernel: int, expansion: int, norm: NormFactory) -> None:
        super().__init__()
        inner = place.channels_in * expansion
        self.residual = place.residual
        self.expand = (
            nn.Sequential(*conv(place.channels_in, inner, 1, 1, norm), nn.ReLU6()) if expansion > 1 else nn.Identity()
        )
        self.depthwise = nn.Sequential(*conv(inner, inner, kernel, place.stride, norm, groups=inner), nn.ReLU6())
        self.project = nn.Sequential(*conv(inner, place.channels, 1, 1, norm))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.project(self.depthwise(self.expand(x_BCHW)))
        return x_BCHW + y_BCHW if self.residual else y_BCHW


def block(name: str, place: Place, norm: NormFactory, stabilised: bool) -> nn.Module:
    """By name: ``k5e3``, or ``skip``."""
    if name == "skip":
        return nn.Conv2d(place.channels, place.channels, 1, bias=False) if stabilised else nn.Identity()
    kernel, expansion = map(int, re.findall(r"\d+", name))
    return InvertedResidual(place, kernel, expansion, norm)


class Chain(nn.Module):
    """What all chains share: the stem, the fixed block, what comes after the blocks."""

    def __init__(self, plan: ChainPlan, size: NetworkSize, norm: NormFactory) -> None:
        super().__init__()
        self.plan = plan
        self.stem = nn.Sequential(*conv(size.in_channels, plan.stem, 3, plan.stem_stride, norm), nn.ReLU6())
        plain = Place(plan.stem, plan.first, 1)
        self.first = InvertedResidual(plain, 3, 1, norm)
        self.first.residual = False
        self.head = nn.Sequential(*conv(plan.stages[-1][0], plan.head, 1, 1, norm), nn.ReLU6())
        self.classifier = nn.Linear(plan.head, size.num_classes)

    def begun(self, x_BCHW: Tensor) -> Tensor:
        """What the blocks get."""
        y_BCHW: Tensor = self.first(self.stem(x_BCHW))
        return y_BCHW

    def ended(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of what the blocks give."""
        logits_BK: Tensor = self.classifier(self.head(x_BCHW).mean(dim=(2, 3)))
        return logits_BK


class MobileNetwork(Chain):
    """Of one genotype.

    Args:
        genotype: names of the blocks.
        plan: the chain.
        size: inputs and classes; its channels and cells say nothing here.
        batch_norm: see `supernet.norm`.
        affine: scale and shift in the normalisations.
    """

    def __init__(
        self, genotype: Blocks, plan: ChainPlan, size: NetworkSize, batch_norm: str = "running", affine: bool = True
    ) -> None:
        norm = norm_factory(batch_norm, affine)
        super().__init__(plan, size, norm)
        self.genotype = genotype
        self.blocks = nn.ModuleList(
            block(name, place, norm, plan.stabilised) for name, place in zip(genotype.names, plan.places, strict=True)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K)."""
        x_BCHW = self.begun(x_BCHW)
        for layer in self.blocks:
            x_BCHW = layer(x_BCHW)
        return self.ended(x_BCHW)

    def inherit(self, parent: MobileNetwork) -> None:
        """Copy the tensors of another network that have the same place and shape here, of blocks with the same name."""
        pairs = enumerate(zip(self.genotype.names, parent.genotype.names, strict=True))
        take_alike(self, parent, {f"blocks.{place}." for place, (one, other) in pairs if one != other})

    def simplified(self) -> nn.Module:
        """A copy for use, in evaluation mode: normalisations folded, and stabilisers taken out."""
        network = folded(self)
        return without_stabilisers(network) if self.plan.stabilised else network  # type: ignore[arg-type]


@torch.no_grad()
def without_stabilisers(network: MobileNetwork) -> MobileNetwork:
    """A copy of a folded network whose left out blocks are identities, with the same outputs.

    A stabiliser maps the values of a stage by a matrix M. They stay as they were before it, and what reads them gets M
    into its first convolution: the next stage's first block, or the head. Blocks in between, which add to the values,
    add M^-1 of what they did.

    Raises:
        ValueError: a stabiliser that cannot be inverted in these numbers.
    """
    network = copy.deepcopy(network)
    matrix_CC: Tensor | None = None
    for number, (layer, place) in enumerate(zip(list(network.blocks), network.plan.places, strict=True)):
        if isinstance(layer, nn.Conv2d):
            own_CC = layer.weight[:, :, 0, 0].double()
            matrix_CC = own_CC if matrix_CC is None else own_CC @ matrix_CC
            if not torch.linalg.cond(matrix_CC) <= WORST:
                raise ValueError(f"the stabiliser of block {number + 1} cannot be inverted; retrain the network")
            network.blocks[number] = nn.Identity()
        elif matrix_CC is not None and isinstance(layer, InvertedResidual):
            _read(layer.expand[0], matrix_CC)  # type: ignore[index, arg-type]
            if place.residual:
                last: nn.Conv2d = layer.project[0]  # type: ignore[assignment]
                rows = last.weight[:, :, 0, 0].double()
                last.weight.copy_(torch.linalg.solve(matrix_CC, rows)[:, :, None, None].to(last.weight.dtype))
                assert last.bias is not None, "folded"
                last.bias.copy_(torch.linalg.solve(matrix_CC, last.bias.double()).to(last.bias.dtype))
            else:
                matrix_CC = None
    if matrix_CC is not None:
        _read(network.head[0], matrix_CC)  # type: ignore[arg-type]
    return network


def _read(convolution: nn.Conv2d, matrix_CC: Tensor) -> None:
    """Let a 1x1 convolution read its inputs through a matrix."""
    weight = convolution.weight[:, :, 0, 0].double() @ matrix_CC
    convolution.weight.copy_(weight[:, :, None, None].to(convolution.weight.dtype))
