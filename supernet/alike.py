"""Weights of one network for another that has something in common with it."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn


def take_alike(network: nn.Module, parent: nn.Module, differing: Collection[str] = ()) -> None:
    """Copy every tensor that has the same name and shape in the parent.

    Args:
        network: gets them.
        parent: has them.
        differing: beginnings of names that stay as they are.
    """
    own, apart = network.state_dict(), tuple(differing)
    kept = {
        name: value
        for name, value in parent.state_dict().items()
        if name in own and own[name].shape == value.shape and not name.startswith(apart)
    }
    network.load_state_dict(kept, strict=False)
