from __future__ import annotations

import logging
import math
import random
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from supernet import operations
from supernet.cost import Cost, NetworkSize, count, genotype_cost, operation_cost
from supernet.discrete_network import DiscreteNetwork
from supernet.genotype import Genotype
from supernet.operations import register_operation
from supernet.shapes import of_shapes
from supernet.spaces.cells import NAS_BENCH_201, CellSpace

SPACE = CellSpace()
BENCHMARK = NetworkSize()
ODD = NetworkSize(channels=3, cells=2, num_classes=7, in_channels=2, image_size=9)
Counter = Callable[[nn.Module, NetworkSize], int]

# Multiply-adds by hand at C=16, N=5, 32x32. A 1x1 convolution costs pixels * channels^2, the same in every stage.
CONV_1X1 = 15 * 32**2 * 16**2
CONV_3X3 = 9 * CONV_1X1
STEM = 32**2 * 3 * 16 * 9
REDUCTION = 16**2 * (16 * 32 * 9 + 32 * 32 * 9 + 16 * 32)  # twice: half the pixels a side, double the channels
SKELETON = STEM + 2 * REDUCTION + 64 * 10
BY_OPERATION = dict(zip(NAS_BENCH_201, (0, 0, CONV_1X1, CONV_3X3, 0), strict=True))


@pytest.fixture(scope="module")
def fvcore_count() -> Counter:
    """Convolution and linear counts of fvcore, by tracing a network on one image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore's import uses torch.jit.script, which torch deprecates
        from fvcore.nn import FlopCountAnalysis
    logging.getLogger("fvcore").setLevel(logging.ERROR)

    def counted(network: nn.Module, size: NetworkSize) -> int:
        image = torch.zeros(1, size.in_channels, size.image_size, size.image_size)
        analysis = FlopCountAnalysis(network.eval(), image)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            by_operator = analysis.by_operator()
        return by_operator["conv"] + by_operator["linear"]

    return counted


@pytest.fixture
def registry() -> Iterator[None]:
    """The registry, put back afterwards."""
    before = dict(operations.OPERATIONS)
    yield
    operations.OPERATIONS.clear()
    operations.OPERATIONS.update(before)


def built(genotype: Genotype, size: NetworkSize) -> DiscreteNetwork:
    return DiscreteNetwork(genotype, size.channels, size.cells, size.num_classes, size.in_channels)


def trainable(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


# --- Parameters against the published table


def test_parameters_of_all_cells_equal_the_table(table_rows: list[dict[str, str]]) -> None:
    assert len(table_rows) == 15625
    wrong = {
        row["cell"]: (cost.params, row["params_cifar10"])
        for row in table_rows
        if (cost := genotype_cost(SPACE.parse(row["cell"]))).params != int(row["params_cifar10"])
    }
    assert not wrong


def test_parameters_of_built_networks_equal_the_table(table_rows: list[dict[str, str]]) -> None:
    for row in random.Random(201).sample(table_rows, 30):
        with torch.device("meta"):
            network = DiscreteNetwork(Genotype.parse(row["cell"]))
        assert trainable(network) == int(row["params_cifar10"]), row["cell"]


def test_parameters_of_built_networks_at_an_odd_size() -> None:
    rng = random.Random(0)
    for genotype in (SPACE.sample(rng) for _ in range(10)):
        assert genotype_cost(genotype, ODD).params == trainable(built(genotype, ODD))


# --- FLOPs against fvcore and by hand


@pytest.mark.parametrize(
    "cell",
    [
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        "|nor_conv_1x1~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|",
    ],
)
def test_flops_equal_fvcores_at_the_benchmarks_size(cell: str, fvcore_count: Counter) -> None:
    genotype = Genotype.parse(cell)
    assert genotype_cost(genotype).flops == fvcore_count(built(genotype, BENCHMARK), BENCHMARK)


def test_flops_equal_fvcores_at_an_odd_size(fvcore_count: Counter) -> None:
    rng = random.Random(1)
    for genotype in [Genotype((name,) * 6) for name in NAS_BENCH_201] + [SPACE.sample(rng) for _ in range(4)]:
        assert genotype_cost(genotype, ODD).flops == fvcore_count(built(genotype, ODD), ODD), str(genotype)


@pytest.mark.parametrize("num_nodes", [2, 3, 5])
def test_costs_of_other_node_counts(num_nodes: int, fvcore_count: Counter) -> None:
    genotype = CellSpace(num_nodes, ["nor_conv_1x1", "nor_conv_3x3", "none"]).sample(random.Random(num_nodes))
    network = built(genotype, ODD)
    assert genotype_cost(genotype, ODD) == Cost(trainable(network), fvcore_count(network, ODD))


def test_flops_of_all_cells_are_a_sum_over_edges_by_hand() -> None:
    """Edges that lead nowhere count too."""
    for genotype in SPACE:
        assert genotype_cost(genotype).flops == SKELETON + sum(BY_OPERATION[name] for name in genotype.operations)


@pytest.mark.parametrize(
    ("cell", "millions"),
    [
        ("|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|", 7.78),
        ("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|", 153.27),
        ("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|", 220.12),
    ],
)
def test_flops_as_the_benchmark_prints_them(cell: str, millions: float) -> None:
    assert round(genotype_cost(Genotype.parse(cell)).flops / 1e6, 2) == millions


@pytest.mark.parametrize("image_size", [1, 2, 3, 4, 5, 7, 8, 33])
def test_flops_of_small_and_odd_images_by_hand(image_size: int) -> None:
    """All 3x3 convolutions, C=2, N=1, 3 classes, grey images; sides round up at each reduction."""
    sides = [math.ceil(image_size / scale) for scale in (1, 2, 4)]
    cells = sum(side**2 * width**2 * 9 * 6 for side, width in zip(sides, (2, 4, 8), strict=True))
    stem = sides[0] ** 2 * 1 * 2 * 9
    reductions = sum(
        side**2 * (width * 2 * width * 9 + 4 * width**2 * 9 + width * 2 * width)
        for side, width in zip(sides[1:], (2, 4), strict=True)
    )
    size = NetworkSize(channels=2, cells=1, num_classes=3, in_channels=1, image_size=image_size)
    assert genotype_cost(Genotype(("nor_conv_3x3",) * 6), size).flops == cells + stem + reductions + 8 * 3


def test_cost_of_one_operation_by_hand() -> None:
    """The final network's normalisation has a scale and a shift a channel."""
    assert operation_cost("nor_conv_3x3", 4, 5) == Cost(params=4 * 4 * 9 + 2 * 4, flops=25 * 4 * 4 * 9)
    assert operation_cost("nor_conv_1x1", 4, 5) == Cost(params=4 * 4 + 2 * 4, flops=25 * 4 * 4)
    for free in ("none", "skip_connect", "avg_pool_3x3"):
        assert operation_cost(free, 4, 5) == Cost(0, 0)


def test_costs_add_and_multiply() -> None:
    assert Cost(1, 20) + Cost(300, 4000) == Cost(301, 4020)
    assert Cost(1, 20) * 3 == Cost(3, 60)


def test_the_default_size_is_the_benchmarks() -> None:
    assert NetworkSize(16, 5, 10, 3, 32) == BENCHMARK
    assert str(ODD) == "C=3, N=2, 9x9, 7 classes"


def test_a_registered_operation_is_counted_from_its_module(registry: None, fvcore_count: Counter) -> None:
    """Depthwise 3x3 with bias, 1x1, norm: 9 C + C + C^2 + 2 C parameters, 9 C + C^2 multiply-adds a pixel."""
    register_operation(
        "separable_of_test_cost",
        lambda channels, stride, norm: nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.Conv2d(channels, channels, 1, bias=False),
            norm(channels),
        ),
    )
    assert operation_cost("separable_of_test_cost", 6, 4) == Cost(54 + 6 + 36 + 12, 16 * (54 + 36))
    genotype = Genotype(("separable_of_test_cost", "none", "nor_conv_1x1"))
    network = built(genotype, ODD)
    assert genotype_cost(genotype, ODD) == Cost(trainable(network), fvcore_count(network, ODD))


class ChannelMixer(nn.Module):
    """A linear layer over the channels of every pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.linear(x_BCHW.movedim(1, -1)).movedim(-1, 1)


def test_a_linear_layer_inside_an_operation_counts_at_every_pixel(registry: None, fvcore_count: Counter) -> None:
    register_operation("mixer_of_test_cost", lambda channels, stride, norm: ChannelMixer(channels))
    assert operation_cost("mixer_of_test_cost", 6, 4) == Cost(36 + 6, 16 * 36)
    genotype = Genotype(("mixer_of_test_cost", "none", "none"))
    assert genotype_cost(genotype, ODD).flops == fvcore_count(built(genotype, ODD), ODD)


def test_any_module_is_counted_by_hand() -> None:
    """Biases are parameters and no multiply-adds; what is frozen is no trainable parameter."""
    module = nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5, bias=False)
    )
    assert count(module, 2, 4) == Cost(2 * 3 * 9 + 3 + 12 * 5, 4 * 2 * 3 * 9 + 12 * 5)
    module[0].requires_grad_(False)
    assert count(module, 2, 4) == Cost(12 * 5, 4 * 2 * 3 * 9 + 12 * 5)


# --- Expected cost of a relaxation


@pytest.mark.parametrize("cells", [1, 3])
def test_a_network_of_shapes_has_those_of_the_network_and_draws_nothing(cells: int) -> None:
    space, size = CellSpace(), NetworkSize(4, cells)
    network = space.supernet(size)
    before = torch.get_rng_state()
    shapes = of_shapes(lambda: space.supernet(size))
    assert {name: value.shape for name, value in shapes.state_dict().items()} == {
        name: value.shape for name, value in network.state_dict().items()
    }
    assert all(value.is_meta for value in shapes.state_dict().values())
    assert torch.equal(torch.get_rng_state(), before)
