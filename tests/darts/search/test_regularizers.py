from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from darts.command.config import compose_config
from darts.search.build import build_search
from darts.search.regularizers.beta_decay import BetaDecay
from darts.search.regularizers.expected_flops import ExpectedFlops
from supernet.relaxations.softmax import Softmax
from supernet.spaces.cells import NAS_BENCH_201

SOFTMAX = Softmax()


def alphas(scale: float = 1.0) -> torch.Tensor:
    return (scale * torch.sin(1.3 * torch.arange(30, dtype=torch.float64))).reshape(6, 5).requires_grad_()


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_beta_decay_equals_its_formula_and_gradient(progress: float) -> None:
    """beta-DARTS eq. 9 with weight 50 epoch / epochs: the gradient is weight * softmax over the number of edges."""
    values = alphas(2.0)
    term = BetaDecay(50.0)({"alpha_EO": values}, SOFTMAX, progress)
    rows = values.detach().numpy()
    expected = 50 * progress * np.mean([math.log(sum(math.exp(alpha) for alpha in row)) for row in rows])
    assert float(term.detach()) == pytest.approx(expected, rel=1e-12, abs=1e-15)
    (gradient,) = torch.autograd.grad(term, values)
    softmax = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient.numpy(), 50 * progress * softmax / 6, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [-1e4, 0.0, 1e4])
def test_beta_decay_stays_finite_at_extreme_parameters(scale: float, dtype: torch.dtype) -> None:
    values = torch.full((6, 5), scale, dtype=dtype, requires_grad=True)
    term = BetaDecay(1.0)({"alpha_EO": values}, SOFTMAX, 1.0)
    assert float(term.detach()) == pytest.approx(scale + math.log(5), rel=1e-5)
    (gradient,) = torch.autograd.grad(term, values)
    torch.testing.assert_close(gradient, torch.full((6, 5), 1 / 30, dtype=dtype))


def test_expected_flops_equals_the_closed_form() -> None:
    """On the benchmark's network a 3x3 convolution costs nine times a 1x1; the other operations cost nothing."""
    values = alphas()
    term = ExpectedFlops(NAS_BENCH_201, weight=0.7)({"alpha_EO": values}, SOFTMAX, 0.5)
    rows = values.detach().numpy()
    chances = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
    one, three = NAS_BENCH_201.index("nor_conv_1x1"), NAS_BENCH_201.index("nor_conv_3x3")
    expected = 0.7 * np.mean(chances[:, three] + chances[:, one] / 9)
    assert float(term.detach()) == pytest.approx(expected, rel=1e-6)
    assert float(ExpectedFlops(NAS_BENCH_201, 0.7)({"alpha_EO": values}, SOFTMAX, 0.0).detach()) == float(term.detach())


@pytest.mark.parametrize(("name", "price"), [("nor_conv_3x3", 1.0), ("nor_conv_1x1", 1 / 9), ("skip_connect", 0.0)])
def test_expected_flops_of_a_certain_operation(name: str, price: float) -> None:
    values = torch.zeros(6, 5, dtype=torch.float64)
    values[:, NAS_BENCH_201.index(name)] = 1e4
    term = ExpectedFlops(NAS_BENCH_201, weight=1.0)({"alpha_EO": values}, SOFTMAX, 0.0)
    assert float(term) == pytest.approx(price, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("term", [BetaDecay(3.0), ExpectedFlops(NAS_BENCH_201, 3.0)])
def test_gradients_equal_finite_differences(term: BetaDecay | ExpectedFlops) -> None:
    assert torch.autograd.gradcheck(lambda values: term({"alpha_EO": values}, SOFTMAX, 0.6), alphas())


def test_expected_flops_without_convolutions_is_zero() -> None:
    names = ("none", "skip_connect", "avg_pool_3x3")
    assert float(ExpectedFlops(names, 1.0)({"alpha_EO": torch.zeros(6, 3)}, SOFTMAX, 1.0)) == 0.0


@pytest.mark.parametrize("make", [BetaDecay, lambda weight: ExpectedFlops(NAS_BENCH_201, weight)])
def test_negative_weights_are_refused(make: type[BetaDecay]) -> None:
    with pytest.raises(ValueError, match=r"^weight: got -1"):
        make(-1.0)


def test_several_regularizers_are_added_up() -> None:
    words = ["dataset=fake", "network.channels=2", "data.batch_size=8", "monitor=[]", "oracle=none"]
    words += ["regularizer=[beta_decay,expected_flops]", "regularizer.beta_decay.weight=4"]
    state = build_search(compose_config("search", [*words, "regularizer.expected_flops.weight=2"]), None).state
    state.planned_steps, state.step = 8, 2
    state.params["alpha_EO"].data.copy_(alphas().detach())
    rows = alphas().detach().numpy()
    chances = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
    expected = 4 * 0.25 * np.mean(np.log(np.exp(rows).sum(axis=1))) + 2 * np.mean(chances[:, 3] + chances[:, 2] / 9)
    assert float(torch.as_tensor(state.regularization()).detach()) == pytest.approx(expected, rel=1e-5)
