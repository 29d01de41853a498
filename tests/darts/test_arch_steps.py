from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from darts.arch_steps.base import ArchStep
from darts.arch_steps.first_order import FirstOrder
from darts.arch_steps.unrolled import Unrolled
from darts.batches import Batch
from darts.datasets.fake import Fake
from darts.phases import Bilevel, Steps
from darts.regularizers.beta_decay import BetaDecay
from darts.regularizers.expected_flops import ExpectedFlops
from darts.state import NonFiniteLoss, SearchState
from darts.task import Classification
from darts.weight_steps.sgd import SGDStep
from supernet.network import SuperNet
from supernet.relaxations.base import EdgeWeights, Parameters
from supernet.relaxations.softmax import Softmax
from supernet.search_space import NAS_BENCH_201, SearchSpace

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
        self.sampling = torch.Generator().manual_seed(0)
        self.weight_optimizer = torch.optim.SGD(self.network.parameters(), **optimizer)
        self.device, self.progress = torch.device("cpu"), 0.0

    def weights(self) -> Tensor:
        return torch.cat([value.flatten() for value in self.network.parameters()])

    def alphas(self) -> Tensor:
        return torch.cat([value.flatten() for value in self.params.values()])

    def edge_weights(self) -> list[Tensor]:
        return [self.alphas()]

    def regularization(self) -> Tensor:
        return self.r @ self.alphas()

    def loss(self, batch: Batch, paths: list[Tensor], part: str) -> Tensor:
        (a,), w = paths, self.weights()
        if batch is TRAIN:
            return w @ self.A @ w / 2 + a @ self.B @ w + self.c @ w
        assert batch is VALID
        return (w - self.t) @ (w - self.t) / 2 + a @ self.D @ a / 2 + a @ self.E @ w

    def sgd_step(self) -> None:
        self.weight_optimizer.zero_grad()
        self.loss(TRAIN, [self.alphas().detach()], "").backward()
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
        state.sgd_step()
    expected = closed_form(state, 0.05, decay, momentum, exact)
    without_second_order = closed_form(state, 0.0, decay, momentum, exact)
    gradients, loss = Unrolled(exact_nesterov=bool(exact)).gradient(state, TRAIN, VALID)  # type: ignore[arg-type]
    assert [value.shape for value in gradients] == [(2, 2), (3,)]
    found = torch.cat([value.flatten() for value in gradients]).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    assert np.abs(expected - without_second_order).max() > 0.05
    assert math.isfinite(loss)


def test_exact_nesterov_differentiates_the_step_that_torch_takes() -> None:
    """Central differences of the validation loss after torch.optim.SGD's own nesterov step."""
    state = QuadraticState(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1)
    for _ in range(2):
        state.sgd_step()

    def loss_after_real_step(name: str, place: int, shift: float) -> float:
        other = copy.deepcopy(state)
        with torch.no_grad():
            other.params[name].view(-1)[place] += shift
        other.sgd_step()
        paths = other.edge_weights()
        return float(other.loss(VALID, paths, "").detach() + other.regularization().detach())

    gradients, loss = Unrolled(exact_nesterov=True).gradient(state, TRAIN, VALID)  # type: ignore[arg-type]
    for name, gradient in zip(state.params, gradients, strict=True):
        for place in range(gradient.numel()):
            difference = loss_after_real_step(name, place, 1e-4) - loss_after_real_step(name, place, -1e-4)
            assert float(gradient.view(-1)[place]) == pytest.approx(difference / 2e-4, rel=1e-6, abs=1e-7)
    without_term = loss_after_real_step("extra", 0, 0.0) - float(state.regularization().detach())
    assert loss == pytest.approx(without_term, rel=1e-12), "the loss that is told is the validation loss alone"


def tiny_state(arch_step: ArchStep, batch_norm: str = "batch", **changes: Any) -> SearchState:
    """A real supernet in float64 with 3 classes of 1 x 4 x 4 images."""
    torch.set_default_dtype(torch.float64)
    seed = torch.Generator().manual_seed(3)
    network = SuperNet(SearchSpace(), 2, 1, num_classes=3, in_channels=1, batch_norm=batch_norm, generator=seed)
    task = Classification(Fake(48, 3, 1, image_size=4), split=0.5, batch_size=8, seed=0, device=torch.device("cpu"))
    task.normalize = task.train.normalize = task.valid.normalize = lambda pixels: pixels.double() / 64 - 2
    weight_step = changes.pop("weight_step", SGDStep(lr=0.025, weight_decay=5e-4))
    return SearchState(network, Softmax(init_scale=0.5), task, weight_step, arch_step, **changes)


def flat(values: list[Tensor] | Any) -> Tensor:
    return torch.cat([value.detach().flatten() for value in values])


def exact_hypergradient(state: SearchState, train: Batch, valid: Batch, nesterov: bool) -> Tensor:
    """Automatic differentiation through one explicit inner step."""
    group = state.weight_optimizer.param_groups[0]
    lr, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
    weights = dict(state.network.named_parameters())
    buffers = [state.weight_optimizer.state[weight].get("momentum_buffer", 0.0) for weight in weights.values()]

    def loss(values: dict[str, Tensor], batch: Batch) -> Tensor:
        mixture = EdgeWeights.dense(torch.softmax(state.params["alpha_EO"], dim=-1))
        logits = torch.func.functional_call(state.network, values, (batch[0], mixture))
        return nn.functional.cross_entropy(logits, batch[1])

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


class SmoothState(QuadraticState):
    """Losses with curvature that changes: the finite difference is no longer exact."""

    def loss(self, batch: Batch, paths: list[Tensor], part: str) -> Tensor:
        (a,), w = paths, self.weights()
        inputs = self.A @ w / 4 + a @ self.B if batch is TRAIN else a @ self.E + w - self.t
        return nn.functional.softplus(2 * inputs).sum()


@pytest.mark.parametrize("exact", [False, True])
def test_unrolled_gradient_with_the_published_radius_is_right_to_a_thousandth_where_losses_are_smooth(
    exact: bool,
) -> None:
    """Not so on a supernet: between w + r v / |v| and w - r v / |v| many of its ReLUs switch."""
    state = SmoothState(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1)
    state.sgd_step()
    gradients, _ = Unrolled(exact_nesterov=exact).gradient(state, TRAIN, VALID)  # type: ignore[arg-type]

    weights, paths = list(state.network.parameters()), state.edge_weights()
    slopes = torch.autograd.grad(state.loss(TRAIN, paths, ""), weights, create_graph=True)
    inner = []
    for weight, slope in zip(weights, slopes, strict=True):
        buffer = state.weight_optimizer.state[weight]["momentum_buffer"]
        velocity = 0.9 * buffer + slope + 0.1 * weight
        inner.append(weight - 0.05 * (slope + 0.1 * weight + 0.9 * velocity if exact else velocity))
    state.weights = lambda: torch.cat([value.flatten() for value in inner])  # type: ignore[method-assign]
    objective = state.loss(VALID, paths, "") + state.regularization()
    exactly = flat(torch.autograd.grad(objective, list(state.params.values())))
    assert float((flat(gradients) - exactly).norm() / exactly.norm()) < 1e-3


def test_first_order_gradient_equals_finite_differences_of_the_objective() -> None:
    step = FirstOrder()
    regularizers = [BetaDecay(3.0), ExpectedFlops(NAS_BENCH_201, 0.5)]
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


def test_gradients_of_several_paths_are_summed_and_every_path_counts_its_images() -> None:
    class TwoPaths(Softmax):
        def __call__(self, params: Parameters, progress: float, generator: torch.Generator) -> list[EdgeWeights]:
            alphas = params["alpha_EO"]
            return [EdgeWeights.dense(torch.softmax(scale * alphas, dim=-1)) for scale in (1.0, 3.0)]

    step = FirstOrder()
    state = tiny_state(step)
    train, valid = state.task.train.next(), state.task.valid.next()
    alone = []
    for temperature in (1.0, 1 / 3):
        state.relaxation = Softmax(temperature)
        alone.append((flat(step.gradient(state, train, valid)[0]), step.gradient(state, train, valid)[1]))
    state.images, state.relaxation = 0, TwoPaths()
    gradients, loss = step.gradient(state, train, valid)
    torch.testing.assert_close(flat(gradients), alone[0][0] + alone[1][0], rtol=1e-10, atol=1e-12)
    assert loss == pytest.approx((alone[0][1] + alone[1][1]) / 2), "what is told is the mean over paths"
    assert state.images == 2 * 8


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

    def watching(batch: Batch, paths: list[EdgeWeights], part: str) -> Tensor:
        seen.append(
            (any(weight.requires_grad for weight in state.network.parameters()), paths[0].weights.requires_grad)
        )
        return real(batch, paths, part)

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
    assert Bilevel().passes(steps) == passes


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
