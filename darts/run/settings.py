"""The settings of a run as a whole: in one level, beside those of another run, and independent of the folder that one
stands in."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from darts.run import moved, ranks
from darts.run.errors import UserError

PATHS = ("dataset.root", "oracle.path", "evaluator.run", "objective.path")  # files and folders that settings may name
FREE = ("run_dir", "resume", "extend", "device", "monitor", "budget", "plugins", "oracle", "label", "ray_address")
ELSEWHERE = ("ray_address", "storage")  # places that a run folder is not believed about
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


def believed(stored: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings, with plug-ins and the address of a cluster as they are given now: code comes from there, and a
    folder cannot bring it along. A line tells of those that the run had and that nobody names now.

    Raises:
        UserError: the run has its trials in a database, and nobody names one.
    """
    missing = [name for name in stored.get("plugins") or () if name not in given["plugins"]]
    had = [f"plugins=[{','.join(map(str, missing))}]"] if missing else []
    if stored.get("ray_address") and not given.get("ray_address"):
        had.append(f"ray_address={stored['ray_address']}")
    if stored.get("storage") and not given.get("storage"):
        raise UserError(
            f"storage: the trials are in {stored['storage']}, which is written to, and a folder is not believed about "
            "that; give storage=URL once more, of a database that you trust"
        )
    if had:
        logging.getLogger(__name__).warning(
            "note: the run was made with %s, which a folder cannot bring along; give that if it needs it",
            " and ".join(had),
        )
    return dict(stored) | {key: given[key] for key in ("plugins", *ELSEWHERE) if key in given}
