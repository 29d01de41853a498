"""The settings of a run as a whole: in one level, beside those of another run, and independent of the folder that one
stands in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from darts.run import moved, ranks

PATHS = ("dataset.root", "oracle.path", "evaluator.run", "objective.path")  # files and folders that settings may name
FREE = ("run_dir", "resume", "extend", "device", "monitor", "budget", "plugins", "oracle", "label", "ray_address")
ADJUSTABLE = ("engine.retries", "engine.retry_rate", "engine.groups")
RUNNING = ("engine.threads", "engine.checkpoint_minutes", "engine.checkpoints", *ADJUSTABLE)
FREE_OPTIONS = ("dataset.root", "dataset.download", *RUNNING)
"""What a run may go on with other values of: nothing that it computes hangs on them, or a command checks them."""
FOUND = ("data.batch_size", "auto")  # becomes a number when a run begins


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level, with dotted keys and the class names of today."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = moved.now(str(value)) if key == "_target_" else value
    return found


def with_values_of(stored: Mapping[str, Any], settings: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Settings with those of `settings` for some keys PART.KEY."""
    found = dict(stored)
    for key in keys:
        part, _, name = key.partition(".")
        found[part] = found[part] | {name: settings[part][name]}
    return found


def with_groups(settings: Mapping[str, Any]) -> dict[str, Any]:
    """With the number of groups that a batch has, which is that of the processes where none was given."""
    engine = settings.get("engine")
    if ranks.size() == 1 or not isinstance(engine, dict) or engine.get("groups") is not None:
        return dict(settings)
    return {**settings, "engine": engine | {"groups": ranks.size()}}


def fixed(settings: Mapping[str, Any]) -> dict[str, str]:
    """What a run has to keep, as text."""
    return {
        key: str(value)
        for key, value in flat(settings).items()
        if key.split(".")[0] not in FREE and key not in FREE_OPTIONS and (key, value) != FOUND
    }


def differing(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """``seed is 3, was 0``, for every value of both that differs."""
    return [f"{key} is {now[key]}, was {before[key]}" for key in before if key in now and now[key] != before[key]]


def anchored(settings: Mapping[str, Any]) -> dict[str, Any]:
    """With paths that mean the same wherever the run goes on."""
    found = {key: dict(value) if isinstance(value, dict) else value for key, value in settings.items()}
    for path in PATHS:
        group, key = path.split(".")
        node = found.get(group)
        if isinstance(node, dict) and isinstance(node.get(key), str):
            node[key] = str(Path(node[key]).expanduser().absolute())
    return found
