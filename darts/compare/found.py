"""The cell that a run found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from darts.blackbox.result import CONFIG_KEYS as BASELINE_KEYS
from darts.blackbox.result import BaselineResult
from darts.compare.load import read_result
from darts.run.errors import UserError
from darts.run.folder import read_config
from darts.search.result import CONFIG_KEYS


def with_cell(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a command that takes `cell` or `run`, with the cell and space of the run if that was given.

    Raises:
        UserError: both were given, or a folder that holds no such run.
    """
    if settings["run"] is None:
        return settings
    if settings["cell"] is not None:
        raise UserError("cell, run: both were given; give one of them")
    cell, space = cell_of(Path(settings["run"]))
    return settings | {"cell": cell, "space": space}


def cell_of(folder: Path) -> tuple[str, dict[str, Any]]:
    """The cell that a run found, of several seeds of a baseline the best by what they saw; and its space.

    Raises:
        UserError: no finished run of a search or baseline.
    """
    kind, result = read_result(folder)
    stored = read_config(folder, kind, BASELINE_KEYS if kind == "baseline" else CONFIG_KEYS, "run")
    if not isinstance(result, BaselineResult):
        return result.cell, stored["space"]
    if not (finals := result.finals()):
        raise UserError(f"run: {folder} found nothing, all of its evaluations failed; give another run, or cell=...")
    return max(finals, key=lambda point: point.signal).cell, stored["space"]
