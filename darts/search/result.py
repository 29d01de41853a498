"""What a search found, and its file result.json.

Wall-clock values stand under `seconds` and `timing` alone; everything else repeats bit for bit.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from darts.run.files import write_text
from darts.run.folder import read_result
from darts.run.schema import VERSION, Upgrades
from darts.tasks.base import Metric

CONFIG_KEYS = ("space", "network", "data", "budget", "engine", "seed", "relaxation", "discretizer")
"""What a config of a search holds at least."""
ACCURACY = {"name": "accuracy", "unit": "%", "higher_is_better": True, "limits": [0, 100]}
VALID = "supernet_valid_"


def _from_1(content: dict[str, Any]) -> dict[str, Any]:
    """All searches were judged by accuracy."""
    return {"metric": dict(ACCURACY), **content}


UPGRADES: Upgrades = {1: _from_1}


@dataclass
class SearchResult:
    """One finished search; field by field the content of result.json.

    Attributes:
        cell: the derived cell.
        planned_steps, epochs, steps: what was planned and what was done; `epochs` are complete passes.
        stopped_by: ``steps`` when all planned steps were done, ``seconds`` when the clock ran out first.
        images: images passed forward by training steps; `evaluation_images` those of evaluations.
        seconds: working time by part, across resumes.
        history: one record an epoch: epoch, step, alphas, cell, train_loss, valid_loss, valid_METRIC; and
            `measured`, numbers of monitors by name; `allowed`, marks (E, O), if phases had closed operations.
        alphas: the final architecture parameters.
        supernet_valid: the task's metric of the mixture on the architecture part of the training data, or of drawn
            paths where there is no mixture; in the file under its name, such as `supernet_valid_accuracy` (%).
        flops, params: of the cell's network at `network_size`, that of the data.
        benchmark_cost: {params, flops, network_size} of the benchmark's own network, if that is another one.
        settings: what else the numbers hinge on: batch norm, split, determinism.
        phase_steps: done in each phase; with these as the phases' shares, `budget.steps=steps` repeats the run.
        stopped_early: why a phase ended before its time, in words; empty if none did.
        rolled_back: [{why, step, rate}]: where numbers stopped being finite, the step that the search went back to, and
            the factor of all learning rates from there on.
        metric: what the task is judged by; see `darts.tasks.base.Metric`.
        allowed: by edge, the operations that phases left; None if they left all.
        standing: of the last phase, if it judged cells: {measure, unit, higher_is_better, judged, times, undecided,
            cells: [{cell, value, deviation, times}]}, the found cell first; see `darts.search.standing`.
        verdict: {by, clear_lead, edges: [{edge, operation, decided, weight, lead, rivals}], undecided, unchanged_since,
            stable}: what each edge rests on; see `darts.search.verdict`. None if nothing chose the cell.
        initial_alphas: the architecture parameters before the first step.
        oracle: {table, cells, searched_on, same_cost, rows: [{dataset, split, epochs, value, rank, better_than}]}, or
            None; `better_than` counts those of the `same_cost` cells of nearest cost that are worse.
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
    supernet_valid: float
    flops: int
    params: int
    network_size: str
    searched_on: str
    settings: dict[str, Any]
    versions: dict[str, str | int]
    metric: dict[str, Any] = field(default_factory=lambda: dict(ACCURACY))
    allowed: dict[str, list[str]] | None = None
    standing: dict[str, Any] | None = None
    verdict: dict[str, Any] | None = None
    initial_alphas: dict[str, Any] | None = None
    oracle: dict[str, Any] | None = None
    benchmark_cost: dict[str, Any] | None = None
    timing: dict[str, float] = field(default_factory=dict)
    phase_steps: dict[str, int] = field(default_factory=dict)
    stopped_early: str = ""
    rolled_back: list[dict[str, Any]] = field(default_factory=list)
    kind: str = "search"
    schema_version: int = VERSION

    def write(self, path: Path) -> None:
        """Write result.json atomically."""
        named = {VALID + self.metric["name"] if k == "supernet_valid" else k: v for k, v in asdict(self).items()}
        text = json.dumps(named, indent=1, allow_nan=False)
        text = re.sub(r"\[\n\s+([-+.\de,\s]+?)\n\s+\]", lambda numbers: "[" + " ".join(numbers[1].split()) + "]", text)
        write_text(path, text + "\n")

    @classmethod
    def read(cls, path: Path) -> SearchResult:
        """Read result.json.

        Raises:
            UserError: no such file, or no result of this schema.
        """

        def build(content: dict[str, Any]) -> SearchResult:
            (name,) = (key for key in content if key.startswith(VALID))
            if not content["history"] or not all(isinstance(content[key], int) for key in ("params", "flops", "steps")):
                raise ValueError("it has no history, or no whole numbers for params, flops and steps")
            return cls(**{"supernet_valid" if key == name else key: value for key, value in content.items()})

        return read_result(path, "search", build, UPGRADES)

    def look_up(self, table: str, cells: int, same_cost: int, rows: list[dict[str, Any]]) -> None:
        """Take note of what a table, of that name and with so many cells, knows of the cell and of those as dear."""
        self.oracle = {
            "table": table, "cells": cells, "searched_on": self.searched_on, "same_cost": same_cost, "rows": rows,
        }  # fmt: skip

    @property
    def judged_by(self) -> Metric:
        """The task's metric."""
        return Metric.read(self.metric)
