"""What a command is, and where commands come from: every file of `darts/command`, and of the folder `command` of
packages that `plugins=[...]` names, that defines one. Nothing else lists them."""

from __future__ import annotations

import importlib
import pkgutil
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from darts.run.errors import UserError

INTERRUPTED = 130  # a command was asked to stop; `darts.run.signals.exit_status` knows by which signal
CANNOT_IMPORT = "plugins: cannot import {!r} ({}); install the package, or put its folder on PYTHONPATH"
# Modules beside commands, not to be imported in search of some.
PLUMBING = ("base", "config", "help", "quoting", "several", "sweep", "words")


@dataclass
class Call:
    """What a user asked a command for.

    Attributes:
        settings: the composed config.
        given: keys that the command line overrides.
        words: those that are not key=value.
        own_configs: folder of --config-dir.
        run_dir: overrides the config's; of one job of a sweep.
        begun: when, by time.perf_counter.
        typed: all words of the command line.
    """

    settings: dict[str, Any]
    given: set[str] = field(default_factory=set)
    words: list[str] = field(default_factory=list)
    own_configs: Path | None = None
    run_dir: Path | None = None
    begun: float = field(default_factory=time.perf_counter)
    typed: list[str] = field(default_factory=list)


class Command(ABC):
    """A command; its settings are configs/NAME.yaml.

    Modules of commands import what is heavy where they use it, so that help and completion answer at once.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    """A line for the list of commands."""
    usage: ClassVar[str]
    """What its own help begins with."""
    words: ClassVar[str] = ""
    """What it takes beside key=value: nothing, ``words``, or ``paths``, which may have a = in their names."""
    sweeps: ClassVar[bool] = False
    """Whether -m runs it once for each combination of values."""
    several: ClassVar[bool] = False
    """Whether torchrun may start it in several processes that share one run."""
    settings: ClassVar[bool] = True
    """Whether it has a YAML; without one it gets all of its words as they are."""
    place: ClassVar[int] = 100
    """In the list of commands."""

    def implied(self, given: Mapping[str, Any]) -> list[str]:
        """Further key=value words that follow from what was given, by key; asked before settings are composed."""
        return []

    def kept(self, call: Call) -> dict[str, Any]:
        """The settings as a run keeps them, with what follows from others filled in; asked where a sweep goes on."""
        return call.settings

    @abstractmethod
    def run(self, call: Call) -> int:
        """Do it; returns the exit status.

        Raises:
            UserError: a mistake to mend.
        """


def commands(plugins: Sequence[str] = ()) -> dict[str, Command]:
    """Name to command, in the order of the list.

    Args:
        plugins: packages that may have a folder `command` of their own.

    Raises:
        UserError: a package of the user's that cannot be imported.
    """
    found = []
    for package in ("darts", *plugins):
        try:
            folder = importlib.import_module(f"{package}.command")
        except ImportError as error:
            if error.name == f"{package}.command":  # it has none
                continue
            raise UserError(CANNOT_IMPORT.format(package, error)) from None
        for module in pkgutil.iter_modules(folder.__path__):
            if package == "darts" and module.name in PLUMBING:
                continue
            name = f"{package}.command.{module.name}"
            values = vars(importlib.import_module(name)).values()
            classes = [value for value in values if isinstance(value, type) and issubclass(value, Command)]
            found += [made() for made in classes if made.__module__ == name]
    return {command.name: command for command in sorted(found, key=lambda command: (command.place, command.name))}


def named_plugins(words: Sequence[str]) -> list[str]:
    """Packages that the command line names, which may bring commands; read plainly, before anything is imported."""
    found = [word.partition("=")[2] for word in words if word.startswith("plugins=")]
    return [name for name in re.split(r"[\[\],\s'\"]+", ",".join(found)) if name and name != "null"]
