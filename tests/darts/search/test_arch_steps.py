from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from darts.search.arch_steps.base import ArchStep
from darts.search.arch_steps.first_order import FirstOrder
from darts.search.arch_steps.unrolled import Unrolled
from darts.search.diverging import NonFiniteLoss
from darts.search.phases import Bilevel, Steps
from darts.search.regularizers.beta_decay import BetaDecay
from darts.search.regularizers.expected_cost import ExpectedCost
from darts.search.state import SearchState
from darts.search.weight_steps.sgd import SGDStep
from darts.tasks.base import Batch
from darts.tasks.classification import Classification
from darts.tasks.datasets.fake import Fake
from supernet.network import SuperNet
from supernet.relaxations.base import EdgeWeights, Parameters
from supernet.relaxations.softmax import Softmax
from supernet.spaces.cells import CellSpace

Kept = Callable[[], AbstractContextManager[SimpleNamespace]]

pytestmark = pytest.mark.usefixtures("fast_form")

TRAIN: Batch = (torch.zeros(1), torch.zeros(1))
VALID: Batch = (torch.ones(1), torch.ones(1))


def waves(*shape: int, pace: float = 1.0, phase: float = 0.0) -> Tensor:
    """Numbers in [-1, 1] that no random generator decides."""
    return torch.sin(pace * torch.arange(math.prod(shape), dtype=torch.float64) + phase).reshape(shape)


class QuadraticState:
    """Stands for a SearchState; with w all weights and a all architecture parameters as flat vectors,

    L_train = w'Aw/2 + a'Bw + c'w and L_valid = |w - t|^2/2 + a'Da/2 + a'Ew, plus the regularization r'a.
    """

    def __init__(self, **optimizer: Any) -> None:
        self.network = nn.Linear(3, 2).double()
        self.params = {"alpha_EO": waves(2, 2, phase=0.3), "extra": waves(3, phase=2.0)}
        for value in self.params.values():
            value.requires_grad_()
        with torch.no_grad():
            self.network.weight.copy_(waves(2, 3, pace=1.7))
            self.network.bias.copy_(waves(2, pace=0.4, phase=1.0))
        half = waves(8, 8, pace=0.9)
        self.A, self.B, self.c = half @ half.T, waves(7, 8, pace=1.3), waves(8, phase=0.2)
        self.t, self.D, self.E, self.r = waves(8, pace=2.1), waves(7, 7), waves(7, 8, pace=0.6), waves(7, pace=3.0)
        self.weight_optimizer: torch.optim.Optimizer = torch.optim.SGD(self.network.parameters(), **optimizer)

    def weights(self) -> Tensor:
        return torch.cat([value.flatten() for value in self.network.parameters()])

    def alphas(self) -> Tensor:
        return torch.cat([value.flatten() for value in self.params.values()])

    def edge_weights(self, half: str) -> list[Tensor]:
        assert half == "architecture"
        return [self.alphas()]

    def noise(self, state: None = None) -> None:
        """Nothing is drawn."""

    def regularization(self) -> Tensor:
        return self.r @ self.alphas()

    def loss(self, batch: Batch, path: Tensor, part: str) -> Tensor:
        a, w = path, self.weights()
        if batch is TRAIN:
            return w @ self.A @ w / 2 + a @ self.B @ w + self.c @ w
        assert batch is VALID
        return (w - self.t) @ (w - self.t) / 2 + a @ self.D @ a / 2 + a @ self.E @ w

    def weight_step(self) -> None:
        self.weight_optimizer.zero_grad()
        self.loss(TRAIN, self.alphas().detach(), "").backward()
        self.weight_optimizer.step()
        self.weight_optimizer.zero_grad()


def closed_form(state: QuadraticState, lr: float, decay: float, momentum: float, nesterov: bool) -> np.ndarray:
    """dL_valid(w', a)/da + r, with w' the inner step, by hand."""
    numbers = [state.weights(), state.alphas(), state.A, state.B, state.c, state.t, state.D, state.E, state.r]
    w, a, A, B, c, t, D, E, r = (value.detach().numpy() for value in numbers)
    buffers = [state.weight_optimizer.state[p].get("momentum_buffer") for p in state.network.parameters()]
    b = np.zeros(8) if buffers[0] is None else torch.cat([buffer.flatten() for buffer in buffers]).numpy()
    slope = A @ w + B.T @ a + c + decay * w
    inner = w - lr * ((1 + momentum) * slope + momentum**2 * b if nesterov else slope + momentum * b)
    by_slope = lr * (1 + momentum) if nesterov else lr
    return (D + D.T) @ a / 2 + E @ inner - by_slope * B @ (inner - t + E.T @ a) + r


@pytest.mark.parametrize("steps_before", [0, 3])
@pytest.mark.parametrize("decay", [0.0, 0.2])
@pytest.mark.parametrize(("momentum", "nesterov", "exact"), [(0, 0, 0), (0.9, 0, 0), (0.9, 1, 0), (0.9, 1, 1)])
def test_unrolled_gradient_equals_the_closed_form_on_a_quadratic(
    momentum: float, nesterov: bool, exact: bool, decay: float, steps_before: int
) -> None:
    state = QuadraticState(lr=0.05, momentum=momentum, nesterov=bool(nesterov), weight_decay=decay)
    for _ in range(steps_before):
        state.weight_step()
    expected = closed_form(state, 0.05, decay, momentum, exact)
    without_second_order = closed_form(state, 0.0, decay, momentum, exact)
    gradients, loss = Unrolled(exact_nesterov=bool(exact)).gradient(state, TRAIN, VALID)  # type: ignore[arg-type]
    assert [value.shape for value in gradients] == [(2, 2), (3,)]
    found = torch.cat([value.flatten() for value in gradients]).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    assert np.abs(expected - without_second_order).max() > 0.05
    assert math.isfinite(loss)


OTHERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.05, weight_decay=0.2),
    "adam": lambda weights: torch.optim.Adam(weights, lr=0.05, weight_decay=0.2),
    "rprop": lambda weights: torch.optim.Rprop(weights, lr=0.05),
}


@pytest.mark.parametrize("steps_before", [0, 2])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(("name", "decay"), [("sgd", 0.2), ("adam", 0.2), ("rprop", 0.0)])
def test_the_inner_step_is_plain_where_the_optimizer_has_no_momentum(
    name: str, decay: float, exact: bool, steps_before: int
) -> None:
    """What a group of the optimizer lacks counts as zero: momentum, nesterov, weight decay."""
    state = QuadraticState(lr=0.1)
    state.weight_optimizer = OTHERS[name](state.network.parameters())
    for _ in range(steps_before):
        state.weight_step()
    expected = closed_form(state, 0.05, decay, 0.0, nesterov=False)
    gradients, _ = Unrolled(exact_nesterov=exact).gradient(state, TRAIN, VALID)  # type: ignore[arg-type]
    np.testing.assert_allclose(flat(gradients).numpy(), expected, rtol=0, atol=1e-9)
    assert np.abs(expected - closed_form(state, 0.0, decay, 0.0, nesterov=False)).max() > 0.05


def test_exact_nesterov_differentiates_the_step_that_torch_takes() -> None:
    """Central differences of the validation loss after torch.optim.SGD's own nesterov step."""
    state = QuadraticState(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1)
    for _ in range(2):
        state.weight_step()

    def loss_after_real_step(name: str, place: int, shift: float) -> float:
        other = copy.deepcopy(state)
        with torch.no_grad():
            other.params[name].view(-1)[place] += shift
        other.weight_step()
        return float(other.loss(VALID, other.alphas(), "").detach() + other.regularization().detach())

    gradients, loss = Unrolled(exact_nesterov=True).gradient(state, TRAIN, VALID)  # type: ignore[arg-type]
    for name, gradient in zip(state.params, gradients, strict=True):
        for place in range(gradient.numel()):
            difference = loss_after_real_step(name, place, 1e-4) - loss_after_real_step(name, place, -1e-4)
            assert float(gradient.view(-1)[place]) == pytest.approx(difference / 2e-4, rel=1e-6, abs=1e-7)
    without_term = loss_after_real_step("extra", 0, 0.0) - float(state.regularization().detach())
    assert loss == pytest.approx(without_term, rel=1e-12), "the loss that is told is the validation loss alone"


def tiny_state(arch_step: ArchStep, batch_norm: str = "batch", dropout: float = 0.0, **changes: Any) -> SearchState:
    """A real supernet in float64 with 3 classes of 1 x 4 x 4 images."""
    torch.set_default_dtype(torch.float64)
    seed = torch.Generator().manual_seed(3)
    network = SuperNet(CellSpace(), 2, 1, num_classes=3, in_channels=1, batch_norm=batch_norm, generator=seed)
    if dropout:
        network.classifier = nn.Sequential(nn.Dropout(dropout), network.classifier)  # type: ignore[assignment]
    task = Classification(Fake(48, 3, 1, image_size=4), split=0.5, batch_size=8, seed=0, device=torch.device("cpu"))
    task.normalize = task.train.normalize = task.valid.normalize = lambda pixels: pixels.double() / 64 - 2
    weight_step = changes.pop("weight_step", SGDStep(lr=0.025, weight_decay=5e-4))
    optimizers = weight_step.make_optimizer, arch_step.make_optimizer
    relaxation = changes.pop("relaxation", Softmax(init_scale=0.5))
    return SearchState(network.space, network, relaxation, task, *optimizers, **changes)


def flat(values: list[Tensor] | Any) -> Tensor:
    return torch.cat([value.detach().flatten() for value in values])


def exact_hypergradient(
    state: SearchState, train: Batch, valid: Batch, nesterov: bool, scales: tuple[float, ...] = (1.0,)
) -> Tensor:
    """Automatic differentiation through one explicit inner step; losses are sums over a path a scale."""
    group = state.weight_optimizer.param_groups[0]
    lr, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
    weights = dict(state.network.named_parameters())
    buffers = [state.weight_optimizer.state[weight].get("momentum_buffer", 0.0) for weight in weights.values()]

    def loss(values: dict[str, Tensor], batch: Batch) -> Tensor:
        total = torch.zeros(())
        for scale in scales:
            mixture = EdgeWeights.dense(torch.softmax(scale * state.params["alpha_EO"], dim=-1))
            logits = torch.func.functional_call(state.network, values, (batch[0], mixture))
            total = total + nn.functional.cross_entropy(logits, batch[1])
        return total

    slopes = torch.autograd.grad(loss(weights, train), list(weights.values()), create_graph=True)
    inner = {}
    for (name, weight), slope, buffer in zip(weights.items(), slopes, buffers, strict=True):
        decayed = slope + decay * weight
        velocity = momentum * buffer + decayed
        inner[name] = weight - lr * (decayed + momentum * velocity if nesterov else velocity)
    return torch.autograd.grad(loss(inner, valid) + state.regularization(), state.params["alpha_EO"])[0]


def train_some(state: SearchState, steps: int, lr: float) -> None:
    for _ in range(steps):
        SGDStep()(state, state.task.train.next(), None)
    state.weight_optimizer.param_groups[0]["lr"] = lr


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("steps_before", [0, 3])
def test_unrolled_gradient_equals_exact_differentiation_of_a_supernet(steps_before: int, exact: bool) -> None:
    """In float64 with so small a radius that no ReLU switches inside it."""
    step = Unrolled(exact_nesterov=exact, radius=1e-6)
    state = tiny_state(step)
    train_some(state, steps_before, lr=0.2)
    train, valid = state.task.train.next(), state.task.valid.next()
    exactly = exact_hypergradient(state, train, valid, nesterov=exact)
    found = flat(step.gradient(state, train, valid)[0]).reshape(6, 5)
    assert float((found - exactly).norm() / exactly.norm()) < 1e-3
    state.weight_optimizer.param_groups[0]["lr"] = 0.0
    first_order = exact_hypergradient(state, train, valid, nesterov=exact)
    assert float((exactly - first_order).norm() / exactly.norm()) > 0.05, "the test would not see the second order"


def test_unrolled_gradient_with_dropout_equals_exact_finite_differences() -> None:
    """Dropout draws from torch's own generator: the objective is a function only if all passes see the same mask.

    In eight directions of the architecture parameters.
    """
    torch.manual_seed(0)
    step = Unrolled(radius=1e-8)
    state = tiny_state(step, dropout=0.5)
    train_some(state, 2, lr=0.2)
    train, valid = state.task.train.next(), state.task.valid.next()
    weights, noise = dict(state.network.named_parameters()), torch.get_rng_state()
    buffers = {name: state.weight_optimizer.state[weight]["momentum_buffer"] for name, weight in weights.items()}

    def loss(values: Mapping[str, Tensor], batch: Batch, alphas: Tensor) -> Tensor:
        torch.set_rng_state(noise)
        mixture = EdgeWeights.dense(torch.softmax(alphas, dim=-1))
        logits = torch.func.functional_call(state.network, dict(values), (batch[0], mixture))
        return nn.functional.cross_entropy(logits, batch[1])

    def objective(alphas: Tensor, lr: float = 0.2) -> float:
        leaves = {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}
        slopes = torch.autograd.grad(loss(leaves, train, alphas), list(leaves.values()))
        inner = {
            name: (leaf - lr * (slope + 5e-4 * leaf + 0.9 * buffers[name])).detach()
            for (name, leaf), slope in zip(leaves.items(), slopes, strict=True)
        }
        return float(loss(inner, valid, alphas))

    directions = waves(8, 6, 5, pace=1.3)

    def differences(lr: float = 0.2) -> Tensor:
        shifts = 1e-7 * directions  # so small that no ReLU changes sides
        return torch.tensor([objective(alphas + e, lr) - objective(alphas - e, lr) for e in shifts]) / 2e-7

    alphas = state.params["alpha_EO"].detach()
    exactly, first_order = differences(), differences(lr=0.0)
    torch.set_rng_state(noise)
    found = directions.flatten(1) @ flat(step.gradient(state, train, valid)[0])
    assert float((found - exactly).norm() / exactly.norm()) < 1e-3
    assert float((exactly - first_order).norm() / exactly.norm()) > 0.05, "the test would not see the second order"
    noise = torch.Generator().manual_seed(77).get_state()
    assert float((exactly - differences()).norm() / exactly.norm()) > 0.05, "the test would not see the mask"


@pytest.mark.parametrize(("make", "passes"), [(FirstOrder, 1), (Unrolled, 4)])
def test_all_passes_of_an_architecture_step_draw_the_same_and_the_weight_step_draws_anew(
    make: Callable[[], ArchStep], passes: int
) -> None:
    steps = Steps(SGDStep(), make())
    state = tiny_state(steps.architecture, dropout=0.5)
    seen: list[tuple[list[int], list[int]]] = []
    state.network.classifier[0].register_forward_pre_hook(
        lambda *_: seen.append((torch.get_rng_state().tolist(), state.sampling.get_state().tolist()))
    )

    class Drawing(Softmax):
        def __call__(
            self, params: Parameters, progress: float, generator: torch.Generator, half: str
        ) -> list[EdgeWeights]:
            torch.rand(1, generator=generator)
            return super().__call__(params, progress, generator, half)

    state.relaxation = Drawing()
    Bilevel().step(state, steps)
    assert len(seen) == passes + 1
    assert all(noise == seen[0] for noise in seen[:passes])
    assert seen[passes][0] != seen[0][0]
    assert seen[passes][1] != seen[0][1]


class SmoothState(QuadraticState):
    """Losses with curvature that changes: the finite difference is no longer exact."""

    def loss(self, batch: Batch, path: Tensor, part: str) -> Tensor:
        a, w = path, self.weights()
        inputs = self.A @ w / 4 + a @ self.B if batch is TRAIN else a @ self.E + w - self.t
        return nn.functional.softplus(2 * inputs).sum()


@pytest.mark.parametrize("exact", [False, True])
def test_unrolled_gradient_with_the_published_radius_is_right_to_a_thousandth_where_losses_are_smooth(
    exact: bool,
) -> None:
    """Not so on a supernet: between w + r v / |v| and w - r v / |v| many of its ReLUs switch."""
    state = SmoothState(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1)
    state.weight_step()
    gradients, _ = Unrolled(exact_nesterov=exact).gradient(state, TRAIN, VALID)  # type: ignore[arg-type]

    weights = list(state.network.parameters())
    slopes = torch.autograd.grad(state.loss(TRAIN, state.alphas(), ""), weights, create_graph=True)
    inner = []
    for weight, slope in zip(weights, slopes, strict=True):
        buffer = state.weight_optimizer.state[weight]["momentum_buffer"]
        velocity = 0.9 * buffer + slope + 0.1 * weight
        inner.append(weight - 0.05 * (slope + 0.1 * weight + 0.9 * velocity if exact else velocity))
    state.weights = lambda: torch.cat([value.flatten() for value in inner])  # type: ignore[method-assign]
    objective = state.loss(VALID, state.alphas(), "") + state.regularization()
    exactly = flat(torch.autograd.grad(objective, list(state.params.values())))
    assert float((flat(gradients) - exactly).norm() / exactly.norm()) < 1e-3


def test_first_order_gradient_equals_finite_differences_of_the_objective() -> None:
    step = FirstOrder()
    regularizers = [BetaDecay(3.0), ExpectedCost(CellSpace(), 0.5)]
    state = tiny_state(step, regularizers=regularizers)
    state.planned_steps, state.step = 10, 4
    train, valid = state.task.train.next(), state.task.valid.next()
    (found,), loss = step.gradient(state, train, valid)

    def objective(alphas: Tensor) -> float:
        mixture = EdgeWeights.dense(torch.softmax(alphas, dim=-1))
        with torch.no_grad():
            value = nn.functional.cross_entropy(state.network(valid[0], mixture), valid[1])
            terms = [term({"alpha_EO": alphas}, state.relaxation, 0.4) for term in regularizers]
        return float(value + sum(terms))

    alphas = state.params["alpha_EO"].detach()
    for place in range(30):
        shift = torch.zeros(30)
        shift[place] = 1e-5
        difference = objective(alphas + shift.reshape(6, 5)) - objective(alphas - shift.reshape(6, 5))
        assert float(found.view(-1)[place]) == pytest.approx(difference / 2e-5, rel=1e-5, abs=1e-8)
    terms = sum(float(term({"alpha_EO": alphas}, state.relaxation, 0.4)) for term in regularizers)
    assert loss == pytest.approx(objective(alphas) - terms), "the loss that is told is the validation loss alone"


class Several(Softmax):
    """A path a scale of the architecture parameters in the architecture step; one path in the weight step."""

    def __init__(self, *scales: float) -> None:
        super().__init__(init_scale=0.5)
        self.scales = {"architecture": scales, "weights": (1.0,)}

    def paths(self, half: str) -> int:
        return len(self.scales[half])

    def __call__(self, params: Parameters, progress: float, generator: torch.Generator, half: str) -> list[EdgeWeights]:
        scaled = 2 * params["alpha_EO"]  # a graph that the paths share
        return [EdgeWeights.dense(torch.softmax(scale / 2 * scaled, dim=-1)) for scale in self.scales[half]]


def test_gradients_of_several_paths_are_summed_and_every_path_counts_its_images() -> None:
    """The regularization is no path's: it counts once."""
    step, term = FirstOrder(), BetaDecay(3.0)
    state = tiny_state(step)
    train, valid = state.task.train.next(), state.task.valid.next()
    expected, losses = torch.zeros(30), []
    for scale in (1.0, 3.0, 0.5):
        state.relaxation = Softmax(1 / scale)
        gradients, loss = step.gradient(state, train, valid)
        expected += flat(gradients)
        losses.append(loss)
    state.regularizers, state.planned_steps, state.step = (term,), 10, 4
    decay = torch.autograd.grad(term(state.params, state.relaxation, 0.4), state.params["alpha_EO"])
    state.images, state.relaxation = 0, Several(1.0, 3.0, 0.5)
    gradients, loss = step.gradient(state, train, valid)
    torch.testing.assert_close(flat(gradients), expected + flat(decay), rtol=1e-10, atol=1e-12)
    assert loss == pytest.approx(sum(losses) / 3), "what is told is the mean over paths"
    assert state.images == 3 * 8
    assert step.passes(state.relaxation) == 3


@pytest.mark.parametrize("steps_before", [0, 3])
def test_unrolled_gradient_of_several_paths_equals_exact_differentiation(steps_before: int) -> None:
    """Inner step, validation loss and both sides of the difference take the sum over all paths."""
    step, scales = Unrolled(radius=1e-6), (1.0, 3.0, 0.5)
    state = tiny_state(step)
    train_some(state, steps_before, lr=0.2)
    train, valid = state.task.train.next(), state.task.valid.next()
    exactly = exact_hypergradient(state, train, valid, nesterov=False, scales=scales)
    first = exact_hypergradient(state, train, valid, nesterov=False)
    state.images, state.relaxation = 0, Several(*scales)
    found = flat(step.gradient(state, train, valid)[0]).reshape(6, 5)
    assert float((found - exactly).norm() / exactly.norm()) < 1e-3
    assert float((first - exactly).norm() / exactly.norm()) > 0.05
    assert state.images == 4 * 3 * 8
    assert step.passes(state.relaxation) == 4 * 3


@pytest.mark.parametrize("make", [FirstOrder, Unrolled])
def test_several_paths_need_the_memory_of_one(make: Callable[[], ArchStep], kept: Kept) -> None:
    """A path's graph is gone before the next one is built; the edge weights' own, a tensor a path, stays."""

    def most(*scales: float) -> int:
        step = make()
        state = tiny_state(step)
        state.relaxation = Several(*scales)
        with kept() as count:
            step(state, state.task.train.next(), state.task.valid.next())
        assert count.now == 0
        return count.most

    one, three = most(1.0), most(1.0, 3.0, 0.5)
    assert one > 50
    assert one <= three <= one + 2


def test_a_relaxation_gives_as_many_paths_as_it_announced() -> None:
    """Budgets in images count what is announced."""
    step = FirstOrder()
    state = tiny_state(step)
    state.relaxation = Several(1.0, 3.0)
    state.relaxation.paths = lambda half: 3  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"^relaxation: it gave 2 paths to architecture; its paths\(\) says 3"):
        step(state, state.task.train.next(), state.task.valid.next())


STEPS: list[Callable[[], ArchStep]] = [FirstOrder, Unrolled, lambda: Unrolled(exact_nesterov=True)]


def snapshot(state: SearchState) -> dict[str, Any]:
    """Bits of everything an architecture step must leave alone."""
    statistics = {
        name: value.clone() for name, value in state.network.named_buffers() if name.endswith(("mean", "var"))
    }
    weights = {name: value.detach().clone() for name, value in state.network.named_parameters()}
    buffers = copy.deepcopy(state.weight_optimizer.state_dict())
    return {"weights": weights, "statistics": statistics, "optimizer": buffers}


def assert_same_bits(before: dict[str, Any], after: dict[str, Any]) -> None:
    for part in ("weights", "statistics"):
        assert before[part].keys() == after[part].keys()
        assert all(torch.equal(value, after[part][name]) for name, value in before[part].items()), part
    for place, entry in before["optimizer"]["state"].items():
        assert torch.equal(entry["momentum_buffer"], after["optimizer"]["state"][place]["momentum_buffer"])


@pytest.mark.parametrize("make", STEPS)
@pytest.mark.parametrize("batch_norm", ["batch", "running"])
def test_architecture_step_leaves_the_network_bit_for_bit(make: Callable[[], ArchStep], batch_norm: str) -> None:
    step = make()
    state = tiny_state(step, batch_norm)
    train_some(state, 2, lr=0.1)
    before, alphas = snapshot(state), state.params["alpha_EO"].detach().clone()
    assert bool(before["statistics"]) == (batch_norm == "running")
    step(state, state.task.train.next(), state.task.valid.next())
    assert_same_bits(before, snapshot(state))
    assert all(weight.requires_grad and weight.grad is None for weight in state.network.parameters())
    assert not torch.equal(alphas, state.params["alpha_EO"]), "it did change the architecture"
    assert state.params["alpha_EO"].grad is None


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_weights_are_restored_when_a_loss_of_the_unrolled_step_raises(
    call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Unrolled()
    state = tiny_state(step, "running")
    train_some(state, 2, lr=0.1)
    before, alphas = snapshot(state), state.params["alpha_EO"].detach().clone()
    calls, real = 0, state.loss

    def failing(*arguments: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == call:
            raise NonFiniteLoss("the loss is nan")
        return real(*arguments)

    monkeypatch.setattr(state, "loss", failing)
    with pytest.raises(NonFiniteLoss):
        step(state, state.task.train.next(), state.task.valid.next())
    assert calls == call
    assert_same_bits(before, snapshot(state))
    assert torch.equal(alphas, state.params["alpha_EO"])
    assert all(weight.requires_grad for weight in state.network.parameters())


def test_running_statistics_belong_to_the_weight_step() -> None:
    state = tiny_state(FirstOrder(), "running")
    before = snapshot(state)["statistics"]
    SGDStep()(state, state.task.train.next(), None)
    after = snapshot(state)["statistics"]
    assert all(not torch.equal(value, after[name]) for name, value in before.items())


def test_first_order_step_needs_no_gradient_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    step = FirstOrder()
    state = tiny_state(step)
    seen = []
    real = state.loss

    def watching(batch: Batch, path: EdgeWeights, part: str) -> Tensor:
        seen.append((any(weight.requires_grad for weight in state.network.parameters()), path.weights.requires_grad))
        return real(batch, path, part)

    monkeypatch.setattr(state, "loss", watching)
    step(state, state.task.train.next(), state.task.valid.next())
    assert seen == [(False, True)]


@pytest.mark.parametrize(("make", "passes"), [(FirstOrder, 2), (Unrolled, 5)])
@pytest.mark.parametrize("order", ["architecture_first", "weights_first"])
def test_images_of_a_bilevel_step(make: Callable[[], ArchStep], passes: int, order: str) -> None:
    """A first-order step with batch B counts 2 B, an unrolled one 5 B: what really goes through the network."""
    steps = Steps(SGDStep(), make(), order)
    state = tiny_state(steps.architecture)
    seen: list[int] = []
    state.network.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    Bilevel().step(state, steps)
    assert state.images == sum(seen) == passes * 8
    assert Bilevel().passes(steps, state.relaxation) == passes


def test_architecture_update_is_adam_with_decay_added_to_the_gradient() -> None:
    step = FirstOrder(lr=0.01, betas=(0.5, 0.999), weight_decay=0.1)
    state = tiny_state(step)
    train, valid = state.task.train.next(), state.task.valid.next()
    mean, square = torch.zeros(6, 5), torch.zeros(6, 5)
    expected = state.params["alpha_EO"].detach().clone()
    for number in (1, 2, 3):
        slope = step.gradient(state, train, valid)[0][0] + 0.1 * expected
        mean, square = 0.5 * mean + 0.5 * slope, 0.999 * square + 0.001 * slope**2
        expected -= 0.01 * (mean / (1 - 0.5**number)) / ((square / (1 - 0.999**number)).sqrt() + 1e-8)
        step(state, train, valid)
        torch.testing.assert_close(state.params["alpha_EO"].detach(), expected, rtol=1e-10, atol=1e-12)


class Gated(Softmax):
    """Parameters beside alpha_EO: a gate an edge and one factor."""

    def init_params(self, shapes: Mapping[str, tuple[int, ...]], generator: torch.Generator) -> dict[str, Tensor]:
        beta_E = torch.linspace(-1.0, 1.0, shapes["alpha_EO"][0])
        return super().init_params(shapes, generator) | {"beta_E": beta_E, "gamma": torch.tensor(0.7)}

    def expected(self, params: Parameters, progress: float) -> EdgeWeights:
        weights_EO = super().expected(params, progress).weights
        return EdgeWeights.dense(params["gamma"] * torch.sigmoid(params["beta_E"])[:, None] * weights_EO)


def test_parameters_may_have_settings_of_their_own() -> None:
    """Adam written by hand for each of them; those that are not named have the step's."""
    own = {"beta_E": {"weight_decay": 0.0, "lr": 0.1}, "gamma": {"betas": [0.9, 0.99], "eps": 1e-3}}
    step = FirstOrder(lr=0.01, betas=(0.5, 0.999), weight_decay=0.2, own=own)
    state = tiny_state(step, relaxation=Gated(init_scale=0.5))
    train, valid = state.task.train.next(), state.task.valid.next()
    settings = {  # lr, betas, eps, decay
        "alpha_EO": (0.01, 0.5, 0.999, 1e-8, 0.2),
        "beta_E": (0.1, 0.5, 0.999, 1e-8, 0.0),
        "gamma": (0.01, 0.9, 0.99, 1e-3, 0.2),
    }
    expected = {name: value.detach().clone() for name, value in state.params.items()}
    moments = {name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in expected.items()}
    assert expected.keys() == settings.keys()
    for number in (1, 2, 3):
        slopes = dict(zip(state.params, step.gradient(state, train, valid)[0], strict=True))
        for name, (lr, first, second, eps, decay) in settings.items():
            slope = slopes[name] + decay * expected[name]
            mean, square = moments[name]
            mean, square = first * mean + (1 - first) * slope, second * square + (1 - second) * slope**2
            moments[name] = mean, square
            scale = (square / (1 - second**number)).sqrt() + eps
            expected[name] = expected[name] - lr * (mean / (1 - first**number)) / scale
        step(state, train, valid)
        for name, value in state.params.items():
            torch.testing.assert_close(value.detach(), expected[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("names", [["alpha_EO"], ["alpha_EO", "beta_E", "gamma"], []])
def test_every_parameter_is_in_one_group(names: list[str]) -> None:
    step = FirstOrder(lr=0.01, own={name: {"lr": 0.5} for name in names})
    state = tiny_state(step, relaxation=Gated())
    groups = state.arch_optimizer.param_groups
    rates = {id(value): group["lr"] for group in groups for value in group["params"]}
    assert sum(len(group["params"]) for group in groups) == 3
    assert {name: rates[id(value)] for name, value in state.params.items()} == {
        name: 0.5 if name in names else 0.01 for name in ("alpha_EO", "beta_E", "gamma")
    }


@pytest.mark.parametrize("make", [FirstOrder, Unrolled])
def test_wrong_settings_of_parameters_are_refused(make: type[ArchStep]) -> None:
    with pytest.raises(ValueError, match=r"^own: got momentum for beta_E; allowed are lr, betas, weight_decay, eps"):
        make(own={"beta_E": {"momentum": 0.9}})
    with pytest.raises(ValueError, match=r"^own: got 'beta_E'; the relaxation has alpha_EO$"):
        tiny_state(make(own={"beta_E": {"lr": 0.1}}))


def test_non_finite_loss_names_its_part() -> None:
    for make, part in ((FirstOrder, "validation loss"), (Unrolled, "training loss")):
        step = make()
        state = tiny_state(step)
        with torch.no_grad():
            state.network.classifier.weight.fill_(math.nan)
        with pytest.raises(NonFiniteLoss, match=f"{part} in the architecture step is nan"):
            step(state, state.task.train.next(), state.task.valid.next())


@pytest.mark.parametrize(
    ("make", "arguments", "option"),
    [
        (FirstOrder, {"lr": 0.0}, "lr"),
        (FirstOrder, {"lr": -1.0}, "lr"),
        (FirstOrder, {"lr": math.nan}, "lr"),
        (FirstOrder, {"betas": (0.5,)}, "betas"),
        (FirstOrder, {"betas": (0.5, 1.0)}, "betas"),
        (Unrolled, {"weight_decay": -1e-3}, "weight_decay"),
        (Unrolled, {"radius": 0.0}, "radius"),
    ],
)
def test_arguments_out_of_range_are_refused(make: type[ArchStep], arguments: dict[str, Any], option: str) -> None:
    with pytest.raises(ValueError, match=rf"^{option}: got"):
        make(**arguments)
