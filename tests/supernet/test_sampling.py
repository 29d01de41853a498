"""Relaxations that sample, against closed forms: means over many draws within four standard errors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from supernet.relaxations.auxiliary_skip import AuxiliarySkip
from supernet.relaxations.balanced_paths import BalancedPaths
from supernet.relaxations.base import EdgeWeights, Relaxation
from supernet.relaxations.binary_gates import BinaryGates
from supernet.relaxations.dirichlet import Dirichlet
from supernet.relaxations.fair_paths import FairPaths
from supernet.relaxations.gdas import GDAS
from supernet.relaxations.gumbel_softmax import GumbelSoftmax
from supernet.relaxations.partial_channels import PartialChannels
from supernet.relaxations.reinmax import ReinMax
from supernet.relaxations.sigmoid import Sigmoid
from supernet.relaxations.single_path import SinglePath
from supernet.relaxations.softmax import Softmax
from supernet.spaces.cells import CellSpace

SPACE = CellSpace()
ALPHA = torch.tensor([0.3, -0.9, 0.0, 1.1], dtype=torch.float64)
DRAWS = 20_000
HALVES = ("weights", "architecture")


def many(row: Tensor, draws: int = DRAWS) -> Tensor:
    """One edge many times over: each row is a draw of its own."""
    return row.expand(draws, -1).clone().requires_grad_()


def drawn(relaxation: Relaxation, alpha_EO: Tensor, half: str = "architecture", progress: float = 0.0) -> EdgeWeights:
    [found] = relaxation({"alpha_EO": alpha_EO}, progress, torch.Generator().manual_seed(11), half)
    return found


def close_to_mean(samples_NO: Tensor, expected_O: Tensor) -> None:
    error_O = samples_NO.std(dim=0) / len(samples_NO) ** 0.5
    assert (error_O > 0).all()
    assert ((samples_NO.mean(dim=0) - expected_O).abs() <= 4 * error_O).all()


def gradients(relaxation: Relaxation, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """The estimate of every draw, (N, O)."""
    alpha_NO = many(ALPHA)
    weights_NO = drawn(relaxation, alpha_NO).weights
    return torch.autograd.grad(loss(weights_NO).sum(), alpha_NO)[0]


def slope(expected: Callable[[Tensor], Tensor]) -> Tensor:
    alpha_O = ALPHA.clone().requires_grad_()
    return torch.autograd.grad(expected(alpha_O), alpha_O)[0]


# --- Estimates of gradients


def test_gumbel_softmax_of_two_operations_has_the_mean_and_slope_of_the_closed_form() -> None:
    """At temperature 1 the first weight is a U / (1 - U + a U), U uniform, a = exp(difference); integrate over U."""
    alpha_NO = many(torch.tensor([0.8, -0.4], dtype=torch.float64))
    weights_NO = drawn(GumbelSoftmax(1.0, 1.0), alpha_NO).weights
    torch.testing.assert_close(weights_NO.sum(-1), torch.ones(DRAWS, dtype=torch.float64))
    difference = torch.tensor(1.2, dtype=torch.float64, requires_grad=True)
    a = difference.exp()
    mean = a * (a - 1 - difference) / (a - 1) ** 2
    close_to_mean(weights_NO[:, :1].detach(), mean.detach())
    found = torch.autograd.grad(weights_NO[:, 0].sum(), alpha_NO)[0][:, :1]
    close_to_mean(found, torch.autograd.grad(mean, difference)[0])


def test_dirichlet_has_the_moments_of_the_closed_form_and_their_slopes() -> None:
    """E w_i = a_i / s and E w_i^2 = a_i (a_i + 1) / (s (s + 1)), a = elu(alpha) + 1."""
    factor_O = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)

    def moment(alpha_O: Tensor) -> Tensor:
        a_O = torch.where(alpha_O > 0, alpha_O + 1, alpha_O.exp())
        s = a_O.sum()
        return (factor_O * (a_O / s + a_O * (a_O + 1) / (s * (s + 1)))).sum()

    weights_NO = drawn(Dirichlet(), many(ALPHA)).weights.detach()
    torch.testing.assert_close(weights_NO.sum(-1), torch.ones(DRAWS, dtype=torch.float64))
    a_O = torch.where(ALPHA > 0, ALPHA + 1, ALPHA.exp())
    close_to_mean(weights_NO, a_O / a_O.sum())
    torch.testing.assert_close(Dirichlet().expected({"alpha_EO": ALPHA[None]}, 0.3).weights[0], a_O / a_O.sum())
    close_to_mean(gradients(Dirichlet(), lambda w: (factor_O * (w + w**2)).sum(-1)), slope(moment))


QUADRATIC = torch.tensor(
    [[1.0, 0.4, -2.0, 0.3], [0.1, -1.5, 0.7, 0.0], [0.9, 0.2, 2.0, -0.6], [-0.8, 1.2, 0.5, 0.4]], dtype=torch.float64
)
LINEAR = torch.tensor([0.5, -1.0, 2.0, 0.1], dtype=torch.float64)


def quadratic(weights_NO: Tensor) -> Tensor:
    return ((weights_NO @ QUADRATIC) * weights_NO).sum(-1) + weights_NO @ LINEAR


def test_reinmax_is_unbiased_on_quadratics() -> None:
    """E f(D) = sum_i p_i f(one-hot i), by hand; a first-order straight-through estimate fails this."""
    exact = slope(lambda alpha: (alpha.softmax(-1) * (QUADRATIC.diagonal() + LINEAR)).sum())
    close_to_mean(gradients(ReinMax(), quadratic), exact)
    first_order = gradients(BinaryGates(paths_compared=4), quadratic)
    error = first_order.std(dim=0) / DRAWS**0.5
    assert ((first_order.mean(dim=0) - exact).abs() > 8 * error).any()


def test_binary_gates_with_all_paths_are_unbiased_on_linear_losses() -> None:
    found = gradients(BinaryGates(paths_compared=4), lambda weights: weights @ LINEAR)
    exact = slope(lambda alpha: (alpha.softmax(-1) * LINEAR).sum())
    torch.testing.assert_close(found, exact.expand(DRAWS, -1))  # without any variance, even


def test_the_gates_of_two_compared_paths_have_the_published_gradient() -> None:
    """dL/dalpha_i = sum_j dL/dg_j q_j (delta_ij - q_i) over the drawn pair, q its rescaled probabilities."""
    alpha_NO = many(ALPHA, 500)
    found = drawn(BinaryGates(), alpha_NO)
    slopes_NO = torch.randn(500, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradient_NO = torch.autograd.grad((found.weights * slopes_NO).sum(), alpha_NO)[0]
    pairs = set()
    for row, marks in enumerate(found.active_EO):
        i, j = (place for place, mark in enumerate(marks) if mark)
        pairs.add((i, j))
        q = math.exp(ALPHA[i]) / (math.exp(ALPHA[i]) + math.exp(ALPHA[j]))
        by_hand = q * (1 - q) * float(slopes_NO[row, i] - slopes_NO[row, j])
        expected_O = torch.zeros(4, dtype=torch.float64)
        expected_O[i], expected_O[j] = by_hand, -by_hand
        torch.testing.assert_close(gradient_NO[row], expected_O)
        assert sorted(found.weights[row].tolist()) == [0, 0, 0, 1]
    assert pairs == set(itertools.combinations(range(4), 2))


def test_gates_let_operations_through_as_often_as_their_probabilities_say() -> None:
    """Drawn in two stages, the gate opens for i by sum over pairs of P(pair) q_i; by hand."""
    p = ALPHA.softmax(-1).tolist()
    expected = [0.0] * 4
    for i, j in itertools.combinations(range(4), 2):
        pair = p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])
        for k in (i, j):
            expected[k] += pair * p[k] / (p[i] + p[j])
    close_to_mean(drawn(BinaryGates(), many(ALPHA)).weights.detach(), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("steps", [1, 4])
def test_operations_that_were_not_compared_keep_their_probability(steps: int) -> None:
    """Under Adam with momentum and weight decay, which move all of them."""
    alpha_EO = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.Adam([alpha_EO], 0.1, betas=(0.5, 0.999), weight_decay=0.1)
    gates, generator = BinaryGates(), torch.Generator().manual_seed(3)
    for _ in range(steps):
        [found] = gates({"alpha_EO": alpha_EO}, 0.0, generator, "architecture")
        alpha_EO.grad = torch.autograd.grad((found.weights * torch.arange(30.0).reshape(6, 5)).sum(), alpha_EO)[0]
        before = alpha_EO.detach().clone()
        optimizer.step()
        with torch.no_grad():
            gates.settle({"alpha_EO": alpha_EO}, {"alpha_EO": before})
        compared_EO = torch.tensor(found.active_EO)
        moved_EO, was_EO = alpha_EO.detach().softmax(-1), before.softmax(-1)
        torch.testing.assert_close(moved_EO[~compared_EO], was_EO[~compared_EO], rtol=1e-12, atol=0)
        assert (moved_EO[compared_EO] != was_EO[compared_EO]).all()


def test_gdas_has_the_gradient_of_the_soft_sample_and_computes_one_operation() -> None:
    """With the noise fixed: the soft sample's derivative, contracted with what the computed operation alone sees."""
    alpha_NO = many(ALPHA, 200)
    hard = drawn(GDAS(2.0, 2.0), alpha_NO)
    soft_NO = drawn(GumbelSoftmax(2.0, 2.0), alpha_NO).weights
    marks_NO = torch.tensor(hard.active_EO)
    assert (marks_NO.sum(-1) == 1).all()
    assert torch.equal(hard.weights.detach(), marks_NO.to(torch.float64))
    assert torch.equal(hard.weights.argmax(-1), soft_NO.argmax(-1))
    slopes_N = torch.arange(200.0, dtype=torch.float64)
    [mine] = torch.autograd.grad((hard.weights[marks_NO] * slopes_N).sum(), alpha_NO)
    [theirs] = torch.autograd.grad((soft_NO[marks_NO] * slopes_N).sum(), alpha_NO)
    assert torch.equal(mine, theirs)
    assert mine.count_nonzero() > 0


def test_the_bias_of_gdas_falls_with_its_temperature() -> None:
    """Against the closed form for a linear loss, of which only the computed operation's slope is seen."""
    exact = slope(lambda alpha: (alpha.softmax(-1) * LINEAR).sum())
    bias = []
    for temperature in (10.0, 1.0):
        alpha_NO = many(ALPHA)
        found = drawn(GDAS(temperature, temperature), alpha_NO)
        seen_NO = LINEAR * torch.tensor(found.active_EO)
        [estimate] = torch.autograd.grad((found.weights * seen_NO).sum(), alpha_NO)
        bias.append(float((estimate.mean(dim=0) - exact).norm()))
    assert 0 < bias[1] < bias[0]


@pytest.mark.parametrize(
    ("relaxation", "half"),
    [(GDAS(), "weights"), (GDAS(), "architecture"), (ReinMax(), "weights"), (BinaryGates(), "weights")],
)
def test_hard_samples_are_drawn_by_the_softmax(relaxation: Relaxation, half: str) -> None:
    close_to_mean(drawn(relaxation, many(ALPHA), half).weights.detach(), ALPHA.softmax(-1))
    params = {"alpha_EO": ALPHA[None]}
    assert torch.equal(relaxation.expected(params, 0.5).weights, Softmax().expected(params, 0.5).weights)


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("half", HALVES)
def test_the_temperature_of_the_moment_reaches_the_sampler(progress: float, half: str) -> None:
    """The noise is recovered from a draw at temperature one; it must explain the draw at any other."""
    alpha_NO = ALPHA.expand(50, -1)
    [plain] = GumbelSoftmax(1.0, 1.0)({"alpha_EO": alpha_NO}, 0.0, torch.Generator().manual_seed(1), half)
    [found] = GumbelSoftmax(5.0, 1.0)({"alpha_EO": alpha_NO}, progress, torch.Generator().manual_seed(1), half)
    temperature = 5.0 - 4.0 * progress
    torch.testing.assert_close(found.weights, (plain.weights.log() / temperature).softmax(-1))


# --- Paths


def test_fair_paths_visit_every_operation_of_every_edge_once() -> None:
    fair, orders = FairPaths(SPACE), set()
    for seed in range(20):
        paths = fair({"alpha_EO": torch.zeros(6, 5)}, 0.0, torch.Generator().manual_seed(seed), "weights")
        assert len(paths) == fair.paths("weights") == 5
        assert torch.equal(sum(path.weights for path in paths), torch.ones(6, 5))
        assert all(sum(row) == 1 for path in paths for row in path.active_EO)
        orders |= set(zip(*(path.weights.argmax(-1).tolist() for path in paths), strict=True))
    assert len(orders) > 50
    assert fair.paths("architecture") == 1


def deepest(choice: list[str]) -> int | None:
    """By walking every path of the cell: the most convolutions on one; None if nothing comes through."""
    edges = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    found = []
    for route in ([0, 3], [0, 1, 3], [0, 2, 3], [0, 1, 2, 3]):
        names = [choice[edges.index(step)] for step in itertools.pairwise(route)]
        if "none" not in names:
            found.append(sum("conv" in name for name in names))
    return max(found, default=None)


def test_balanced_paths_draw_depths_uniformly_and_living_cells_alone() -> None:
    balanced, generator = BalancedPaths(SPACE), torch.Generator().manual_seed(0)
    counts = [0, 0, 0, 0]
    for _ in range(1500):
        [path] = balanced({"alpha_EO": torch.zeros(6, 5)}, 0.0, generator, "weights")
        assert all(sum(row) == 1 for row in path.active_EO)
        depth = deepest([SPACE.candidates[row.index(True)] for row in path.active_EO])
        assert depth is not None
        counts[depth] += 1
    error = (1500 * 1 / 3 * 2 / 3) ** 0.5
    for number in (counts[0] + counts[1], counts[2], counts[3]):
        assert number == pytest.approx(500, abs=4 * error)
    assert counts[0] > 0


def test_within_a_depth_cells_are_drawn_uniformly() -> None:
    """Every edge's operations as often as among all living cells of depth three."""
    names = [list(cell.operations) for cell in SPACE]
    deep = [cell for cell in names if deepest(cell) == 3]
    share = sum(cell[3] == "skip_connect" for cell in deep) / len(deep)
    balanced, generator, found = BalancedPaths(SPACE), torch.Generator().manual_seed(1), []
    while len(found) < 400:
        [path] = balanced({"alpha_EO": torch.zeros(6, 5)}, 0.0, generator, "weights")
        cell = [SPACE.candidates[row.index(True)] for row in path.active_EO]
        if deepest(cell) == 3:
            found.append(cell[3] == "skip_connect")
    assert sum(found) / 400 == pytest.approx(share, abs=4 * (share * (1 - share) / 400) ** 0.5)


def test_balanced_paths_of_what_lets_nothing_through_are_refused() -> None:
    alpha_EO = torch.full((6, 5), -math.inf)
    alpha_EO[:, SPACE.candidates.index("none")] = 0.0
    with pytest.raises(ValueError, match="nothing through"):
        BalancedPaths(SPACE)({"alpha_EO": alpha_EO}, 0.0, torch.Generator(), "weights")


# --- Around another relaxation


def test_edge_normalisation_shares_one_among_the_edges_into_a_node() -> None:
    partial = PartialChannels(Softmax(), SPACE, k=2)
    params = partial.init_params(SPACE.architecture_shapes, torch.Generator().manual_seed(0))
    beta_E = params["beta_E"] = torch.tensor([0.7, 0.1, -2.0, 1.0, 0.0, 3.0], dtype=torch.float64)
    params["alpha_EO"] = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = partial.expected(params, 0.2)
    [sampled] = partial(params, 0.2, torch.Generator(), "weights")
    share = [1.0, *(math.exp(b) / (math.exp(0.1) + math.exp(-2)) for b in (0.1, -2)),
             *(math.exp(b) / (math.exp(1) + 1 + math.exp(3)) for b in (1, 0, 3))]  # fmt: skip
    expected_E = torch.tensor(share, dtype=torch.float64)
    for weights in (found, sampled):
        assert weights.bypass is not None
        torch.testing.assert_close(weights.bypass, expected_E)
        torch.testing.assert_close(weights.weights, params["alpha_EO"].softmax(-1) * expected_E[:, None])
        assert weights.partial == 2
    assert beta_E.shape == (6,)
    plain = PartialChannels(Softmax(), SPACE, k=4, edge_normalisation=False)
    assert plain.init_params(SPACE.architecture_shapes, torch.Generator()).keys() == {"alpha_EO"}
    without = plain.expected(params, 0.0)
    assert without.bypass is None
    assert (without.partial, without.weights.sum().item()) == (4, pytest.approx(6))


def test_the_auxiliary_skip_fades_linearly_and_is_gone_in_the_last_step() -> None:
    aside, params = AuxiliarySkip(Softmax()), {"alpha_EO": torch.zeros(6, 5)}
    weights = []
    for step in range(50):
        [found] = aside(params, step / 50, torch.Generator(), "weights")
        weights.append(0.0 if found.extra_skip is None else found.extra_skip.tolist()[0])
        if found.extra_skip is not None:
            assert found.extra_skip.tolist() == [weights[-1]] * 6
        assert torch.equal(found.weights, Softmax().expected(params, 0).weights)
    assert weights[0] == 1
    assert weights[-1] == 0
    assert weights == pytest.approx([1 - step / 49 for step in range(50)], abs=1e-6)
    assert aside.expected(params, 0.49).extra_skip is not None


def test_sigmoids_do_not_compete() -> None:
    alpha_EO = torch.tensor([[0.0, 3.0, 3.0, -math.inf]], dtype=torch.float64)
    expected = [0.5, 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(-3)), 0.0]
    assert drawn(Sigmoid(), alpha_EO).weights[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GumbelSoftmax(temperature=0.0), "temperature: got 0.0"),
        (lambda: GDAS(temperature_end=-1.0), "temperature_end: got -1.0"),
        (lambda: BinaryGates(paths_compared=1), "paths_compared: got 1"),
        (lambda: PartialChannels(Softmax(), SPACE, k=0), "k: got 0"),
        (lambda: AuxiliarySkip(Softmax(), end=0.0), "end: got 0.0"),
    ],
)
def test_impossible_options_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_uniform_single_paths_compute_one_operation_an_edge() -> None:
    for seed in range(30):
        [path] = SinglePath()({"alpha_EO": torch.zeros(6, 5)}, 0.0, torch.Generator().manual_seed(seed), "weights")
        assert all(sum(row) == 1 for row in path.active_EO)
