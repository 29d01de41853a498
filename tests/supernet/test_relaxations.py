from __future__ import annotations

import math
from decimal import Context, Decimal, localcontext

import pytest
import torch
from torch import Tensor, nn

from supernet import operations
from supernet.cell import SearchCell
from supernet.norm import norm_factory
from supernet.relaxations.base import EdgeWeights, Relaxation
from supernet.relaxations.single_path import SinglePath
from supernet.relaxations.softmax import Softmax
from supernet.spaces.cells import CellSpace

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-14}
ROWS = [
    [0.0, 0.0, 0.0, 0.0, 0.0],
    [0.3, -0.2, 0.0, 1.5, -1.0],
    [5.0, 4.0, 3.0, 2.0, 1.0],
    [1e3, 0.0, -1e3, 999.0, 1.0],  # exp overflows
    [-1e3, -1e3, -1001.0, -1e3, -1002.0],  # exp underflows everywhere
    [1e30, 1e30, -1e30, 0.0, 1e30],
]


def exact_softmax(values: list[float], temperature: float) -> list[Decimal]:
    """exp(a_i / T) / sum_j exp(a_j / T) in 60 digits and an exponent range that nothing here leaves."""
    with localcontext(Context(prec=60, Emin=-(10**17), Emax=10**17)):
        scaled = [Decimal(value) / Decimal(temperature) for value in values]
        top = max(scaled)
        powers = [(value - top).exp() if value - top > -(10**5) else Decimal(0) for value in scaled]
        return [power / sum(powers) for power in powers]


def weights_of(relaxation: Relaxation, alpha_EO: Tensor, progress: float = 0.0) -> Tensor:
    [edge_weights] = relaxation({"alpha_EO": alpha_EO}, progress, torch.Generator(), "weights")
    return edge_weights.weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1.0, 0.25, 10.0])
@pytest.mark.parametrize("row", ROWS)
def test_softmax_equals_the_closed_form(row: list[float], temperature: float, dtype: torch.dtype) -> None:
    """Values p_i = exp(a_i/T) / sum, gradients dp_i/da_j = p_i (delta_ij - p_j) / T."""
    alpha_EO = torch.tensor([row, ROWS[1]], dtype=dtype, requires_grad=True)
    weights_EO = weights_of(Softmax(temperature), alpha_EO)
    exact = exact_softmax(alpha_EO[0].tolist(), temperature)
    values = torch.tensor([float(value) for value in exact], dtype=dtype)
    tolerance = TOLERANCE[dtype]
    assert weights_EO.dtype == dtype
    torch.testing.assert_close(weights_EO[0], values, rtol=tolerance, atol=tolerance / 10)
    torch.testing.assert_close(weights_EO.sum(-1), torch.ones(2, dtype=dtype), rtol=0, atol=tolerance)
    for i in range(len(row)):
        [gradient_EO] = torch.autograd.grad(weights_EO[0, i], alpha_EO, retain_graph=True)
        expected = [float(exact[i] * ((i == j) - exact[j]) / Decimal(temperature)) for j in range(len(row))]
        torch.testing.assert_close(
            gradient_EO[0], torch.tensor(expected, dtype=dtype), rtol=10 * tolerance, atol=tolerance / temperature
        )
        assert gradient_EO[1].count_nonzero() == 0  # edges do not touch each other


def test_softmax_by_hand() -> None:
    alpha_EO = torch.tensor([[math.log(1), math.log(2), math.log(5)], [math.log(2), 0.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([[0.125, 0.25, 0.625], [0.5, 0.25, 0.25]], dtype=torch.float64)
    torch.testing.assert_close(weights_of(Softmax(), alpha_EO), expected, rtol=1e-14, atol=0)
    squared = torch.tensor([[1 / 30, 4 / 30, 25 / 30], [4 / 6, 1 / 6, 1 / 6]], dtype=torch.float64)
    torch.testing.assert_close(weights_of(Softmax(temperature=0.5), alpha_EO), squared, rtol=1e-14, atol=0)


def test_softmax_gradients_agree_with_finite_differences() -> None:
    alpha_EO = torch.tensor(ROWS[1:3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda alpha: weights_of(Softmax(0.7), alpha), alpha_EO)
    assert torch.autograd.gradgradcheck(lambda alpha: weights_of(Softmax(0.7), alpha), alpha_EO)


@pytest.mark.parametrize("half", ["weights", "architecture", "evaluation"])
@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_softmax_is_dense_and_uses_neither_progress_nor_chance(progress: float, half: str) -> None:
    params = {"alpha_EO": torch.tensor(ROWS[:3])}
    generator = torch.Generator()
    state = generator.get_state()
    [edge_weights] = Softmax()(params, progress, generator, half)
    assert torch.equal(generator.get_state(), state)
    for other in (Softmax().expected(params, progress), Softmax().expected(params, 0.0)):
        assert torch.equal(edge_weights.weights, other.weights)
        assert edge_weights.active_EO == other.active_EO == ((True,) * 5,) * 3
    assert Softmax().paths(half) == 1


def test_softmax_leaves_nothing_to_what_is_not_allowed_any_more() -> None:
    """The others share the weight as if it had never been there; gradients stay finite."""
    alpha_EO = torch.tensor([[0.3, -math.inf, 1.5], [-math.inf, -2.0, -math.inf]], requires_grad=True)
    weights_EO = weights_of(Softmax(0.5), alpha_EO)
    ratio = 1 / (1 + math.exp((1.5 - 0.3) / 0.5))
    torch.testing.assert_close(weights_EO, torch.tensor([[ratio, 0.0, 1 - ratio], [0.0, 1.0, 0.0]]))
    [gradient_EO] = torch.autograd.grad(weights_EO[0, 0], alpha_EO)
    slope = ratio * (1 - ratio) / 0.5
    torch.testing.assert_close(gradient_EO, torch.tensor([[slope, 0.0, -slope], [0.0, 0.0, 0.0]]))


@pytest.mark.parametrize("scale", [0.0, 1e-3, 2.0])
def test_initial_parameters_are_normal_on_the_cpu_and_follow_the_generator(scale: float) -> None:
    """Mean 0 and deviation `scale`, within five standard errors of 40,000 draws."""
    shapes = {"alpha_EO": (6, 5), "beta": (200, 200)}
    global_state = torch.get_rng_state()
    params, again, other = (
        Softmax(init_scale=scale).init_params(shapes, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), global_state)
    assert {name: tuple(tensor.shape) for name, tensor in params.items()} == shapes
    assert all(tensor.device.type == "cpu" for tensor in params.values())
    assert all(torch.equal(params[name], again[name]) for name in shapes)
    assert scale == 0 or not torch.equal(params["alpha_EO"], other["alpha_EO"])
    assert abs(params["beta"].mean().item()) <= 5 * scale / 200
    assert abs(params["beta"].std().item() - scale) <= 5 * scale / math.sqrt(2 * 40_000)


def test_the_published_initial_scale_is_the_default() -> None:
    params = Softmax().init_params({"alpha_EO": (300, 100)}, torch.Generator().manual_seed(0))
    assert params["alpha_EO"].std().item() == pytest.approx(1e-3, rel=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature: got 0.0"),
        ({"temperature": -1.0}, "temperature: got -1.0"),
        ({"temperature": math.nan}, "temperature: got nan"),
        ({"init_scale": -1e-3}, "init_scale: got -0.001"),
        ({"init_scale": math.nan}, "init_scale: got nan"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Softmax(**options)


# --- Edge weights


def test_one_hot_weights_have_one_active_operation_an_edge() -> None:
    edge_weights = EdgeWeights.one_hot([2, 0, 4], 5)
    rows = [[0.0, 0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]]
    assert torch.equal(edge_weights.weights, torch.tensor(rows))
    assert edge_weights.active_EO == tuple(tuple(value == 1 for value in row) for row in rows)


@pytest.mark.parametrize(("dtype", "expected"), [(None, torch.float32), (torch.float64, torch.float64)])
def test_one_hot_weights_have_the_asked_or_the_default_type(dtype: torch.dtype | None, expected: torch.dtype) -> None:
    assert EdgeWeights.one_hot([1], 2, dtype).weights.dtype == expected
    torch.set_default_dtype(torch.float64)
    assert EdgeWeights.one_hot([1], 2).weights.dtype == torch.float64


@pytest.mark.parametrize("choice", [5, -2, 99])
def test_one_hot_weights_refuse_an_operation_that_does_not_exist(choice: int) -> None:
    with pytest.raises((ValueError, IndexError)):
        EdgeWeights.one_hot([0, choice], 5)


def test_dense_weights_activate_everything() -> None:
    assert EdgeWeights.dense(torch.zeros(2, 3)).active_EO == ((True, True, True), (True, True, True))
    assert EdgeWeights.dense(torch.zeros(4, 1, 2)).active_EO == ((True, True),)


MARKS = (((True, True, False), (False, True, False)), ((True, False, False), (True, True, True)))
BOTH = ((True, False, False), (False, True, False))


@pytest.mark.parametrize("shape", [(2, 3), (4, 2, 3)])
def test_only_what_is_active_and_allowed_stays_active(shape: tuple[int, ...]) -> None:
    weights = torch.arange(math.prod(shape)).reshape(shape) + 1.0
    skip, bypass = weights[..., 0], weights[..., 1]
    for marks, allowed in (MARKS, MARKS[::-1]):
        before = EdgeWeights(weights, marks, skip, 2, bypass)
        after = before.allowed(allowed)
        assert after.active_EO == BOTH
        assert after.partial == 2
        assert torch.equal(after.weights, weights)
        assert after.extra_skip is skip
        assert after.bypass is bypass
        assert before.active_EO == marks


def test_what_is_allowed_once_is_allowed_again() -> None:
    dense = EdgeWeights.dense(torch.ones(2, 3))
    assert dense.allowed(((True,) * 3,) * 2).active_EO == dense.active_EO
    assert dense.allowed(MARKS[0]).active_EO == MARKS[0]
    assert dense.allowed(MARKS[0]).allowed(MARKS[0]).active_EO == MARKS[0]
    assert dense.allowed(MARKS[0]).allowed(MARKS[1]).active_EO == BOTH


@pytest.mark.parametrize("allowed", [((True,) * 3,), ((True,) * 3,) * 3, ((True,) * 2,) * 2, ((True,) * 4,) * 2])
def test_marks_of_another_shape_are_refused(allowed: tuple[tuple[bool, ...], ...]) -> None:
    with pytest.raises(ValueError, match="zip"):
        EdgeWeights.dense(torch.ones(2, 3)).allowed(allowed)


def test_what_is_not_allowed_changes_nothing_whatever_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell of one edge is x times the sum of the weights of two skip connections."""
    monkeypatch.setitem(operations.OPERATIONS, "another_skip", lambda channels, stride, norm: nn.Identity())
    space = CellSpace(2, ["skip_connect", "another_skip"])
    cell = SearchCell(space.cells["cell"], 2, norm_factory("batch", affine=False))
    x_BCHW, weights_EO = torch.randn(2, 2, 3, 3), torch.tensor([[3.0, 1e6]], requires_grad=True)
    edge_weights = EdgeWeights.dense(weights_EO).allowed(((True, False),))
    out = cell(x_BCHW, edge_weights.weights, edge_weights.active_EO)
    assert torch.equal(out, 3 * x_BCHW)
    out.sum().backward()
    assert weights_EO.grad is not None
    assert weights_EO.grad[0, 0] != 0
    assert weights_EO.grad[0, 1] == 0


def test_the_mean_is_over_cells() -> None:
    """Of shared weights it is the weights themselves; gradients reach every cell alike."""
    weights_LEO = torch.arange(24.0).reshape(4, 3, 2).requires_grad_()
    mean_EO = EdgeWeights.dense(weights_LEO).mean_EO
    assert torch.equal(mean_EO, torch.arange(6.0).reshape(3, 2) + 9)  # (0 + 6 + 12 + 18) / 4
    [gradient_LEO] = torch.autograd.grad(mean_EO[1, 0], weights_LEO)
    expected_LEO = torch.zeros(4, 3, 2)
    expected_LEO[:, 1, 0] = 0.25
    assert torch.equal(gradient_LEO, expected_LEO)
    assert EdgeWeights.dense(weights_LEO[:1]).mean_EO.shape == (3, 2)
    shared = EdgeWeights.dense(weights_LEO[2])
    assert shared.mean_EO is shared.weights


def test_weights_of_a_cell_are_its_own_or_shared() -> None:
    weights_LEO = torch.arange(24.0).reshape(4, 3, 2)
    per_cell, shared = EdgeWeights.dense(weights_LEO), EdgeWeights.dense(weights_LEO[1])
    for cell in range(4):
        assert torch.equal(per_cell.of_cell(cell).weights, weights_LEO[cell])
        assert torch.equal(shared.of_cell(cell).weights, weights_LEO[1])


def test_moving_keeps_the_history_and_detaching_drops_it() -> None:
    alpha_EO = torch.tensor(ROWS[:2], requires_grad=True)
    edge_weights = Softmax()({"alpha_EO": alpha_EO}, 0.0, torch.Generator(), "architecture")[0]
    moved, detached = edge_weights.to(torch.device("cpu")), edge_weights.detach()
    for other in (moved, detached):
        assert torch.equal(other.weights, edge_weights.weights)
        assert other.active_EO == edge_weights.active_EO
    assert edge_weights.to(torch.device("meta")).weights.device.type == "meta"
    assert not detached.weights.requires_grad
    moved.weights[0, 0].backward()
    assert alpha_EO.grad is not None
    assert alpha_EO.grad[0].count_nonzero() == 5


def test_a_single_path_is_drawn_uniformly_and_alone() -> None:
    """chi^2 over 4,000 draws of 6 edges, 4 degrees of freedom an edge: below 18.5 with probability 0.999."""
    alpha_EO = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    generator, total = torch.Generator().manual_seed(1), torch.zeros(6, 5)
    for _ in range(4_000):
        [path] = SinglePath()({"alpha_EO": alpha_EO}, 0.5, generator, "weights")
        assert path.weights.sum(-1).tolist() == [1.0] * 6
        assert torch.equal(path.weights > 0, torch.tensor(path.active_EO))
        total += path.weights
    chi_E = ((total - 800) ** 2 / 800).sum(-1)
    assert (chi_E < 18.5).all()
    draws = [SinglePath()({"alpha_EO": alpha_EO}, 0, generator, "weights")[0].weights for _ in range(500)]
    pairs = torch.stack([weights.argmax(-1) for weights in draws])
    assert abs(torch.corrcoef(pairs.T.double()).fill_diagonal_(0)).max() < 0.2, "edges are drawn apart"
    expected = SinglePath().expected({"alpha_EO": alpha_EO}, 0.5)
    assert torch.equal(expected.weights, torch.full((6, 5), 0.2))
    assert expected.active_EO == ((True,) * 5,) * 6


def test_a_single_path_is_drawn_from_what_is_allowed() -> None:
    """chi^2 over 3,000 draws of 3 and of 2 operations: below 13.8 and 10.8 with probability 0.999."""
    alpha_EO = torch.tensor([[0.0, -math.inf, 9.0, -9.0], [-math.inf, 1.0, 2.0, -math.inf], [-math.inf] * 3 + [0.0]])
    generator, total = torch.Generator().manual_seed(1), torch.zeros(3, 4)
    for _ in range(3_000):
        [path] = SinglePath()({"alpha_EO": alpha_EO}, 0.5, generator, "weights")
        total += path.weights
    shares_EO = torch.tensor([[1 / 3, 0.0, 1 / 3, 1 / 3], [0.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.0, 1.0]])
    assert torch.equal(total > 0, shares_EO > 0)
    chi_E = ((total - 3_000 * shares_EO) ** 2 / (3_000 * shares_EO).clamp(min=1)).sum(-1)
    assert chi_E[0] < 13.8
    assert chi_E[1] < 10.8
    torch.testing.assert_close(SinglePath().expected({"alpha_EO": alpha_EO}, 0.0).weights, shares_EO)
