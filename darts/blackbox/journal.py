"""Slow evaluations on the disk: as they come, so that nothing is lost, and as a table in the end."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO
from zlib import crc32

from darts.blackbox.evaluators.base import Outcome
from darts.blackbox.loop import Answer
from darts.oracle.base import Column, Table
from darts.run.errors import UserError
from darts.run.files import replacing
from darts.run.typed import check_types

LEAST = 3  # cells that a rank correlation needs


def flush(stream: TextIO) -> None:
    """Bring what was written to the disk."""
    stream.flush()
    os.fsync(stream.fileno())


def line_of(content: Any) -> str:
    """A line with that as JSON and a checksum, since one flipped bit may well leave a number."""
    text = json.dumps(content)
    return f"{text}\t{crc32(text.encode()):08x}\n"


def complete_lines(file: Path) -> list[Any]:
    """What the lines of a file hold up to the first that is damaged; that and all after it are cut off.

    What a crash left half written goes in silence; of other damage a line in the log tells, and a copy is kept.
    """
    if not file.is_file():
        return []
    lines = file.read_bytes().splitlines(keepends=True)
    found: list[Any] = []
    for line in lines:
        try:
            found.append(_read(line))
        except (ValueError, RecursionError):
            break
    if len(found) < len(lines):
        if len(found) < len(lines) - 1 or lines[-1].endswith(b"\n"):
            aside = file.with_name(f"{file.name}.damaged")
            with replacing(aside) as copy:
                copy.write_bytes(b"".join(lines))
            logging.getLogger(__name__).warning(
                "note: %s: damaged; going on from its first %d lines. The file as it was is %s", file, len(found), aside
            )
        with replacing(file) as rest:
            rest.write_bytes(b"".join(lines[: len(found)]))
    return found


def _read(line: bytes) -> Any:
    text, tab, checksum = line.rstrip(b"\n").partition(b"\t")
    if not line.endswith(b"\n") or (tab and checksum != f"{crc32(text):08x}".encode()):
        raise ValueError  # lines of version 0.1 have no checksum
    return json.loads(text)


def foreign(file: Path, error: Exception) -> UserError:
    """What to say of a file that does not hold what it should."""
    return UserError(f"resume: {file} is not what darts baseline writes ({error}); remove it to start anew")


def read_answers(file: Path) -> list[Answer]:
    """Answers of a seed, in order.

    Raises:
        UserError: a file that is none of this program's.
    """
    try:
        answers = [
            Answer(cell, epochs, Outcome(value, taken, tuple(curve)), price, seconds, *made_by)
            for cell, epochs, (value, taken, curve), price, seconds, *made_by in complete_lines(file)
        ]
        check_types(answers, list[Answer])
        return answers
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
