from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch

from darts.command.config import compose_config
from darts.search.build import build_search
from darts.search.regularizers.base import Regularizer
from darts.search.regularizers.beta_decay import BetaDecay
from darts.search.regularizers.dirichlet_anchor import DirichletAnchor
from darts.search.regularizers.entropy import Entropy
from darts.search.regularizers.expected_cost import ExpectedCost
from darts.search.regularizers.l2 import L2
from darts.search.regularizers.zero_one import ZeroOne
from supernet.relaxations.base import Relaxation, opened
from supernet.relaxations.dirichlet import Dirichlet
from supernet.relaxations.sigmoid import Sigmoid
from supernet.relaxations.softmax import Softmax
from supernet.size import NetworkSize
from supernet.spaces.cells import NAS_BENCH_201, CellSpace

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
    term = ExpectedCost(CellSpace(), weight=0.7)({"alpha_EO": values}, SOFTMAX, 0.5)
    rows = values.detach().numpy()
    chances = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
    one, three = NAS_BENCH_201.index("nor_conv_1x1"), NAS_BENCH_201.index("nor_conv_3x3")
    expected = 0.7 * np.mean(chances[:, three] + chances[:, one] / 9)
    assert float(term.detach()) == pytest.approx(expected, rel=1e-6)
    assert float(ExpectedCost(CellSpace(), 0.7)({"alpha_EO": values}, SOFTMAX, 0.0).detach()) == float(term.detach())


@pytest.mark.parametrize(("name", "price"), [("nor_conv_3x3", 1.0), ("nor_conv_1x1", 1 / 9), ("skip_connect", 0.0)])
def test_expected_flops_of_a_certain_operation(name: str, price: float) -> None:
    values = torch.zeros(6, 5, dtype=torch.float64)
    values[:, NAS_BENCH_201.index(name)] = 1e4
    term = ExpectedCost(CellSpace(), weight=1.0)({"alpha_EO": values}, SOFTMAX, 0.0)
    assert float(term) == pytest.approx(price, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("price", ["flops", "params"])
def test_expected_cost_of_one_hot_weights_is_the_genotypes(price: str) -> None:
    rng, space = random.Random(2), CellSpace()
    term = ExpectedCost(CellSpace(), price=price)
    for genotype in (space.sample(rng) for _ in range(20)):
        weights_EO = torch.tensor([[name == chosen for name in NAS_BENCH_201] for chosen in genotype.operations])
        assert term.cost(weights_EO.double()).item() == getattr(space.cost(genotype, NetworkSize()), price)


def test_costs_of_ones_own_are_expected_towards_a_target() -> None:
    """By hand: 6 edges at 0.2 (0 + 1 + 2 + 5 + 2) = 12; a fifth below 15 and above 10."""
    price = dict(zip(NAS_BENCH_201, (0, 1, 2, 5, 2), strict=True))
    given = {"alpha_EO": torch.zeros(6, 5, dtype=torch.float64)}
    for target, expected in ((15, 0.2), (10, 0.2), (12, 0.0)):
        term = ExpectedCost(CellSpace(), 2.0, price, target)
        assert float(term(given, SOFTMAX, 0.0)) == pytest.approx(2 * expected, abs=1e-12)
    assert float(ExpectedCost(CellSpace(), 2.0, price)(given, SOFTMAX, 0.0)) == pytest.approx(2 * 12 / 30)
    values = alphas()
    below, above = (ExpectedCost(CellSpace(), 1.0, price, target) for target in (100, 1))
    slopes = [torch.autograd.grad(t({"alpha_EO": values}, SOFTMAX, 0), values)[0] for t in (below, above)]
    torch.testing.assert_close(slopes[0] * 100, -slopes[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"price": "money"}, "price: got 'money'; allowed are flops, params, a number for every operation"),
        ({"price": {"none": 0, "skip_connect": 1}}, "price: it lacks nor_conv_1x1, nor_conv_3x3, avg_pool_3x3"),
        ({"target": 0}, "target: got 0"),
    ],
)
def test_impossible_prices_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExpectedCost(CellSpace(), **options)  # type: ignore[arg-type]


def test_entropy_by_hand() -> None:
    """ln 5 where all weigh the same, ln 2 where two do, 0 where one is left."""
    alpha_EO = torch.zeros(3, 5, dtype=torch.float64)
    marks = [[True] * 5, [True, False, True, False, False], [False, True, False, False, False]]
    given = opened({"alpha_EO": alpha_EO}, marks)
    expected = 0.7 * 0.5 * (math.log(5) + math.log(2)) / 3
    assert float(Entropy(0.7)(given, SOFTMAX, 0.5)) == pytest.approx(expected, rel=1e-12)


def test_zero_one_and_l2_by_hand() -> None:
    given = {"alpha_EO": torch.tensor([[0.0, math.log(3.0), -math.inf]], dtype=torch.float64)}
    assert float(ZeroOne(6.0)(given, Sigmoid(), 0.1)) == pytest.approx(-6 * (0 + 0.25**2 + 0.5**2) / 3)
    assert float(L2(0.5)(given, SOFTMAX, 0.1)) == pytest.approx(0.25 * math.log(3.0) ** 2)


def test_the_anchor_is_the_divergence_of_torchs_distributions() -> None:
    values = alphas(2.0)
    a_EO = torch.nn.functional.elu(values) + 1
    ones = torch.distributions.Dirichlet(torch.ones(6, 5, dtype=torch.float64))
    expected = torch.distributions.kl_divergence(torch.distributions.Dirichlet(a_EO), ones).sum()
    found = DirichletAnchor(0.3)({"alpha_EO": values}, Dirichlet(), 0.0)
    torch.testing.assert_close(found, 0.3 * expected)
    torch.testing.assert_close(*(torch.autograd.grad(term, values)[0] for term in (found, 0.3 * expected)))
    some = opened({"alpha_EO": alphas(2.0)}, [[True, False, True, True, False]] * 6)
    three = torch.distributions.Dirichlet(a_EO.detach()[:, [0, 2, 3]])
    expected = torch.distributions.kl_divergence(three, torch.distributions.Dirichlet(torch.ones(6, 3).double())).sum()
    torch.testing.assert_close(DirichletAnchor(1.0)(some, Dirichlet(), 0.0).detach(), expected)


TERMS: list[tuple[Regularizer, Relaxation]] = [
    (BetaDecay(3.0), SOFTMAX),
    (ExpectedCost(CellSpace(), 3.0), SOFTMAX),
    (ExpectedCost(CellSpace(), 3.0, "params", 1e5), SOFTMAX),
    (Entropy(3.0), SOFTMAX),
    (L2(3.0), SOFTMAX),
    (ZeroOne(3.0), Sigmoid()),
    (DirichletAnchor(3.0), Dirichlet()),
]


@pytest.mark.parametrize(("term", "relaxation"), TERMS, ids=lambda part: type(part).__name__)
def test_gradients_equal_finite_differences(term: Regularizer, relaxation: Relaxation) -> None:
    assert torch.autograd.gradcheck(lambda values: term({"alpha_EO": values}, relaxation, 0.6), alphas())


@pytest.mark.parametrize(("term", "relaxation"), TERMS, ids=lambda part: type(part).__name__)
def test_closed_operations_leave_value_and_gradient_finite(term: Regularizer, relaxation: Relaxation) -> None:
    values = alphas()
    given = opened({"alpha_EO": values}, [[True, False, True, False, True]] * 5 + [[False, True, False, False, False]])
    found = term(given, relaxation, 0.6)
    [gradient_EO] = torch.autograd.grad(found, values)
    assert found.isfinite()
    assert gradient_EO.isfinite().all()
    assert gradient_EO[:5, [1, 3]].count_nonzero() == 0


def test_expected_flops_without_convolutions_is_zero() -> None:
    names = ("none", "skip_connect", "avg_pool_3x3")
    assert float(ExpectedCost(CellSpace(4, names), 1.0)({"alpha_EO": torch.zeros(6, 3)}, SOFTMAX, 1.0)) == 0.0


@pytest.mark.parametrize("make", [BetaDecay, lambda weight: ExpectedCost(CellSpace(), weight)])
def test_negative_weights_are_refused(make: type[BetaDecay]) -> None:
    with pytest.raises(ValueError, match=r"^weight: got -1"):
        make(-1.0)


def test_several_regularizers_are_added_up() -> None:
    words = ["dataset=fake", "network.channels=2", "data.batch_size=8", "method=plain", "monitor=[]", "oracle=none"]
    words += ["regularizer=[beta_decay,expected_flops]", "regularizer.beta_decay.weight=4"]
    state = build_search(compose_config("search", [*words, "regularizer.expected_flops.weight=2"]), None).state
    state.planned_steps, state.step = 8, 2
    state.params["alpha_EO"].data.copy_(alphas().detach())
    rows = alphas().detach().numpy()
    chances = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
    expected = 4 * 0.25 * np.mean(np.log(np.exp(rows).sum(axis=1))) + 2 * np.mean(chances[:, 3] + chances[:, 2] / 9)
    assert float(torch.as_tensor(state.regularization()).detach()) == pytest.approx(expected, rel=1e-5)
