"""Chains of inverted residuals: published sizes, and stabilised skips taken out."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from supernet.mobile_network import MobileNetwork, without_stabilisers
from supernet.size import NetworkSize
from supernet.spaces.mobile import Mobile

# (stages, stem, first, head, chain, parameters): the networks of arXiv:1812.00332 as public code defines them
# (pytorchcv's proxylessnas.py, which states these counts)
PUBLISHED = {
    "mobile": (
        [[32, 4, 2], [40, 4, 2], [80, 4, 2], [96, 4, 1], [192, 4, 2], [320, 1, 1]], 32, 16, 1280,
        "k5e3+k3e3+skip+skip+k7e3+k3e3+k5e3+k5e3+k7e6+k5e3+k5e3+k5e3+k5e6+k5e3+k5e3+k5e3+k7e6+k7e6+k7e3+k7e3+k7e6",
        4_080_512,
    ),
    "mobile14": (
        [[40, 4, 2], [56, 4, 2], [112, 4, 2], [136, 4, 1], [256, 4, 2], [448, 1, 1]], 48, 24, 1792,
        "k5e3+k3e3+skip+skip+k7e3+k3e3+k5e3+k5e3+k7e6+k5e3+k5e3+k5e3+k5e6+k5e3+k5e3+k5e3+k7e6+k7e6+k7e3+k7e3+k7e6",
        6_857_568,
    ),
    "cpu": (
        [[32, 4, 2], [48, 4, 2], [88, 4, 2], [104, 4, 1], [216, 4, 2], [360, 1, 1]], 40, 24, 1432,
        "k3e6+k3e3+k3e3+k3e3+k3e6+k3e3+k3e3+k5e3+k3e6+skip+skip+k3e3+k5e6+k3e3+k3e3+k3e3+k5e6+k5e3+k5e3+k3e3+k5e6",
        4_361_648,
    ),
    "gpu": (
        [[32, 4, 2], [56, 4, 2], [112, 4, 2], [128, 4, 1], [256, 4, 2], [432, 1, 1]], 40, 24, 1728,
        "k5e3+skip+skip+skip+k7e3+skip+skip+k3e3+k7e6+skip+skip+k5e3+k5e6+skip+k3e3+k5e3+k7e6+k7e6+k7e6+k5e6+k7e6",
        7_119_848,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_the_published_number_of_parameters(name: str) -> None:
    stages, stem, first, head, chain, params = PUBLISHED[name]
    space = Mobile(stages, stem, 2, first, head)
    assert space.cost(space.parse(chain), NetworkSize(16, 5, 1000, 3, 224)).params == params


def trained(network: nn.Module, seed: int) -> nn.Module:
    """Statistics, scales and shifts as training leaves them behind."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.5, 0.5), (module.running_var, 0.5, 2.0), (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
            ):  # fmt: skip
                assert tensor is not None
                tensor.data.uniform_(low, high, generator=generator)
    return network.eval()


@pytest.mark.parametrize("seed", range(6))
def test_stabilised_skips_are_taken_out_without_a_change_of_the_outputs(seed: int) -> None:
    torch.manual_seed(seed)
    space = Mobile([[12, 4, 1], [16, 4, 2]], 8, 1, 8, 32, stabilised=True)
    chain = "k3e3+skip+k5e3+skip+k3e6+skip+skip+k7e3" if seed == 0 else str(space.sample(random.Random(seed)))
    network = space.network(space.parse(chain), NetworkSize(1, 1, 5, 3, 16))
    images_BCHW = torch.randn(4, 3, 16, 16)
    before_BK = trained(network, seed)(images_BCHW)
    simple = network.simplified()
    torch.testing.assert_close(simple(images_BCHW), before_BK, rtol=1e-5, atol=1e-5)
    names = chain.split("+")
    assert [type(b).__name__ == "Identity" for b in simple.blocks] == [name == "skip" for name in names]  # type: ignore[union-attr]
    convolutions = [module for module in network.blocks if type(module) is nn.Conv2d]
    assert len(convolutions) == names.count("skip")


def test_a_stabiliser_that_cannot_be_inverted_is_named() -> None:
    space = Mobile([[12, 2, 1]], 8, 1, 8, 16, stabilised=True)
    network = trained(space.network(space.parse("k3e3+skip"), NetworkSize(1, 1, 5, 3, 8)), 0)
    assert isinstance(network, MobileNetwork)
    network.blocks[1].weight.data.zero_()  # type: ignore[operator, union-attr]
    with pytest.raises(ValueError, match="stabiliser of block 2"):
        without_stabilisers(network)
