"""What differs between trainings of a network."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from darts.training.schedules import cosine


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
