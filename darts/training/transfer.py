"""A network that begins with the weights of a trained one: of other classes, image sizes, channels, or depth."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

HEAD = "classifier."  # learns its own classes, whatever it began with


@torch.no_grad()
def take_over(network: nn.Module, trained: nn.Module) -> frozenset[str]:
    """Copy every tensor that has a counterpart of its shape; returns the names of those outside the classifier.

    Cells have theirs at the same place of the same stage, so a deeper network takes over what is there and begins the
    rest anew. The classifier is copied where the number of classes is the same.
    """
    theirs, taken = trained.state_dict(), set()
    for name, own in network.state_dict().items():
        source: str | None = name
        if type(network) is type(trained) and hasattr(network, "counterpart"):
            source = network.counterpart(name, trained.cells)  # type: ignore[operator]
        part = name.rpartition(".")[2]
        if source is not None and part == "num_batches_tracked":  # fits if the statistics do that it counts for
            ours, other = (text.replace(part, "running_mean") for text in (name, source))
            if other not in theirs or theirs[other].shape != network.state_dict()[ours].shape:
                continue
        if source in theirs and theirs[source].shape == own.shape:
            own.copy_(theirs[source])
            if not name.startswith(HEAD):
                taken.add(name)
    return frozenset(taken)


def hold(network: nn.Module, names: Iterable[str], held: bool) -> None:
    """Keep these tensors as they are, running statistics too, or let them go."""
    names = set(names)
    for name, parameter in network.named_parameters():
        if name in names:
            parameter.requires_grad_(not held)
    for name, module in network.named_modules():
        if f"{name}.running_mean" in names:
            module.train(not held)
