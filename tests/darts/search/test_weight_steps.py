from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from searching import tiny_state
from torch import Tensor, nn

from darts.search.diverging import NonFiniteLoss
from darts.search.state import SearchState
from darts.search.weight_steps.sgd import SGDStep
from darts.tasks.base import Batch
from supernet.cell import SearchCell
from supernet.relaxations.base import EdgeWeights, Parameters, Relaxation

Kept = Callable[[], AbstractContextManager[SimpleNamespace]]


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

    def watching(batch: Batch, path: EdgeWeights, part: str) -> Tensor:
        seen.append(path.weights.requires_grad)
        return real(batch, path, part)

    monkeypatch.setattr(state, "loss", watching)
    before = [value.detach().clone() for value in state.network.parameters()]
    SGDStep()(state, state.task.train.next(), None)
    assert seen == [False]
    assert torch.equal(alphas, state.params["alpha_EO"])
    assert state.params["alpha_EO"].grad is None
    assert all(value.grad is None for value in state.network.parameters()), "gradients are released after the step"
    assert all(not torch.equal(a, b) for a, b in zip(before, state.network.parameters(), strict=True))


class Given(Relaxation):
    """Step after step the paths of a list: for the weights, whatever the parameters."""

    def __init__(self, *steps: list[EdgeWeights]) -> None:
        super().__init__(0.5)
        self.steps, self.asked = steps, 0

    def paths(self, half: str) -> int:
        return len(self.steps[0]) if half == "weights" else 1

    def __call__(self, params: Parameters, progress: float, generator: torch.Generator, half: str) -> list[EdgeWeights]:
        assert half == "weights"
        self.asked += 1
        return self.steps[self.asked - 1]

    def expected(self, params: Parameters, progress: float) -> EdgeWeights:
        return EdgeWeights.dense(torch.softmax(params["alpha_EO"], dim=-1))


MIXTURES = [torch.softmax(torch.sin(pace * torch.arange(30.0).double()).reshape(6, 5), dim=-1) for pace in (1.1, 2, 3)]


def test_gradients_of_several_paths_are_summed_and_every_path_counts_its_images() -> None:
    step = SGDStep(lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0)
    state = tiny_state(step, relaxation=Given([EdgeWeights.dense(mixture) for mixture in MIXTURES]))
    weights = {name: value.detach().clone() for name, value in state.network.named_parameters()}
    batch = state.task.train.next()
    summed, losses = {name: torch.zeros_like(value) for name, value in weights.items()}, []
    for mixture in MIXTURES:
        leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
        logits = torch.func.functional_call(state.network, leaves, (batch[0], EdgeWeights.dense(mixture)))
        loss = nn.functional.cross_entropy(logits, batch[1])
        for value, slope in zip(summed.values(), torch.autograd.grad(loss, leaves.values()), strict=True):
            value += slope
        losses.append(loss.item())
    numbers = step(state, batch, None)
    for name, value in state.network.named_parameters():
        torch.testing.assert_close(value.detach(), weights[name] - 0.1 * summed[name], rtol=1e-10, atol=1e-12)
    assert numbers["train_loss"] == pytest.approx(sum(losses) / 3), "what is told is the mean over paths"
    assert state.images == 3 * 8
    assert step.passes(state.relaxation) == 3


def test_several_paths_need_the_memory_of_one(kept: Kept) -> None:
    """A path's graph is gone before the next one is built."""

    def most(number: int) -> int:
        step = SGDStep()
        state = tiny_state(step, relaxation=Given([EdgeWeights.dense(mixture) for mixture in MIXTURES[:number]]))
        with kept() as count:
            step(state, state.task.train.next(), None)
        assert count.now == 0
        return count.most

    assert most(3) == most(1) > 50


# --- sampled paths: convolutions that leave a node share one tensor, and some of its rows rest ---

LIVE = [[3, 3, 2, 1, 3, 2], [2, 3, 3, 3, 2, 3], [3, 1, 2, 2, 3, 4]]  # operations by edge; no `none`: all edges live
Rows = dict[str, Tensor]


def computed_rows(network: nn.Module, paths: list[list[int]]) -> Rows:
    """By parameter, which rows some path computes: those of an edge where it has that convolution, all of others."""
    marks = {name: torch.ones(len(value), dtype=torch.bool) for name, value in network.named_parameters()}
    edges = [(source, target) for target in range(1, 4) for source in range(target)]
    for name, cell in network.named_modules():
        if not isinstance(cell, SearchCell):
            continue
        for source in range(3):
            leaving = [edge for edge, pair in enumerate(edges) if pair[0] == source]
            for operation in (2, 3):
                chosen = [any(path[edge] == operation for path in paths) for edge in leaving]
                marks[f"{name}.stacked.{source}:{operation}.weight"] = torch.tensor(chosen).repeat_interleave(
                    cell.channels
                )
    return marks


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("number", [1, 2])
def test_rows_that_no_path_computes_rest_and_the_others_move_as_sgd_written_by_hand(
    number: int, nesterov: bool
) -> None:
    """Bit for bit, momentum buffers too; a row that is sampled again goes on from its own momentum."""
    order = [0, 1, 1, 2, 0, 2, 1, 0]
    drawn = [[LIVE[place]] if number == 1 else [LIVE[place], LIVE[(place + 1) % 3]] for place in order]
    relaxation = Given(*([EdgeWeights.one_hot(path, 5, torch.float64) for path in paths] for paths in drawn))
    step = SGDStep(lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.05)
    state = tiny_state(step, relaxation=relaxation)
    weights = {name: value.detach().clone() for name, value in state.network.named_parameters()}
    velocity = {name: torch.zeros_like(value) for name, value in weights.items()}
    rested = resumed = 0
    for paths in drawn:
        batch, marks = state.task.train.next(), computed_rows(state.network, paths)
        slopes = {name: torch.zeros_like(value) for name, value in weights.items()}
        for path in paths:
            leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
            mixture = EdgeWeights.dense(nn.functional.one_hot(torch.tensor(path), 5).double())
            logits = torch.func.functional_call(state.network, leaves, (batch[0], mixture))
            loss = nn.functional.cross_entropy(logits, batch[1])
            for name, slope in zip(leaves, torch.autograd.grad(loss, leaves.values()), strict=True):
                slopes[name] += slope
        before = {name: value.detach().clone() for name, value in state.network.named_parameters()}
        buffers = {name: buffer_of(state, name) for name in weights}
        step(state, batch, None)
        for name, value in state.network.named_parameters():
            moving = marks[name].reshape(-1, *[1] * (value.dim() - 1))
            slope = slopes[name] + 0.05 * weights[name]
            resumed += int((moving & (velocity[name] != 0)).any())
            velocity[name] = torch.where(moving, 0.9 * velocity[name] + slope, velocity[name])
            change = slope + 0.9 * velocity[name] if nesterov else velocity[name]
            weights[name] = torch.where(moving, weights[name] - 0.1 * change, weights[name])
            rest = ~marks[name]
            rested += int(rest.sum())
            assert torch.equal(value[rest], before[name][rest]), name
            assert torch.equal(buffer_of(state, name)[rest], buffers[name][rest]), name
            torch.testing.assert_close(value.detach(), weights[name], rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(buffer_of(state, name), velocity[name], rtol=1e-9, atol=1e-12)
    assert rested > 0 < resumed


def buffer_of(state: SearchState, name: str) -> Tensor:
    """Momentum of a parameter; zero before its first step."""
    value = state.network.get_parameter(name)
    found = state.weight_optimizer.state.get(value, {}).get("momentum_buffer")
    return torch.zeros_like(value) if found is None else found.clone()


@pytest.mark.parametrize(
    ("paths", "live"),
    [
        # 1<-0 leads to node 1 alone, which leads nowhere
        ([[3, 3, 0, 3, 0, 1]], [False, True, True]),
        # each path has half of the way 0 -> 1 -> 3; neither has all of it
        ([[3, 3, 0, 3, 0, 1], [0, 3, 0, 3, 3, 1]], [False, True, True]),
        # the second path has all of it
        ([[0, 3, 0, 3, 0, 1], [3, 3, 0, 3, 3, 1]], [True, True, True]),
    ],
    ids=["a dead end", "dead in either path", "alive in one"],
)
def test_an_edge_that_no_value_comes_through_rests(paths: list[list[int]], live: list[bool]) -> None:
    """The 3x3 convolutions that leave the input are one tensor, of the edges 1<-0, 2<-0 and 3<-0."""
    relaxation = Given([EdgeWeights.one_hot(path, 5, torch.float64) for path in paths])
    step = SGDStep(lr=0.1, weight_decay=0.05)
    state = tiny_state(step, relaxation=relaxation)
    stack = state.network.layers[0].stacked["0:3"].weight  # type: ignore[union-attr, index]
    before = stack.detach().clone()
    step(state, state.task.train.next(), None)
    moved = (stack.detach() != before).reshape(3, -1).any(dim=1)
    assert moved.tolist() == live


@pytest.mark.parametrize(
    "beside", [{"extra_skip": torch.full((6,), 0.5).double()}, {"partial": 2}], ids=["extra skip", "partial"]
)
def test_rows_that_an_extra_skip_or_partial_channels_keep_alive_move(beside: dict[str, Any]) -> None:
    """What passes by carries node 2 to the output although its operation there is `none`."""
    path = replace(EdgeWeights.one_hot([1, 3, 0, 3, 0, 0], 5, torch.float64), **beside)
    step = SGDStep(lr=0.1)
    state = tiny_state(step, relaxation=Given([path]))
    stack = state.network.layers[2].stacked["0:3"].weight  # type: ignore[union-attr, index]
    batch, before = state.task.train.next(), stack.detach().clone()
    loss = nn.functional.cross_entropy(state.network(batch[0], path), batch[1])
    (slope,) = torch.autograd.grad(loss, stack)
    assert (slope != 0).reshape(3, -1).any(dim=1).tolist() == [False, True, True]
    step(state, batch, None)
    assert (stack.detach() != before).reshape(3, -1).any(dim=1).tolist() == [False, True, True]


@pytest.mark.parametrize(("lr", "lr_min", "steps"), [(0.025, 0.001, 50), (0.1, 0.0, 7), (0.05, 0.05, 3), (1.0, 0.1, 1)])
def test_schedule_equals_cosine_annealing_of_torch(lr: float, lr_min: float, steps: int) -> None:
    step = SGDStep(lr=lr, lr_min=lr_min)
    mine, theirs = (step.make_optimizer([nn.Parameter(torch.zeros(1))]) for _ in range(2))
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=steps, eta_min=lr_min)
    for done in range(steps):
        step.schedule(SimpleNamespace(weight_optimizer=mine, progress=done / steps, rate=1.0))  # type: ignore[arg-type]
        assert mine.param_groups[0]["lr"] == pytest.approx(annealing.get_last_lr()[0], rel=1e-9, abs=1e-12)
        theirs.step()
        annealing.step()
    step.schedule(SimpleNamespace(weight_optimizer=mine, progress=1.0, rate=1.0))  # type: ignore[arg-type]
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
