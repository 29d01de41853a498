"""Fitting one network, whoever asks: one loop, resumable at every step.

A training is a network, a task, a recipe, and a `FitState`, which is everything that changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from darts.run.seeding import make_generator, torch_noise
from darts.tasks.base import Batch, Task
from darts.training.groups import Groups, Network
from darts.training.recipe import Recipe
from darts.training.transfer import hold


class Diverged(Exception):
    """The loss stopped being a number."""


class FitState:
    """Weights, optimizer, position in data and schedule.

    Args:
        network, task, recipe: of the training.
        seed: of what the recipe draws.
        backbone: names of the tensors that came from another network, see `darts.training.transfer`.
        groups: how a batch is evaluated; one a process if None.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        recipe: Recipe,
        seed: int = 0,
        backbone: frozenset[str] = frozenset(),
        groups: Groups | None = None,
    ) -> None:
        self.network, self.task, self.backbone, self.groups = network, task, backbone, groups or Groups(network)
        self.optimizer = recipe.optimizer(network, backbone)
        self.averaged = recipe.averaged(network)
        self.generator = make_generator(seed, "recipe")
        self.step = 0
        self.rate = 1.0  # factor of all learning rates

    @property
    def judged(self) -> nn.Module:
        """The network whose answers count."""
        return self.network if self.averaged is None else self.averaged.module

    def mixing(self, recipe: Recipe, count: int) -> Mixing | None:
        """How a batch of so many is mixed, if it is."""
        if not recipe.mixup:
            return None
        seed = int(torch.randint(2**62, (), generator=self.generator))
        order_B = torch.randperm(count, generator=self.generator)
        return Mixing(np.random.default_rng(seed).beta(recipe.mixup, recipe.mixup), order_B.to(self.task.device))

    def shared(self) -> list[torch.Tensor]:
        """What the processes of a run have to have in common: weights, statistics, generators."""
        return [*self.judged.state_dict().values(), *self.network.state_dict().values(), torch.get_rng_state()]

    def state_dict(self) -> dict[str, Any]:
        """All of it, as tensors, numbers, lists and dicts."""
        averaged = {} if self.averaged is None else {"averaged": self.averaged.state_dict()}
        return {
            **averaged,
            "generator": self.generator.get_state(),
            "step": self.step,
            "rate": self.rate,
            "backbone": sorted(self.backbone),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "task": self.task.state_dict(),
            "noise": torch_noise(self.task.device),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state` was taken."""
        self.step, self.rate = state["step"], state["rate"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.task.load_state_dict(state["task"])
        torch_noise(self.task.device, state["noise"])
        self.generator.set_state(state["generator"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])


class FitMonitor:
    """Hooks of a training; override what is wanted."""

    def on_step(self, state: FitState, loss: torch.Tensor) -> None:
        """After every step."""

    def on_epoch(self, state: FitState) -> bool:
        """After every epoch; whether to train on."""
        return True


class Mixing(NamedTuple):
    """Of a batch with itself: the share of the first, and the order of the second."""

    share: float
    order_B: torch.Tensor


def fit_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    task: Task,
    batch: Batch,
    rate: float,
    mixing: Mixing | None = None,
    bfloat16: bool = False,
    auxiliary: float = 0.0,
    grad_clip: float | None = None,
    groups: Groups | None = None,
) -> torch.Tensor:
    """One step of a training at a learning rate; returns the loss before it. With `bfloat16`, convolutions and
    activations are of that type (autocast), weights, losses and the optimizer stay as they are. A network may give a
    second output, whose loss has the weight `auxiliary`. A batch is evaluated in groups, or as one.

    Raises:
        Diverged: the loss is no longer finite; the weights stay as they are.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
    inputs, targets = batch
    tensors = [inputs, targets]
    if mixing is not None:
        tensors = [inputs.lerp(inputs[mixing.order_B], 1 - mixing.share), targets, targets[mixing.order_B]]

    def of_part(network: Network, part: tuple[torch.Tensor, ...]) -> torch.Tensor:
        def loss_of(outputs: torch.Tensor) -> torch.Tensor:
            if bfloat16:
                outputs = outputs.float()
            if mixing is None:
                return task.loss(outputs, part[1])
            return mixing.share * task.loss(outputs, part[1]) + (1 - mixing.share) * task.loss(outputs, part[2])

        with torch.autocast(task.device.type, torch.bfloat16, enabled=bfloat16):
            found = network(part[0])
        return loss_of(found) if torch.is_tensor(found) else loss_of(found[0]) + auxiliary * loss_of(found[1])

    loss = of_part(network, tuple(tensors)) if groups is None else groups.mean(of_part, *tensors)
    if not torch.isfinite(loss):
        raise Diverged(f"the loss is {loss.item()}")
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if grad_clip is not None:
        nn.utils.clip_grad_norm_(network.parameters(), grad_clip)
    optimizer.step()
    return loss


def fit(
    network: nn.Module,
    task: Task,
    recipe: Recipe,
    state: FitState | None = None,
    monitors: Sequence[FitMonitor] = (),
    bfloat16: bool = False,
) -> FitState:
    """Train a network on the task's weight part.

    Args:
        network: from inputs to outputs, on the task's device.
        task: batches, loss and metric.
        recipe: the training.
        state: where to begin, or to go on; anew if None.
        monitors: told of steps and epochs; any of them may end the training after an epoch.
        bfloat16: see `fit_step`.

    Raises:
        Diverged: the loss is no longer finite.
    """
    state = state or FitState(network, task, recipe)
    steps = recipe.epochs * task.steps_per_epoch
    while state.step < steps:
        try:
            rate = state.rate * recipe.learning_rate(state.step / steps)
            if state.backbone:
                hold(network, state.backbone, state.step < recipe.frozen_epochs * task.steps_per_epoch)
            if recipe.drop_path:
                network.drop_path = recipe.drop_path * (state.step // task.steps_per_epoch) / recipe.epochs  # type: ignore[assignment]
            batch = task.train.next()
            mixing = state.mixing(recipe, len(batch[1]))
            loss = fit_step(
                network, state.optimizer, task, batch, rate, mixing, bfloat16, recipe.auxiliary, recipe.grad_clip,
                state.groups,
            )  # fmt: skip
        except Diverged as error:
            raise Diverged(f"{error} at step {state.step} of {steps}") from None
        state.step += 1
        if state.averaged is not None:
            state.averaged.update_parameters(network)
        for monitor in monitors:
            monitor.on_step(state, loss)
        if state.step % task.steps_per_epoch == 0:
            answers = [monitor.on_epoch(state) for monitor in monitors]  # all of them hear of it
            if not all(answers):
                break
    return state


@torch.no_grad()
def evaluate(network: nn.Module, task: Task) -> float:
    """The task's metric on the architecture part, with the network in evaluation mode."""
    value = task.judge(network.eval())
    network.train()
    return value


def initialised(network: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights anew from a generator: as the network's own `init_weights` does, or by He et al. 2015
    (arXiv:1502.01852) for convolutions and linear layers."""
    if hasattr(network, "init_weights"):
        network.init_weights(generator)  # type: ignore[operator]
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, 0.0, math.sqrt(2 / fan_in), generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
