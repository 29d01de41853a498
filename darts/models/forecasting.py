"""Answers of a model about series in CSV files.

Shape suffixes: N windows, L steps, C columns, K targets, T lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from darts.models.formats.base import Answer
from darts.run.errors import UserError
from darts.tasks.datasets.numbers import read_csv
from darts.training.model import About


class Forecast(NamedTuple):
    """What a model foretells.

    Attributes:
        path: of the file.
        line: of the value in it, counted from 1 with the line of names; beyond the last one for the future.
        values: name of a target to the number.
        truth: the same, as the file has it; empty for the future.
    """

    path: Path
    line: int
    values: dict[str, float]
    truth: dict[str, float]


def check_forecaster(about: About) -> None:
    """Refuse what no file can be read for.

    Raises:
        UserError: it is made by a rule.
    """
    if not about.inputs:
        raise UserError(f"model: it is of {about.trained_on}, for which no files can be read")


def forecasts(about: About, answer: Answer, file: Path, batch_size: int = 64) -> Iterator[Forecast]:
    """One for every window of a file, in order of time; the last ones are of lines that are not there yet.

    Raises:
        UserError: it cannot be read, lacks a column, or is shorter than a window.
    """
    inputs = about.inputs
    columns, window, horizon = list(inputs["columns"]), inputs["window"], inputs["horizon"]
    _, rows = read_csv(file, columns, "darts predict, model")
    if len(rows) < window:
        raise UserError(f"{file}: got {len(rows)} rows; the model looks at {window}, give at least as many")
    mean_C, deviation_C = (torch.tensor(inputs[name], dtype=torch.float64) for name in ("mean", "deviation"))
    values_TC = torch.tensor(rows, dtype=torch.float64)
    windows_NLC = ((values_TC - mean_C) / deviation_C).float().unfold(0, window, 1).transpose(1, 2)
    places = [columns.index(name) for name in inputs["targets"]]
    number = 0
    for part_NLC in windows_NLC.split(batch_size):
        found_NK = answer(part_NLC.contiguous()).double() * deviation_C[places] + mean_C[places]
        for found_K in found_NK:
            row = number + window + horizon - 1
            known = rows[row] if row < len(rows) else None
            values = dict(zip(inputs["targets"], found_K.tolist(), strict=True))
            truth = {} if known is None else {name: known[columns.index(name)] for name in values}
            yield Forecast(file, row + 2, values, truth)
            number += 1
