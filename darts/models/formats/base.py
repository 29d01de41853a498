"""What a file format for trained networks is.

Shape suffixes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from darts.run.errors import UserError
from darts.training.model import About

NOTE = "darts"  # under which a file keeps what has to be known of the network, as JSON
Answer = Callable[[Tensor], Tensor]
"""Normalised inputs (B, C, H, W) to outputs (B, K)."""


class Format(ABC):
    """Writes a network with what has to be known of it, and runs what is in a file."""

    name: ClassVar[str]
    suffix: ClassVar[str]
    folds: ClassVar[bool] = True
    """Whether a file holds the network with its batch normalisation folded into convolutions."""

    packages: ClassVar[tuple[str, ...]] = ()
    """Optional ones that it needs."""

    def check(self) -> None:
        """Refuse what cannot be done here, before anything is computed.

        Raises:
            UserError: a package is missing.
        """
        for package in self.packages:
            needed(package, f"format={self.name}")

    @abstractmethod
    def write(self, network: nn.Module, about: About, path: Path) -> None:
        """Write a network in evaluation mode, on the CPU, for batches of any size."""

    @abstractmethod
    def run(self, path: Path, plugins: Sequence[str] = ()) -> Answer:
        """The network in a file; `plugins` are packages with parts of the user's own."""


def formats() -> dict[str, Format]:
    """Name to format, of every file of this folder."""
    folder = importlib.import_module("darts.models.formats")
    found: dict[str, Format] = {}
    for module in pkgutil.iter_modules(folder.__path__):
        for value in vars(importlib.import_module(f"{folder.__name__}.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Format) and value is not Format:
                found[value.name] = value()
    return found


def format_of(name: str) -> Format:
    """The format of that name.

    Raises:
        UserError: there is none.
    """
    known = formats()
    if name not in known:
        raise UserError(f"format: got {name!r}; allowed are {', '.join(known)}")
    return known[name]


def needed(package: str, who: str) -> Any:
    """An optional package.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UserError(
            f"{who} needs the package {package.split('.')[0]}; install it with: pip install 'darts-supernet[export]'"
        ) from None
