from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from darts.arch_steps.first_order import FirstOrder
from darts.batches import Batch
from darts.datasets.fake import Fake
from darts.state import NonFiniteLoss, SearchState
from darts.task import Classification
from darts.weight_steps.sgd import SGDStep
from supernet.network import SuperNet
from supernet.relaxations.base import EdgeWeights
from supernet.relaxations.softmax import Softmax
from supernet.search_space import SearchSpace


def tiny_state(weight_step: SGDStep, init_scale: float = 0.5) -> SearchState:
    torch.set_default_dtype(torch.float64)
    network = SuperNet(SearchSpace(), 2, 1, num_classes=3, in_channels=1, generator=torch.Generator().manual_seed(1))
    task = Classification(Fake(48, 3, 1, image_size=4), split=0.5, batch_size=8, seed=0, device=torch.device("cpu"))
    task.normalize = task.train.normalize = task.valid.normalize = lambda pixels: pixels.double() / 64 - 2
    return SearchState(network, Softmax(init_scale=init_scale), task, weight_step, FirstOrder())


def slopes(state: SearchState, weights: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """Gradient of the training loss at the given weights."""
    leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
    mixture = EdgeWeights.dense(torch.softmax(state.params["alpha_EO"].detach(), dim=-1))
    logits = torch.func.functional_call(state.network, leaves, (batch[0], mixture))
    gradients = torch.autograd.grad(nn.functional.cross_entropy(logits, batch[1]), list(leaves.values()))
    return dict(zip(leaves, gradients, strict=True))


@pytest.mark.parametrize("clip", [None, 0.05, 100.0])
@pytest.mark.parametrize("nesterov", [True, False])
def test_steps_equal_momentum_sgd_written_by_hand(nesterov: bool, clip: float | None) -> None:
    """Sutskever et al. 2013 as torch has it: v = m v + g + decay w; w -= lr (g + decay w + m v), or lr v."""
    step = SGDStep(lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.01, grad_clip=clip)
    state = tiny_state(step)
    weights = {name: value.detach().clone() for name, value in state.network.named_parameters()}
    velocity = {name: torch.zeros_like(value) for name, value in weights.items()}
    norms = []
    for _ in range(3):
        batch = state.task.train.next()
        gradient = slopes(state, weights, batch)
        norms.append(math.sqrt(sum(float((value**2).sum()) for value in gradient.values())))
        shrink = min(1.0, clip / norms[-1]) if clip is not None else 1.0
        for name, value in gradient.items():
            slope = shrink * value + 0.01 * weights[name]
            velocity[name] = 0.9 * velocity[name] + slope
            weights[name] = weights[name] - 0.1 * (slope + 0.9 * velocity[name] if nesterov else velocity[name])
        step(state, batch, None)
        for name, value in state.network.named_parameters():
            torch.testing.assert_close(
                value.detach(), weights[name], rtol=1e-5, atol=1e-8
            )  # torch clips to norm + 1e-6
    assert 0.05 < min(norms) <= max(norms) < 100, "one of the clips must bite, the other not"


def test_loss_that_is_told_is_the_mean_cross_entropy_before_the_step() -> None:
    state = tiny_state(SGDStep())
    batch = state.task.train.next()
    with torch.no_grad():
        mixture = EdgeWeights.dense(torch.softmax(state.params["alpha_EO"], dim=-1))
        chances = torch.softmax(state.network(batch[0], mixture), dim=1)
    expected = -sum(math.log(float(row[label])) for row, label in zip(chances, batch[1], strict=True)) / 8
    assert SGDStep()(state, batch, None)["train_loss"] == pytest.approx(expected, rel=1e-12)
    assert state.images == 8


def test_architecture_parameters_need_no_gradient_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    state = tiny_state(SGDStep())
    alphas, seen = state.params["alpha_EO"].detach().clone(), []
    real = state.loss

    def watching(batch: Batch, paths: list[EdgeWeights], part: str) -> Tensor:
        seen.append(any(path.weights.requires_grad for path in paths))
        return real(batch, paths, part)

    monkeypatch.setattr(state, "loss", watching)
    before = [value.detach().clone() for value in state.network.parameters()]
    SGDStep()(state, state.task.train.next(), None)
    assert seen == [False]
    assert torch.equal(alphas, state.params["alpha_EO"])
    assert state.params["alpha_EO"].grad is None
    assert all(value.grad is None for value in state.network.parameters()), "gradients are released after the step"
    assert all(not torch.equal(a, b) for a, b in zip(before, state.network.parameters(), strict=True))


@pytest.mark.parametrize(("lr", "lr_min", "steps"), [(0.025, 0.001, 50), (0.1, 0.0, 7), (0.05, 0.05, 3), (1.0, 0.1, 1)])
def test_schedule_equals_cosine_annealing_of_torch(lr: float, lr_min: float, steps: int) -> None:
    step = SGDStep(lr=lr, lr_min=lr_min)
    mine, theirs = (step.make_optimizer([nn.Parameter(torch.zeros(1))]) for _ in range(2))
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=steps, eta_min=lr_min)
    for done in range(steps):
        step.schedule(SimpleNamespace(weight_optimizer=mine, progress=done / steps))  # type: ignore[arg-type]
        assert mine.param_groups[0]["lr"] == pytest.approx(annealing.get_last_lr()[0], rel=1e-9, abs=1e-12)
        theirs.step()
        annealing.step()
    step.schedule(SimpleNamespace(weight_optimizer=mine, progress=1.0))  # type: ignore[arg-type]
    assert mine.param_groups[0]["lr"] == pytest.approx(lr_min, abs=1e-15)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_loss_stops_before_anything_is_updated(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tiny_state(SGDStep())
    monkeypatch.setattr(state.task, "loss", lambda logits, labels: logits.sum() * 0 + value)
    before = [weight.detach().clone() for weight in state.network.parameters()]
    with pytest.raises(NonFiniteLoss, match="training loss in the weight step"):
        SGDStep()(state, state.task.train.next(), None)
    assert all(torch.equal(a, b) for a, b in zip(before, state.network.parameters(), strict=True))


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ({"lr": 0.0, "lr_min": 0.0}, "lr"),
        ({"lr": -0.1}, "lr"),
        ({"lr": 0.01, "lr_min": 0.02}, "lr"),
        ({"lr": math.nan}, "lr"),
        ({"lr_min": -0.001}, "lr"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": 0.0, "nesterov": True}, "momentum"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"weight_decay": math.nan}, "weight_decay"),
        ({"grad_clip": 0.0}, "grad_clip"),
        ({"grad_clip": -5.0}, "grad_clip"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], option: str) -> None:
    with pytest.raises(ValueError, match=rf"^{option}\b.*got"):
        SGDStep(**arguments)


def test_momentum_may_be_zero_without_nesterov() -> None:
    assert SGDStep(momentum=0.0, nesterov=False).make_optimizer([nn.Parameter(torch.zeros(1))])
