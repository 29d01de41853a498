"""What the processes of one run have to agree on, and what shows that they do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from darts.run import ranks
from darts.run.errors import Everywhere
from darts.run.files import write_text
from darts.run.signals import StopRequest
from darts.run.typed import check_types

NAME = "ranks.json"


SHARE = 0.01  # of the time, that checkpoints at the ends of epochs may take


class Clock:
    """When the next checkpoint is due, the same in all processes: after so many minutes, and at an epoch's end where
    checkpoints have not taken more than `SHARE` of the time since the last one.

    Args:
        minutes: of working time between two, inside an epoch.
    """

    def __init__(self, minutes: float) -> None:
        self.minutes, self.kept, self.cost = minutes, 0.0, 0.0

    def keeping(self, begun: float, ended: float) -> None:
        """A checkpoint was made; times of time.perf_counter."""
        self.kept, self.cost = ended, ended - begun

    def met(self, seconds: dict[str, float], stop: StopRequest, now: float, epoch_ends: bool) -> tuple[bool, bool]:
        """Whether one is due, and whether to stop. The time is that of the first process, a stop of one is one of all.

        Args:
            seconds: of the run so far, by part; "total" is set.
            stop: of this process.
            now: by time.perf_counter.
            epoch_ends: whether this step is the last of an epoch.
        """
        waited = now - self.kept
        due = waited >= 60 * self.minutes or (epoch_ends and SHARE * waited >= self.cost)
        if ranks.size() == 1:
            return due, stop.made
        own = [seconds["total"], float(due)] if ranks.first() else [0.0, 0.0]
        (found,) = ranks.summed([torch.tensor([*own, float(stop.made)], dtype=torch.float64)])
        seconds["total"], due, stops = found.tolist()
        return bool(due), stops > 0


def fingerprint(*tensors: Tensor) -> str:
    """Sixteen letters that tell these bits from others."""
    found = hashlib.sha256()
    for value in tensors:
        found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def check_same(run_dir: Path | None, epoch: int, groups: int, shared: Callable[[], list[Tensor]]) -> None:
    """Compare the processes' bits after an epoch; the first one writes down all of them.

    Args:
        run_dir: where the file goes; nowhere if None.
        epoch: of those recorded, from 1.
        groups: of a batch.
        shared: gives the tensors that have to be the same everywhere.

    Raises:
        Everywhere: they are not.
    """
    if ranks.size() == 1:
        return
    found = ranks.gathered(fingerprint(*shared()))
    if ranks.first() and run_dir is not None:
        known = _known(run_dir / NAME)
        record = {"epoch": epoch, "processes": ranks.size(), "groups": groups, "fingerprints": found}
        epochs = [one for one in known if one["epoch"] < epoch]  # later ones are of steps that were undone
        write_text(run_dir / NAME, json.dumps({"epochs": [*epochs, record]}, indent=1) + "\n")
    other = [rank for rank, value in enumerate(found) if value != found[0]]
    if other:
        raise Everywhere(
            f"after epoch {epoch} the processes {other} have other weights, parameters or generators than the first; "
            "what was computed since the last epoch is not to be trusted. Go on from the checkpoint; if it comes back, "
            "look for operations that are not deterministic (engine.deterministic=true), and for machines that differ"
        )


def _known(file: Path) -> list[dict[str, Any]]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))["epochs"]
        check_types([one["epoch"] for one in known], list[int])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return []
    return list(known)
