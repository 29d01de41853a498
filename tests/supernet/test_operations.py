"""Outputs worked out by hand on 3x3 and 4x4 images.

Normalisations are in evaluation mode with running mean 1 and a variance whose root (with eps) is 2, so they read
(x - 1) / 2: every expected number is exact.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from supernet import operations
from supernet.convolution import Strided1x1, convolution
from supernet.discrete_network import DiscreteNetwork
from supernet.genotype import Genotype
from supernet.norm import norm_factory
from supernet.operations import build_operation, register_operation
from supernet.skeleton import ResidualReduction

COUNT_3X3 = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]
SIGNED_3X3 = [[-1.0, 2.0, -3.0], [4.0, -5.0, 6.0], [-7.0, 8.0, -9.0]]
CORNERS_3X3 = [[1.0, -9.0, -9.0], [-9.0, 10.0, -9.0], [-9.0, -9.0, -9.0]]  # after ReLU: 1 in a corner, 10 in the middle


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)


@pytest.fixture
def registry() -> Iterator[dict[str, operations.Builder]]:
    """The registry, put back afterwards."""
    before = dict(operations.OPERATIONS)
    yield operations.OPERATIONS
    operations.OPERATIONS.clear()
    operations.OPERATIONS.update(before)


def image(*channels: list[list[float]]) -> Tensor:
    return torch.tensor([channels])


def halve_after_one(module: nn.Module) -> nn.Module:
    """Make every normalisation (x - 1) / 2."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.fill_(1.0)
            norm.running_var.fill_(4.0 - norm.eps)
    return module.eval()


def built(name: str, channels: int = 1, weight: list | None = None, affine: bool = False) -> nn.Module:
    """An operation with a hand-set kernel and normalisation."""
    module = halve_after_one(build_operation(name, channels, 1, norm_factory("running", affine=affine)))
    if weight is not None:
        [kernel] = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
        assert kernel.bias is None
        kernel.weight.data.copy_(torch.tensor(weight))
    return module


def test_none_is_zero_everywhere() -> None:
    x = image(SIGNED_3X3, COUNT_3X3)
    out = built("none", 2)(x)
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    assert out.count_nonzero() == 0
    assert built("none")(image([[torch.inf, torch.nan]])).count_nonzero() == 0  # not the input times zero


def test_skip_connect_is_the_identity_also_for_negative_values() -> None:
    x = image(SIGNED_3X3)
    assert torch.equal(built("skip_connect")(x), x)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        # corners see 4 pixels, sides 6, the middle 9; padding is not counted
        (COUNT_3X3, [[3.0, 3.5, 4.0], [4.5, 5.0, 5.5], [6.0, 6.5, 7.0]]),
        # no ReLU: (-1 + 2 + 4 - 5) / 4 = 0 where ReLU would give 1.5
        (SIGNED_3X3, [[0.0, 0.5, 0.0], [1 / 6, -5 / 9, -1 / 6], [0.0, -0.5, 0.0]]),
    ],
)
def test_avg_pool_counts_no_padding_and_applies_no_relu(x: list[list[float]], expected: list[list[float]]) -> None:
    module = built("avg_pool_3x3")
    torch.testing.assert_close(module(image(x)), image(expected), rtol=1e-14, atol=1e-15)
    assert not list(module.parameters())


def test_conv_1x1_applies_relu_first_then_the_kernel_then_the_norm() -> None:
    # ReLU: [[0, 2, 0], [4, 0, 6], [0, 8, 0]]; times -3: [[0, -6, 0], [-12, 0, -18], [0, -24, 0]]; then (x - 1) / 2
    expected = [[-0.5, -3.5, -0.5], [-6.5, -0.5, -9.5], [-0.5, -12.5, -0.5]]
    assert torch.equal(built("nor_conv_1x1", weight=[[[[-3.0]]]])(image(SIGNED_3X3)), image(expected))


def test_conv_1x1_mixes_channels_pixel_by_pixel() -> None:
    # out_0 = relu(a) + 10 relu(b), out_1 = -relu(a), at a = (-1, 2), b = (3, -4)
    module = built("nor_conv_1x1", 2, weight=[[[[1.0]], [[10.0]]], [[[-1.0]], [[0.0]]]])
    out = module(image([[-1.0, 2.0]], [[3.0, -4.0]]))
    assert torch.equal(out, image([[14.5, 0.5]], [[-0.5, -1.5]]))


def test_conv_3x3_pads_with_zeros_after_relu() -> None:
    # With kernel 1..9 a pixel of value v paints v times the kernel turned by 180 degrees, cut off at the border:
    # the corner [[5, 4, 0], [2, 1, 0], [0, 0, 0]] and ten times the middle [[9, 8, 7], [6, 5, 4], [3, 2, 1]].
    painted = [[95.0, 84.0, 70.0], [62.0, 51.0, 40.0], [30.0, 20.0, 10.0]]
    expected = [[(value - 1) / 2 for value in row] for row in painted]
    assert torch.equal(built("nor_conv_3x3", weight=[[COUNT_3X3]])(image(CORNERS_3X3)), image(expected))


def test_conv_3x3_keeps_negative_outputs() -> None:
    out = built("nor_conv_3x3", weight=[[[[0.0] * 3, [0.0, -2.0, 0.0], [0.0] * 3]]])(image(SIGNED_3X3))
    assert torch.equal(out, image([[-0.5, -2.5, -0.5], [-4.5, -0.5, -6.5], [-0.5, -8.5, -0.5]]))


@pytest.mark.parametrize("mode", ["batch", "running"])
def test_training_normalises_with_the_mean_and_biased_variance_of_the_batch(mode: str) -> None:
    # ReLU of [[-5, 2], [4, -1]] is 0, 2, 4, 0: mean 3/2, biased variance (9 + 1 + 25 + 9) / 4 / 4 = 11/4
    module = build_operation("nor_conv_1x1", 1, 1, norm_factory(mode, affine=False))
    next(module.parameters()).data.fill_(1.0)
    expected = (torch.tensor([[0.0, 2.0], [4.0, 0.0]]) - 1.5) / (2.75 + 1e-5) ** 0.5
    out = module.train()(image([[-5.0, 2.0], [4.0, -1.0]]))
    torch.testing.assert_close(out[0, 0], expected, rtol=1e-12, atol=1e-12)
    statistics = dict(module.named_buffers())
    if mode == "running":  # 0.9 old + 0.1 new, the variance unbiased: 11/3
        [mean] = [value for name, value in statistics.items() if name.endswith("running_mean")]
        [var] = [value for name, value in statistics.items() if name.endswith("running_var")]
        torch.testing.assert_close(torch.stack([mean, var]), torch.tensor([[0.15], [0.9 + 0.1 * 11 / 3]]))
    else:  # evaluation too takes the statistics of its batch
        assert not statistics
        assert torch.equal(module.eval()(image([[-5.0, 2.0], [4.0, -1.0]])), out)


def test_the_final_networks_norm_scales_and_shifts() -> None:
    module = built("nor_conv_1x1", weight=[[[[-3.0]]]], affine=True)
    scale, shift = list(module.parameters())[1:]
    scale.data.fill_(4.0)
    shift.data.fill_(1.0)
    expected = [[-1.0, -13.0, -1.0], [-25.0, -1.0, -37.0], [-1.0, -49.0, -1.0]]
    assert torch.equal(module(image(SIGNED_3X3)), image(expected))


@pytest.mark.parametrize("name", ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"])
@pytest.mark.parametrize("shape", [(1, 3, 1, 5), (2, 3, 4, 3), (1, 3, 2, 2)])
def test_operations_keep_the_shape_and_the_input(name: str, shape: tuple[int, ...]) -> None:
    x = torch.linspace(-1, 1, torch.Size(shape).numel()).reshape(shape)
    before = x.clone()
    assert build_operation(name, 3, 1, norm_factory("batch", affine=False))(x).shape == shape
    assert torch.equal(x, before)


# --- Stride


@pytest.mark.parametrize("name", ["none", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"])
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("size", [(1, 1), (3, 3), (4, 5), (7, 6)])
def test_a_strided_operation_skips_pixels_of_the_same_operation(name: str, stride: int, size: tuple[int, int]) -> None:
    """The first of every row and column among them, so sizes round up; pixels are normalised one by one here."""
    whole, strided = (
        halve_after_one(build_operation(name, 2, step, norm_factory("running", affine=False))) for step in (1, stride)
    )
    strided.load_state_dict(whole.state_dict())
    x_BCHW = torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(strided(x_BCHW), whole(x_BCHW)[:, :, ::stride, ::stride], rtol=1e-12, atol=1e-12)


def test_a_strided_skip_by_hand() -> None:
    """ReLU first. Twice pixels (even, even) and ten times (odd, odd), zeros outside, each to a half of the channels."""
    module = halve_after_one(build_operation("skip_connect", 2, 2, norm_factory("running", affine=False)))
    even, odd = (layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
    even.weight.data.copy_(torch.tensor([[[[2.0]], [[0.0]]]]))
    odd.weight.data.copy_(torch.tensor([[[[10.0]], [[-1.0]]]]))
    painted = [[[2.0, 6.0], [14.0, 18.0]], [[50.0 - 10.0, 0.0], [0.0, 0.0]]]
    expected = [[[(value - 1) / 2 for value in row] for row in channel] for channel in painted]
    assert torch.equal(module(image(COUNT_3X3, CORNERS_3X3)), image(*expected))


@pytest.mark.parametrize("channels", [2, 5])
def test_a_strided_skip_keeps_the_channels(channels: int) -> None:
    module = build_operation("skip_connect", channels, 2, norm_factory("batch", affine=False))
    assert module(torch.ones(2, channels, 5, 4)).shape == (2, channels, 3, 2)


def test_a_skip_of_a_larger_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="stride: got 3; skip_connect has 1 and 2"):
        build_operation("skip_connect", 2, 3, norm_factory("batch", affine=False))


# --- Stem and reduction


def test_stem_pads_with_zeros_and_applies_no_relu() -> None:
    network = DiscreteNetwork(Genotype(("none",)), channels=1, cells=1, in_channels=2)
    stem = halve_after_one(network.stem)
    kernel, scale, shift = stem.parameters()
    assert [tuple(tensor.shape) for tensor in (kernel, scale, shift)] == [(1, 2, 3, 3), (1,), (1,)]
    kernel.data.copy_(torch.tensor([[[[1.0, 1.0, 1.0]] * 3, [[0.0] * 3, [0.0, 100.0, 0.0], [0.0] * 3]]]))
    scale.data.fill_(2.0)  # (x - 1) / 2 * 2 + 1 = x
    shift.data.fill_(1.0)
    x = image(SIGNED_3X3, [[0.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 2.0]])
    # sums of the signed image over 3x3 windows with zeros outside, plus 100 times the second channel
    expected = [[0.0, 3.0, 0.0], [1.0, -5.0 - 100.0, -1.0], [0.0, -3.0, 0.0 + 200.0]]
    assert torch.equal(stem(x), image(expected))


def reduction(first: list, second: list, shortcut: float, channels_out: int = 1) -> ResidualReduction:
    module = ResidualReduction(1, channels_out, norm_factory("running", affine=True))
    halve_after_one(module)
    kernels = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    assert [(k.kernel_size, k.stride, k.bias) for k in kernels] == [
        ((3, 3), (2, 2), None),
        ((3, 3), (1, 1), None),
        ((1, 1), (1, 1), None),
    ]
    for kernel, weight in zip(kernels, (first, second, [[shortcut]]), strict=True):
        kernel.weight.data.copy_(torch.tensor(weight).expand_as(kernel.weight))
    return module


MIDDLE = [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
UPPER_LEFT = [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
ONES = [[1.0] * 3] * 3
IMAGE_4X4 = [[5.0, -1.0, -3.0, 1.0], [-1.0, 7.0, 1.0, -3.0], [-3.0, 1.0, 9.0, -1.0], [1.0, -3.0, -1.0, 11.0]]


@pytest.mark.parametrize(
    ("first", "second", "shortcut", "expected"),
    [
        # taps at rows and columns 0 and 2: [[5, -3], [-3, 9]], ReLU first: [[5, 0], [0, 9]]; norm [[2, -.5], [-.5, 4]];
        # ReLU [[2, 0], [0, 4]]; norm [[.5, -.5], [-.5, 1.5]]; the shortcut is off
        (MIDDLE, MIDDLE, 0.0, [[0.5, -0.5], [-0.5, 1.5]]),
        # taps at -1 and 1, one up and left: only pixel (1, 1) is inside: [[0, 0], [0, 7]]; norm, ReLU [[0, 0], [0, 3]]
        (UPPER_LEFT, MIDDLE, 0.0, [[-0.5, -0.5], [-0.5, 1.0]]),
        # ReLU'd image summed over windows around (0, 0), (0, 2), (2, 0), (2, 2) with zeros outside: 12, 9, 9, 29;
        # norm: 5.5, 4, 4, 14; all four under every window of the second kernel: 27.5; norm: 13.25
        (ONES, ONES, 0.0, [[13.25, 13.25], [13.25, 13.25]]),
        # the shortcut sees the image before any ReLU: means of 2x2 blocks 10/4, -4/4, -4/4, 18/4, times -2, no norm;
        # the other way gives norm(ReLU(norm(0))) = -1/2
        (0.0, 0.0, -2.0, [[-5.5, 1.5], [1.5, -9.5]]),
        (MIDDLE, MIDDLE, -2.0, [[-4.5, 1.5], [1.5, -7.5]]),
    ],
)
def test_reduction_by_hand(first: list, second: list, shortcut: float, expected: list[list[float]]) -> None:
    assert torch.equal(reduction(first, second, shortcut)(image(IMAGE_4X4)), image(expected))


def test_reduction_widens_and_rounds_odd_sizes_up() -> None:
    # 3x3 to 2x2 and one channel to two: taps at 0 and 2 of the ReLU'd image are 0, 0, 0, 0, so the main way gives
    # -1/2; the shortcut averages the pixels there are: (-1 + 2 + 4 - 5) / 4, (-3 + 6) / 2, (-7 + 8) / 2, -9
    out = reduction(MIDDLE, MIDDLE, 1.0, channels_out=2)(image(SIGNED_3X3))
    expected = [[-0.5, 1.0], [0.0, -9.5]]
    assert torch.equal(out, image(expected, expected))


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_reduction_halves_any_image(size: int) -> None:
    module = ResidualReduction(2, 4, norm_factory("batch", affine=True))
    assert module(torch.ones(2, 2, size, size)).shape == (2, 4, (size + 1) // 2, (size + 1) // 2)


# --- The registry


def test_unknown_operations_are_answered_with_the_known_ones_and_a_mend() -> None:
    with pytest.raises(ValueError, match=r"'max_pool'.*none, skip_connect, nor_conv_1x1.*register_operation"):
        build_operation("max_pool", 2, 1, norm_factory("batch", affine=False))


def test_a_registered_operation_is_built_by_name(registry: dict[str, operations.Builder]) -> None:
    register_operation("biggest_of_3x3", lambda channels, stride, norm: nn.MaxPool2d(3, 1, 1))
    assert torch.equal(
        built("biggest_of_3x3")(image(COUNT_3X3)), image([[5.0, 6.0, 6.0], [8.0, 9.0, 9.0], [8.0, 9.0, 9.0]])
    )


@pytest.mark.parametrize("name", ["none", "nor_conv_3x3"])
def test_a_taken_name_is_refused_and_kept(name: str, registry: dict[str, operations.Builder]) -> None:
    before = dict(registry)
    with pytest.raises(ValueError, match=f"'{name}' is registered already"):
        register_operation(name, lambda channels, stride, norm: nn.Identity())
    assert registry == before


def test_unknown_norm_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="batch_norm: got 'group'; allowed are batch, running"):
        norm_factory("group", affine=True)


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize(("size", "channels"), [(8, 3), (7, 4), (5, 12)])
def test_a_1x1_convolution_with_a_stride_equals_torchs(stride: int, size: int, channels: int) -> None:
    made = convolution(channels, 6, 1, stride).double()
    assert type(made) is Strided1x1
    plain = torch.nn.Conv2d(channels, 6, 1, stride, bias=False).double()
    plain.load_state_dict(made.state_dict())
    x = torch.randn(2, channels, size, size, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    found = []
    for layer in (made, plain):
        inputs = x.clone().requires_grad_()
        y = layer(inputs)
        found.append((y, *torch.autograd.grad((y * y).sum(), (inputs, layer.weight))))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-12)


NARROW = """
import torch, torch.nn.functional as F
from supernet.operations import FactorizedReduce, ReLUConvBN
from supernet.norm import norm_factory
torch.set_num_threads(1)
norm, kept = norm_factory("batch", False), []
for operation in [FactorizedReduce(4, 4, norm), ReLUConvBN(4, 1, norm, stride=2)]:
    for step in range(300):
        x_BCHW = torch.randn(4, 4, 8, 8).contiguous(memory_format=torch.channels_last)
        operation(x_BCHW).square().sum().backward()
        kept.append([torch.empty(size) for size in (16, 40, 64, 100, 256)])
        del kept[:-20]
"""


def test_narrow_strided_operations_write_inside_their_memory() -> None:
    """oneDNN's own kernel does not, on processors with AVX2 alone: the process was killed by its memory's checks."""
    assert subprocess.run([sys.executable, "-c", NARROW], check=False, cwd=Path(__file__).parents[2]).returncode == 0
