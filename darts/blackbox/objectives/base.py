"""What a second objective is: the price of a genotype. Less is better."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from darts.blackbox.methods.base import at_least
from supernet.size import NetworkSize
from supernet.spaces.base import Genotype, Space


class Objective(ABC):
    """The price of a genotype.

    Args:
        channels, cells, num_classes, image_size: of the network that is priced; the benchmark's are the defaults.
    """

    name = ""
    unit = ""
    exact = True  # the same at every asking, so that a whole space can be priced

    def __init__(self, channels: int = 16, cells: int = 5, num_classes: int = 10, image_size: int = 32) -> None:
        sizes = {"channels": channels, "cells": cells, "num_classes": num_classes, "image_size": image_size}
        for name, number in sizes.items():
            at_least(name, number, 1)
        self.size = NetworkSize(**sizes)

    def open(self, space: Space, device: torch.device) -> None:
        """Get ready to price genotypes of a space on a device."""
        self.space, self.device = space, device

    @abstractmethod
    def __call__(self, genotype: Genotype) -> float:
        """The price, in `unit`."""

    def describe(self) -> dict[str, str | bool]:
        """What reports say of it."""
        return {"name": self.name, "unit": self.unit, "network": str(self.size), "exact": self.exact}
