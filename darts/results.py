"""What a search found, and its file result.json.

Wall-clock values stand under `seconds` and `timing` alone; everything else repeats bit for bit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from darts.errors import UserError
from darts.paths import write_text
from darts.run_folder import resuming

SCHEMA_VERSION = 1
Result = TypeVar("Result")


@dataclass
class SearchResult:
    """One finished search; field by field the content of result.json.

    Attributes:
        cell: the derived cell.
        planned_steps, epochs, steps: what was planned and what was done; `epochs` are complete passes.
        stopped_by: ``steps`` when all planned steps were done, ``seconds`` when the clock ran out first.
        images: images passed forward by training steps; `evaluation_images` those of evaluations.
        seconds: working time by part, across resumes.
        history: one record an epoch: epoch, step, alphas, cell, train_loss, valid_loss, valid_accuracy.
        alphas: the final architecture parameters.
        supernet_valid_accuracy: accuracy (%) of the mixture on the architecture part of the training data.
        flops, params: of the cell's network at `network_size`.
        settings: what else the numbers hinge on: batch norm, split, determinism.
        oracle: {table, searched_on, rows: [{dataset, split, epochs, value, rank}]}, or None.
    """

    cell: str
    seed: int
    planned_steps: int
    stopped_by: str
    epochs: int
    steps: int
    images: int
    evaluation_images: int
    seconds: dict[str, float]
    history: list[dict[str, Any]]
    alphas: dict[str, Any]
    supernet_valid_accuracy: float
    flops: int
    params: int
    network_size: str
    searched_on: str
    settings: dict[str, Any]
    versions: dict[str, str | int]
    oracle: dict[str, Any] | None = None
    timing: dict[str, float] = field(default_factory=dict)
    kind: str = "search"
    schema_version: int = SCHEMA_VERSION

    def write(self, path: Path) -> None:
        """Write result.json atomically."""
        text = json.dumps(asdict(self), indent=1, allow_nan=False)
        text = re.sub(r"\[\n\s+([-+.\de,\s]+?)\n\s+\]", lambda numbers: "[" + " ".join(numbers[1].split()) + "]", text)
        write_text(path, text + "\n")

    @classmethod
    def read(cls, path: Path) -> SearchResult:
        """Read result.json.

        Raises:
            UserError: no such file, or no result of this schema.
        """
        return read_result(path, "search", lambda content: cls(**content))


def read_result(path: Path, command: str, build: Callable[[dict[str, Any]], Result]) -> Result:
    """The result.json of a command, built from its plain values.

    Raises:
        UserError: no such file, or no result of this command and schema.
    """
    if not path.is_file():
        hint = resuming(path.parent, command)
        raise UserError(f"run: {path.parent} holds no result.json; finish it with: {hint}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.get("schema_version")
        if version != SCHEMA_VERSION:
            raise UserError(f"run: {path} has schema_version {version}, this program reads {SCHEMA_VERSION}")
        return build(content)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"run: {path} is no result of darts {command} ({error}); give the folder of a run") from None
