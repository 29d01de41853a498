"""What a checkpoint of a search holds, and going on from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from darts.run.checkpoint import check_identity, fitting, going_on_from, newest_checkpoint
from darts.run.environment import environment
from darts.run.errors import UserError
from darts.run.schema import Upgrades
from darts.search.budget import Budget
from darts.search.phases import Phase
from darts.search.state import SearchState

ADDED: dict[str, Any] = {
    "phase_progress": 0.0,
    "allowed_EO": None,
    "found": None,
    "standing": None,
    "ends": {},
    "moving_steps": 0,
    "stopped_early": "",
    "rate": 1.0,
    "rolled_back": [],
    "evaluated": None,
    "partial": None,
}
"""What the state of version 1 lacks."""


def _from_1(content: dict[str, Any]) -> dict[str, Any]:
    state = {**ADDED, **content["state"]}
    if "noise" not in state:
        state["noise"] = [state.pop("torch_rng")]
    return {"identity": {}, "phases": {}, **content, "state": state}


UPGRADES: Upgrades = {1: _from_1}


def content_of(
    state: SearchState, phases: Mapping[str, Phase], identity: Mapping[str, str], budget: Budget
) -> dict[str, Any]:
    """Of a checkpoint; `identity` are the settings and data that it belongs to, by name."""
    return {
        "space": state.space.describe(),
        "environment": environment(state.device),
        "identity": dict(identity),
        "budget": asdict(budget),
        "state": state.state_dict(),
        "phases": {name: phase.state_dict() for name, phase in phases.items()},
    }


def restored(
    state: SearchState, phases: Mapping[str, Phase], identity: Mapping[str, str], run_dir: Path
) -> dict[str, Any]:
    """Put state and phases where the newest intact checkpoint of a run was made; returns its content.

    Raises:
        UserError: no checkpoint, a broken one, or one of another space, other settings or other data.
    """
    path, content = newest_checkpoint(run_dir, upgrades=UPGRADES)
    space = state.space.describe()
    if content.get("space") != space:
        raise UserError(
            f"resume: {path} is of the space {content.get('space')}, the config of that folder says {space}; "
            "put back the config.yaml that belongs to this checkpoint"
        )
    with fitting(path):
        check_identity(content, identity, path)
        if "budget" in content:
            content["budget"] = Budget(**content["budget"])
        state.load_state_dict(content["state"])
        for name, phase in phases.items():
            phase.load_state_dict(content["phases"].get(name, {}))
    going_on_from(path)
    return content
