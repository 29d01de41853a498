"""Parameters and FLOPs of operations, edges and whole networks, from shapes alone.

FLOPs are multiply-adds of convolutions and linear layers (NAS-Bench-201's convention, and fvcore's count of
those operators). A module is counted once for a number of channels and an image size, on torch's meta device,
so nothing is computed; a cell's cost is the sum over its edges.
"""

from __future__ import annotations

import copy
from functools import cache, lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from supernet.genotype import Genotype
from supernet.norm import norm_factory
from supernet.operations import build_operation
from supernet.shapes import of_shapes
from supernet.size import Cost, NetworkSize
from supernet.skeleton import Skeleton


def count(module: nn.Module, in_channels: int, image_size: int) -> Cost:
    """Cost of a module on one square image, found by a pass without arithmetic."""
    return _counted(copy.deepcopy(module).to("meta"), (in_channels, image_size, image_size))


class Networks(Protocol):
    """A space, as far as costs go."""

    takes: str

    def network(self, genotype: Any, size: NetworkSize) -> nn.Module:
        """Of a genotype."""

    def __hash__(self) -> int: ...


@lru_cache(10_000)
def network_cost(space: Networks, genotype: Any, size: NetworkSize) -> Cost:
    """Cost of a genotype's network, which is made of shapes alone."""
    return _counted(of_shapes(lambda: space.network(genotype, size)), size.input_shape(space.takes, 1)[1:])


def _same(x: Tensor) -> Tensor:
    return x


def _counted(module: nn.Module, shape: tuple[int, ...]) -> Cost:
    """Of a module on the meta device, which is of no use afterwards."""
    flops = 0

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal flops
        weight = layer.weight
        assert isinstance(weight, Tensor)
        outputs = output.shape[-1] if isinstance(layer, nn.Linear) else output.shape[1]
        flops += output.numel() // outputs * weight.numel() // len(output)

    def add_steps(layer: nn.RNNBase, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
        nonlocal flops
        flops += outputs[0].shape[1] * sum(value.numel() for value in layer.parameters() if value.dim() == 2)

    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.forward = _same  # type: ignore[method-assign, assignment]  # changes no shape, and takes long
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(add)
        elif isinstance(layer, nn.RNNBase):
            layer.register_forward_hook(add_steps)
    module(torch.empty(2, *shape, device="meta"))
    return Cost(sum(p.numel() for p in module.parameters() if p.requires_grad), flops)


@cache
def operation_cost(name: str, channels: int, image_size: int) -> Cost:
    """Cost of one candidate operation on one edge of one cell, with the final network's normalisation."""
    with torch.random.fork_rng(devices=[]):  # initial weights draw from torch's generator and are thrown away
        module = build_operation(name, channels, 1, norm_factory("batch", affine=True))
    return count(module, channels, image_size)


@cache
def edge_cost(name: str, size: NetworkSize) -> Cost:
    """Cost of choosing an operation for one edge, summed over all cells of the network."""
    cost, image = Cost(), size.image_size
    for stage in range(3):
        cost += operation_cost(name, size.channels * 2**stage, image) * size.cells
        image = (image + 1) // 2
    return cost


@cache
def skeleton_cost(size: NetworkSize) -> Cost:
    """Cost of everything outside the cells: stem, reductions, last normalisation, classifier."""

    class Empty(Skeleton):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            return self.run(x_BCHW, lambda cell, value_BCHW: value_BCHW)

    with torch.random.fork_rng(devices=[]):
        network = Empty(lambda width: nn.Identity(), size.channels, 1, size.num_classes, size.in_channels, "batch")
    return count(network, size.in_channels, size.image_size)


def genotype_cost(genotype: Genotype, size: NetworkSize | None = None) -> Cost:
    """Cost of the network of one cell; edges that lead nowhere count, as in the benchmark's own numbers."""
    size = size or NetworkSize()
    total = skeleton_cost(size)
    for *_, name in genotype.connections:
        total += edge_cost(name, size)
    return total
