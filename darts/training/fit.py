"""Fitting one network, whoever asks: one loop, resumable at every step.

A training is a network, a task, a recipe, and a `FitState`, which is everything that changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from darts.run.seeding import torch_noise
from darts.tasks.base import Batch, Task
from darts.training.schedules import cosine


class Diverged(Exception):
    """The loss stopped being a number."""


@dataclass(frozen=True)
class Recipe:
    """SGD under a cosine schedule, as NAS-Bench-201 trains (arXiv:2001.00326, table 2), for `epochs`.

    Attributes:
        epochs: passes over the task's weight part.
        lr, lr_min: first and last learning rate.
        momentum, nesterov, weight_decay: as in torch.optim.SGD.

    Raises:
        ValueError: a value out of range.
    """

    epochs: int
    lr: float = 0.1
    lr_min: float = 0.0
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs: got {self.epochs}; give 1 or more")
        if not 0 <= self.lr_min <= self.lr < math.inf or self.lr == 0:
            raise ValueError(f"lr: got {self.lr}; give a rate above 0, at least lr_min={self.lr_min}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay: got {self.weight_decay}; give 0 or more")

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of a training that begins."""
        return torch.optim.SGD(
            network.parameters(), self.lr, momentum=self.momentum, nesterov=self.nesterov,
            weight_decay=self.weight_decay,
        )  # fmt: skip

    def learning_rate(self, progress: float) -> float:
        """At a share of the training that is done, in [0, 1]."""
        return cosine(progress, self.lr, self.lr_min)


class FitState:
    """Weights, optimizer, position in data and schedule."""

    def __init__(self, network: nn.Module, task: Task, recipe: Recipe) -> None:
        self.network, self.task = network, task
        self.optimizer = recipe.optimizer(network)
        self.step = 0

    def state_dict(self) -> dict[str, Any]:
        """All of it, as tensors, numbers, lists and dicts."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "task": self.task.state_dict(),
            "noise": torch_noise(self.task.device),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state` was taken."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.task.load_state_dict(state["task"])
        torch_noise(self.task.device, state["noise"])


class FitMonitor:
    """Hooks of a training; override what is wanted."""

    def on_step(self, state: FitState, loss: torch.Tensor) -> None:
        """After every step."""

    def on_epoch(self, state: FitState) -> bool:
        """After every epoch; whether to train on."""
        return True


def fit_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, task: Task, batch: Batch, rate: float
) -> torch.Tensor:
    """One step of a training at a learning rate; returns the loss before it.

    Raises:
        Diverged: the loss is no longer finite; the weights stay as they are.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    inputs, targets = batch
    loss = task.loss(network(inputs), targets)
    if not torch.isfinite(loss):
        raise Diverged(f"the loss is {loss.item()}")
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss


def fit(
    network: nn.Module,
    task: Task,
    recipe: Recipe,
    state: FitState | None = None,
    monitors: Sequence[FitMonitor] = (),
) -> FitState:
    """Train a network on the task's weight part.

    Args:
        network: from inputs to outputs, on the task's device.
        task: batches, loss and metric.
        recipe: the training.
        state: where to begin, or to go on; anew if None.
        monitors: told of steps and epochs; any of them may end the training after an epoch.

    Raises:
        Diverged: the loss is no longer finite.
    """
    state = state or FitState(network, task, recipe)
    steps = recipe.epochs * task.steps_per_epoch
    while state.step < steps:
        try:
            rate = recipe.learning_rate(state.step / steps)
            loss = fit_step(network, state.optimizer, task, task.train.next(), rate)
        except Diverged as error:
            raise Diverged(f"{error} at step {state.step} of {steps}") from None
        state.step += 1
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
    """Draw all weights anew from a generator: He et al. 2015 (arXiv:1502.01852) for convolutions and linear layers."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, 0.0, math.sqrt(2 / fan_in), generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
