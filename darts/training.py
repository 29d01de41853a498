"""Training the network of one cell for real.

Shape suffixes: B batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from darts.seeding import make_generator
from darts.task import Classification
from supernet.discrete_network import DiscreteNetwork
from supernet.genotype import Genotype


class Diverged(Exception):
    """The loss stopped being a number."""


def initialised(network: torch.nn.Module, generator: torch.Generator) -> None:
    """Draw all weights anew from a generator: He et al. 2015 (arXiv:1502.01852) for convolutions and linear layers."""
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            fan_in = module.weight[0].numel()
            torch.nn.init.normal_(module.weight, 0.0, math.sqrt(2 / fan_in), generator=generator)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)


def train_cell(
    genotype: Genotype,
    task: Classification,
    channels: int,
    cells: int,
    epochs: int,
    lr: float,
    weight_decay: float,
    seed: int,
    parent: DiscreteNetwork | None = None,
    go_on: Callable[[float], bool] | None = None,
) -> DiscreteNetwork:
    """The network of a cell, trained on the task's weight part.

    SGD with Nesterov momentum 0.9 and a cosine schedule to zero over `epochs`, as the benchmark trains (NAS-Bench-201,
    arXiv:2001.00326, table 2).

    Args:
        genotype, channels, cells: the network.
        task: batches, loss and metric.
        epochs, lr, weight_decay: the training.
        seed: of the initial weights.
        parent: a trained network of this size, whose weights this one starts from; see `inherit`.
        go_on: called after every epoch with the accuracy (%) of the architecture part, with running statistics; says
            whether to train on.

    Raises:
        Diverged: the loss is no longer finite.
    """
    network = DiscreteNetwork(genotype, channels, cells, task.num_classes, task.in_channels)
    initialised(network, make_generator(seed, "initial weights"))
    if parent is not None:
        inherit(network, parent)
    network.to(task.train.images_NCHW.device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    steps = epochs * task.steps_per_epoch
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr / 2 * (1 + math.cos(math.pi * step / steps))
        images_BCHW, labels_B = task.train.next()
        loss = task.loss(network(images_BCHW), labels_B)
        if not torch.isfinite(loss):
            raise Diverged(f"the loss is {loss.item()} at step {step} of {steps}")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if go_on is not None and (step + 1) % task.steps_per_epoch == 0 and not go_on(accuracy(network, task)):
            break
    return network


def inherit(network: DiscreteNetwork, parent: DiscreteNetwork) -> None:
    """Copy all weights and statistics outside the edges where the two cells differ (Real et al. 2017, arXiv:1703.01041,
    section 3.3)."""
    differing = tuple(
        f".edges.{edge}."
        for edge, pair in enumerate(zip(network.genotype.operations, parent.genotype.operations, strict=True))
        if pair[0] != pair[1]
    )
    kept = {name: value for name, value in parent.state_dict().items() if not any(part in name for part in differing)}
    network.load_state_dict(kept, strict=False)


@torch.no_grad()
def accuracy(network: torch.nn.Module, task: Classification) -> float:
    """Of the architecture part (%)."""
    network.eval()
    correct = torch.stack([task.correct(network(images), labels) for images, labels in task.evaluation_batches()]).sum()
    network.train()
    return 100 * float(correct) / task.sizes[1]
