"""Slow evaluations on the disk: as they come, so that nothing is lost, and as a table in the end."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from darts.blackbox.evaluators.base import Outcome
from darts.blackbox.loop import Answer
from darts.oracle.base import Column, Table
from darts.run.errors import UserError
from darts.run.files import write_text

LEAST = 3  # cells that a rank correlation needs


def flush(stream: TextIO) -> None:
    """Bring what was written to the disk."""
    stream.flush()
    os.fsync(stream.fileno())


def complete_lines(file: Path) -> list[Any]:
    """JSON values of a file, a line each; what a crash left half written is cut off.

    Raises:
        UserError: a file that is none of this program's.
    """
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    complete = [line for line in lines if line.endswith("\n")]
    if len(complete) < len(lines):
        write_text(file, "".join(complete))
    try:
        return [json.loads(line) for line in complete]
    except ValueError as error:
        raise foreign(file, error) from None


def foreign(file: Path, error: Exception) -> UserError:
    """What to say of a file that does not hold what it should."""
    return UserError(f"resume: {file} is not what darts baseline writes ({error}); remove it to start anew")


def read_answers(file: Path) -> list[Answer]:
    """Answers of a seed, in order.

    Raises:
        UserError: a file that is none of this program's.
    """
    try:
        return [
            Answer(cell, epochs, Outcome(value, taken, tuple(curve)), price, seconds, *made_by)
            for cell, epochs, (value, taken, curve), price, seconds, *made_by in complete_lines(file)
        ]
    except (TypeError, ValueError) as error:
        raise foreign(file, error) from None


def known_of(cell: str, table: Table | None, column: Column | None) -> float | None:
    """Known accuracy of a cell, if there is one."""
    if table is None or column is None:
        return None
    return table.value(table.space.parse(cell), column.dataset, column.split, column.epochs)


def as_csv(answers: Mapping[int, Sequence[Answer]], table: Table | None, column: Column | None) -> str:
    """All evaluations by seed, a line each."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["seed", "number", "cell", "epochs", "trained", "value", "price", "truth", "seconds", "curve", "made_by"]
    )
    for seed, given in answers.items():
        for number, (cell, epochs, (value, taken, curve), price, seconds, made_by) in enumerate(given):
            truth = known_of(cell, table, column)
            text = " ".join(f"{accuracy:.4g}" for accuracy in curve)
            spent = f"{seconds:.3f}"
            writer.writerow([seed, number, cell, epochs, taken, value, price, truth, spent, text, made_by])
    return stream.getvalue()


def rank_correlation(
    answers: Mapping[int, Sequence[Answer]], table: Table | None, column: Column | None
) -> dict[str, float] | None:
    """Spearman's and Kendall's rank correlation of what the searches saw with known accuracy, over the different cells
    that were trained longest."""
    from scipy import stats

    every = [answer for given in answers.values() for answer in given if answer.outcome.value is not None]
    if table is None or column is None or not every:
        return None
    longest = max(answer.epochs for answer in every)
    values = {
        answer.cell: answer.outcome.value
        for answer in every
        if answer.epochs == longest and len(answer.outcome.curve) in (0, longest)
    }
    if len(values) < LEAST or len(set(values.values())) == 1:
        return None
    truths = [known_of(cell, table, column) for cell in values]
    seen = list(values.values())
    return {
        "spearman": float(stats.spearmanr(seen, truths).statistic),
        "kendall": float(stats.kendalltau(seen, truths).statistic),
        "cells": len(values),
    }
