"""What the processes of one run have to agree on, and what shows that they do."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from darts.run import ranks
from darts.run.errors import UserError
from darts.run.files import write_text
from darts.run.signals import StopRequest

NAME = "ranks.json"


def met(seconds: dict[str, float], stop: StopRequest, waited: float) -> float:
    """The time is that of the first process, and a stop of one is one of all.

    Args:
        seconds: of the run so far, by part; "total" is set.
        stop: of this process.
        waited: since the last checkpoint.

    Returns:
        What the first process has waited.
    """
    if ranks.size() == 1:
        return waited
    clocks = [seconds["total"], waited] if ranks.first() else [0.0, 0.0]
    (found,) = ranks.summed([torch.tensor([*clocks, float(stop.made)], dtype=torch.float64)])
    seconds["total"], waited, stops = found.tolist()
    stop.made = stop.made or stops > 0
    return float(waited)


def fingerprint(*tensors: Tensor) -> str:
    """Sixteen letters that tell these bits from others."""
    found = hashlib.sha256()
    for value in tensors:
        found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def check_same(run_dir: Path | None, epoch: int, groups: int, tensors: list[Tensor]) -> None:
    """Compare the processes' bits after an epoch; the first one writes down all of them.

    Args:
        run_dir: where the file goes; nowhere if None.
        epoch: of those recorded, from 1.
        groups: of a batch.
        tensors: that have to be the same everywhere.

    Raises:
        UserError: they are not.
    """
    if ranks.size() == 1:
        return
    found = ranks.gathered(fingerprint(*tensors))
    if ranks.first() and run_dir is not None:
        known = _known(run_dir / NAME)
        record = {"epoch": epoch, "processes": ranks.size(), "groups": groups, "fingerprints": found}
        epochs = [one for one in known if one["epoch"] < epoch]  # later ones are of steps that were undone
        write_text(run_dir / NAME, json.dumps({"epochs": [*epochs, record]}, indent=1) + "\n")
    other = [rank for rank, value in enumerate(found) if value != found[0]]
    if other:
        error = UserError(
            f"after epoch {epoch} the processes {other} have other weights, parameters or generators than the first; "
            "what was computed since the last epoch is not to be trusted. Go on from the checkpoint; if it comes back, "
            "look for operations that are not deterministic (engine.deterministic=true), and for machines that differ"
        )
        error.everywhere = True
        raise error


def _known(file: Path) -> list[dict[str, Any]]:
    try:
        return list(json.loads(file.read_text(encoding="utf-8"))["epochs"])
    except (OSError, ValueError, LookupError, TypeError):
        return []
