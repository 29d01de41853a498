"""Several trained networks as one: the mean of their probabilities.

Shape suffixes: M members, N images, K classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from darts.models.opening import open_model
from darts.run.errors import UserError
from darts.run.folder import read_config
from darts.run.parts import build_one
from darts.run.settings import flat
from darts.tasks.base import Task
from darts.training.build import Tasks, tasks_of
from darts.training.judging import answers, calibration

SHARED = ("dataset.", "data.held_out", "data.resolution", "task.")  # settings that say which images are judged


@dataclass(frozen=True)
class Answers:
    """What every member says of the same images.

    Attributes:
        probabilities_MNK, labels_N: of those that judge.
        watched_MNK, watched_labels_N: of those that were held out of training, to choose by; None if none were.
    """

    probabilities_MNK: Tensor
    labels_N: Tensor
    watched_MNK: Tensor | None
    watched_labels_N: Tensor | None


@dataclass(frozen=True)
class Members:
    """Runs whose networks were trained on the same images, and those images."""

    folders: tuple[Path, ...]
    classes: tuple[str, ...]
    tasks: Tasks
    answers: Answers


def members_of(folders: Sequence[Path], plugins: Sequence[str] = ()) -> Members:
    """Ask the networks of retrainings about the images that none of them was trained on.

    Raises:
        UserError: fewer than two, no retrainings, or runs of different data or classes.
    """
    if len(folders) < 2:
        raise UserError("darts ensemble: give two folders of darts retrain or more")
    stored = [read_config(folder, "retrain", ("dataset", "data", "recipe"), "ensemble") for folder in folders]
    first = _judged_by(stored[0])
    for folder, other in zip(folders, map(_judged_by, stored), strict=True):
        if differing := [key for key in sorted({*first, *other}) if first.get(key) != other.get(key)]:
            raise UserError(
                f"ensemble: {folder} and {folders[0]} were judged on different images ({', '.join(differing)} differ); "
                "give runs of the same data"
            )
    models = [open_model(folder, "ensemble", plugins=plugins) for folder in folders]
    for folder, model in zip(folders, models, strict=True):
        model.about.check_classifier("darts ensemble")
        if model.about.classes != models[0].about.classes:
            raise UserError(f"ensemble: {folder} has other classes than {folders[0]}; give runs of the same data")
    dataset = build_one(stored[0], "dataset", plugins)
    tasks = tasks_of(stored[0] | {"plugins": list(plugins)}, dataset, stored[0]["seed"], torch.device("cpu"))

    def asked(task: Task) -> tuple[Tensor, Tensor]:
        found = [answers(model.network, task) for model in models]
        return torch.stack([logits_NK.softmax(dim=1) for logits_NK, _ in found]), found[0][1]

    watched = asked(tasks.task) if tasks.watches else (None, None)
    return Members(tuple(folders), models[0].about.classes, tasks, Answers(*asked(tasks.final), *watched))


def _judged_by(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flat(stored).items() if key.startswith(SHARED) and key != "dataset.root"}


def accuracy(probabilities_NK: Tensor, labels_N: Tensor) -> float:
    """Percent."""
    return 100 * float((probabilities_NK.argmax(dim=1) == labels_N).double().mean())


def disagreement(probabilities_MNK: Tensor) -> float:
    """Share of the images, in percent, of which two members say something else, the mean over pairs (Skalak 1996)."""
    answers_MN = probabilities_MNK.argmax(dim=2)
    pairs = [float((one != other).double().mean()) for one, other in itertools.combinations(answers_MN, 2)]
    return 100 * sum(pairs) / max(1, len(pairs))


def greedy(probabilities_MNK: Tensor, labels_N: Tensor, count: int) -> list[int]:
    """Members one after the other, each that with which the mean is most accurate so far, the same several times if
    that helps; of equal ones the one with less cross entropy (Caruana et al. 2004, Ensemble selection from libraries of
    models, section 2).

    Args:
        probabilities_MNK, labels_N: of images to choose by.
        count: how many are chosen.
    """
    chosen: list[int] = []
    total_NK = torch.zeros_like(probabilities_MNK[0], dtype=torch.float64)
    for _ in range(count):
        worth = []
        for member, own_NK in enumerate(probabilities_MNK.double()):
            mean_NK = (total_NK + own_NK) / (len(chosen) + 1)
            entropy = -float(mean_NK.gather(1, labels_N[:, None]).clamp_min(1e-12).log().mean())
            worth.append((accuracy(mean_NK, labels_N), -entropy, -member))
        best = max(range(len(worth)), key=worth.__getitem__)
        chosen.append(best)
        total_NK += probabilities_MNK[best].double()
    return chosen


def judged(probabilities_NK: Tensor, labels_N: Tensor) -> dict[str, float]:
    """Accuracy and expected calibration error, percent."""
    found = {"accuracy": accuracy(probabilities_NK, labels_N)}
    return found | {"calibration_error": calibration(probabilities_NK, labels_N).error}


def ensemble(members: Members, select: int | None = None) -> dict[str, Any]:
    """How good the mean is, beside its members.

    Args:
        members: to be joined.
        select: choose so many of them, one by one, on the images held out of training; all of them if None.

    Raises:
        UserError: nothing was held out to choose by.
    """
    found = members.answers
    chosen = list(range(len(members.folders)))
    if select is not None:
        if found.watched_MNK is None or found.watched_labels_N is None:
            raise UserError(
                "select: nothing was held out of these trainings to choose by; retrain with data.held_out=0.1, or "
                "leave select out"
            )
        chosen = greedy(found.watched_MNK, found.watched_labels_N, select)
    own_MNK = found.probabilities_MNK[chosen]
    single = [judged(one_NK, found.labels_N) for one_NK in found.probabilities_MNK]
    return {
        "members": [
            {"run": str(folder), "times": chosen.count(place), **single[place]}
            for place, folder in enumerate(members.folders)
        ],
        "ensemble": judged(own_MNK.double().mean(dim=0), found.labels_N),
        "disagreement": disagreement(found.probabilities_MNK[sorted(set(chosen))]),
        "images": len(found.labels_N),
        "judged_on": f"{members.tasks.final.name}, {members.tasks.judged_on}",
    }
