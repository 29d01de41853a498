"""What a retraining gave, and its file result.json.

Wall-clock values stand under `seconds` and `timing` alone; everything else repeats bit for bit.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from darts.run.files import write_text
from darts.run.folder import read_result
from darts.run.schema import VERSION
from darts.tasks.base import Metric

CONFIG_KEYS = ("space", "network", "data", "recipe", "engine", "seed")
"""What a config of a retraining holds at least."""
TEST = "test_"
SCRATCH = "trained from scratch"


@dataclass
class RetrainResult:
    """One finished retraining; field by field the content of result.json.

    Attributes:
        cell, seed: of the network.
        params, flops, network_size: of the network.
        trained_on, judged_on: the data, and which of them judged it, in words.
        test: the task's metric there; in the file under its name, such as `test_accuracy` (%).
        epochs, steps, images: done, and images passed forward by training steps.
        history: one record an epoch: epoch, step, lr, train_loss, and `watched`, the metric of what was held out to be
            looked at, if something was.
        rolled_back: [{why, step, rate}]: where a number was no longer finite, the step that the training went back to,
            and the factor of all learning rates from there on.
        best_epoch: by `watched`; its weights are in checkpoints/best.pt. None if nothing was watched.
        classes: [{name, images, accuracy}] of what judged it, for a classifier.
        confusion: images by class (rows) and answer, for a classifier.
        origin: of the weights: trained from scratch, or what the training began with.
        precision: float32 or bfloat16, of training steps.
        mistakes: [{label, answer, label_probability, answer_probability}] of the images whose own class got the least,
            in the order of checkpoints/mistakes.pt, for a classifier; names and percent.
        calibration_error: expected, in percent, with its bins [(images, confidence, accuracy)], for a classifier.
        metric: what the task is judged by; see `darts.tasks.base.Metric`.
    """

    cell: str
    seed: int
    params: int
    flops: int
    network_size: str
    trained_on: str
    judged_on: str
    test: float
    epochs: int
    steps: int
    images: int
    history: list[dict[str, Any]]
    best_epoch: int | None
    metric: dict[str, Any]
    versions: dict[str, str | int]
    seconds: dict[str, float]
    timing: dict[str, float]
    classes: list[dict[str, Any]] | None = None
    confusion: list[list[int]] | None = None
    calibration_error: float | None = None
    calibration_bins: list[list[float]] | None = None
    mistakes: list[dict[str, Any]] | None = None
    origin: str = SCRATCH
    precision: str = "float32"
    rolled_back: list[dict[str, Any]] = field(default_factory=list)
    kind: str = "retrain"
    schema_version: int = VERSION

    def write(self, path: Path) -> None:
        """Write result.json atomically."""
        named = {TEST + self.metric["name"] if key == "test" else key: value for key, value in asdict(self).items()}
        write_text(path, json.dumps(named, indent=1, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> RetrainResult:
        """Read result.json.

        Raises:
            UserError: no such file, or no result of this schema.
        """

        def build(content: dict[str, Any]) -> RetrainResult:
            (name,) = (key for key in content if key.startswith(TEST))
            return cls(**{"test" if key == name else key: value for key, value in content.items()})

        return read_result(path, "retrain", build)

    @property
    def judged_by(self) -> Metric:
        """The task's metric."""
        return Metric.read(self.metric)
