"""Fitting one network, whoever asks: one loop, resumable at every step.

A training is a network, a task, a recipe, and a `FitState`, which is everything that changes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from darts.run.seeding import make_generator, torch_noise
from darts.tasks.base import Batch, Task
from darts.training.schedules import cosine
from darts.training.transfer import hold


class Diverged(Exception):
    """The loss stopped being a number."""


@dataclass(frozen=True)
class Recipe:
    """SGD under a cosine schedule, as NAS-Bench-201 trains (arXiv:2001.00326, table 2), for `epochs`.

    Attributes:
        epochs: passes over the task's weight part.
        lr, lr_min: first and last learning rate.
        momentum, nesterov, weight_decay: as in torch.optim.SGD.
        warm_up: epochs in which the rate rises from 0 (arXiv:1706.02677); the cosine begins after them.
        mixup: inputs and losses of a batch are mixed with those of the batch in another order, by a share drawn from
            Beta(mixup, mixup) (arXiv:1710.09412); 0 for none.
        average: what of the averaged weights a step keeps (exponential moving average; those of the first steps
            count less); 0 for none. The averaged network is what is judged then.
        grad_clip: largest norm of the gradient; None for any.
        drop_path: share of the values of edges that are dropped at the end of the training; it rises from 0, epoch by
            epoch (arXiv:1605.07648). Networks that have no `drop_path` are refused.
        auxiliary: weight of the loss of a second classifier, for networks that can have one; 0 for none.
        frozen_epochs: of a network that begins with the weights of another one: first epochs in which these stay as
            they are, running statistics too.
        backbone_lr: factor of their learning rate after that.

    Raises:
        ValueError: a value out of range.
    """

    epochs: int
    lr: float = 0.1
    lr_min: float = 0.0
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    warm_up: float = 0.0
    mixup: float = 0.0
    average: float = 0.0
    grad_clip: float | None = None
    drop_path: float = 0.0
    auxiliary: float = 0.0
    frozen_epochs: int = 0
    backbone_lr: float = 1.0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs: got {self.epochs}; give 1 or more")
        if not 0 <= self.lr_min <= self.lr < math.inf or self.lr == 0:
            raise ValueError(f"lr: got {self.lr}; give a rate above 0, at least lr_min={self.lr_min}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay: got {self.weight_decay}; give 0 or more")
        if not 0 <= self.warm_up < self.epochs:
            raise ValueError(f"warm_up: got {self.warm_up}; give 0 or more epochs, fewer than epochs={self.epochs}")
        if not 0 <= self.mixup < math.inf:
            raise ValueError(f"mixup: got {self.mixup}; give 0 or more")
        if not 0 <= self.average < 1:
            raise ValueError(f"average: got {self.average}; give 0 or more, below 1")
        if self.grad_clip is not None and not self.grad_clip > 0:
            raise ValueError(f"grad_clip: got {self.grad_clip}; give a norm above 0, or null")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path: got {self.drop_path}; give 0 or more, below 1")
        if not 0 <= self.auxiliary < math.inf:
            raise ValueError(f"auxiliary: got {self.auxiliary}; give 0 or more")
        if not 0 <= self.frozen_epochs <= self.epochs:
            raise ValueError(f"frozen_epochs: got {self.frozen_epochs}; give 0 to epochs={self.epochs}")
        if not 0 <= self.backbone_lr < math.inf:
            raise ValueError(f"backbone_lr: got {self.backbone_lr}; give a factor of 0 or more")

    def prepare(self, network: nn.Module) -> None:
        """Give a network what the training needs of it.

        Raises:
            ValueError: it cannot have that.
        """
        name = type(network).__name__
        if self.drop_path and not hasattr(network, "drop_path"):
            raise ValueError(f"drop_path: got {self.drop_path}; {name} drops no paths, give 0")
        if self.auxiliary:
            if not hasattr(network, "with_auxiliary"):
                raise ValueError(f"auxiliary: got {self.auxiliary}; {name} has no second classifier, give 0")
            network.with_auxiliary()  # type: ignore[operator]

    def optimizer(self, network: nn.Module, backbone: Collection[str] = ()) -> torch.optim.Optimizer:
        """The optimizer of a training that begins; `backbone` are the names of what came from another network."""
        parameters = dict(network.named_parameters())
        groups = [{"params": [value for name, value in parameters.items() if name not in backbone], "factor": 1.0}]
        if backbone:
            old = [value for name, value in parameters.items() if name in backbone]
            groups.append({"params": old, "factor": self.backbone_lr})
        return torch.optim.SGD(
            groups, self.lr, momentum=self.momentum, nesterov=self.nesterov,
            weight_decay=self.weight_decay,
        )  # fmt: skip

    def learning_rate(self, progress: float) -> float:
        """At a share of the training that is done, in [0, 1]."""
        rising = self.warm_up / self.epochs
        if progress < rising:
            return self.lr * progress / rising
        return cosine((progress - rising) / (1 - rising), self.lr, self.lr_min)

    def averaged(self, network: nn.Module) -> AveragedModel | None:
        """A network of averages that begins as `network`, statistics included; None if none is asked for."""
        if not self.average:
            return None

        def average(own: torch.Tensor, new: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
            kept = min(self.average, (1 + int(count)) / (10 + int(count)))
            return own.lerp(new.to(own.dtype), 1 - kept) if own.is_floating_point() else new

        return AveragedModel(network, avg_fn=average, use_buffers=True)


class FitState:
    """Weights, optimizer, position in data and schedule.

    Args:
        network, task, recipe: of the training.
        seed: of what the recipe draws.
        backbone: names of the tensors that came from another network, see `darts.training.transfer`.
    """

    def __init__(
        self, network: nn.Module, task: Task, recipe: Recipe, seed: int = 0, backbone: frozenset[str] = frozenset()
    ) -> None:
        self.network, self.task, self.backbone = network, task, backbone
        self.optimizer = recipe.optimizer(network, backbone)
        self.averaged = recipe.averaged(network)
        self.generator = make_generator(seed, "recipe")
        self.step = 0

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

    def state_dict(self) -> dict[str, Any]:
        """All of it, as tensors, numbers, lists and dicts."""
        averaged = {} if self.averaged is None else {"averaged": self.averaged.state_dict()}
        return {
            **averaged,
            "generator": self.generator.get_state(),
            "step": self.step,
            "backbone": sorted(self.backbone),
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
) -> torch.Tensor:
    """One step of a training at a learning rate; returns the loss before it. With `bfloat16`, convolutions and
    activations are of that type (autocast), weights, losses and the optimizer stay as they are. A network may give a
    second output, whose loss has the weight `auxiliary`.

    Raises:
        Diverged: the loss is no longer finite; the weights stay as they are.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
    inputs, targets = batch
    if mixing is not None:
        inputs = inputs.lerp(inputs[mixing.order_B], 1 - mixing.share)
    with torch.autocast(task.device.type, torch.bfloat16, enabled=bfloat16):
        found = network(inputs)

    def loss_of(outputs: torch.Tensor) -> torch.Tensor:
        if bfloat16:
            outputs = outputs.float()
        if mixing is None:
            return task.loss(outputs, targets)
        loss = mixing.share * task.loss(outputs, targets)
        return loss + (1 - mixing.share) * task.loss(outputs, targets[mixing.order_B])

    loss = loss_of(found) if torch.is_tensor(found) else loss_of(found[0]) + auxiliary * loss_of(found[1])
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
            rate = recipe.learning_rate(state.step / steps)
            if state.backbone:
                hold(network, state.backbone, state.step < recipe.frozen_epochs * task.steps_per_epoch)
            if recipe.drop_path:
                network.drop_path = recipe.drop_path * (state.step // task.steps_per_epoch) / recipe.epochs  # type: ignore[assignment]
            batch = task.train.next()
            mixing = state.mixing(recipe, len(batch[1]))
            loss = fit_step(
                network, state.optimizer, task, batch, rate, mixing, bfloat16, recipe.auxiliary, recipe.grad_clip
            )
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
    """Draw all weights anew from a generator: He et al. 2015 (arXiv:1502.01852) for convolutions and linear layers."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, 0.0, math.sqrt(2 / fan_in), generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
