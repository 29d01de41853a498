"""Numbers from a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from darts.run.errors import UserError, reason
from darts.run.files import is_special


def read_csv(file: Path, columns: list[str] | None, option: str) -> tuple[tuple[str, ...], list[list[float]]]:
    """Numbers of a CSV file with a line of names.

    Args:
        file: to be read.
        columns: names of those that are wanted, in this order; all if None.
        option: of the file, for messages.

    Raises:
        UserError: it cannot be read, lacks a column, or a value is no finite number; the row is named.
    """
    try:
        if is_special(file):
            raise OSError("no file, but a pipe or a device")
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            names = [name.strip() for name in next(reader, [])]
            wanted = names if columns is None else columns
            if not wanted and names:
                raise UserError(f"{option}.columns: got []; give some of {', '.join(names)}, or leave it out")
            if not names or len(set(names)) != len(names):
                raise UserError(f"{option}.root: {file} has no first line with different names of columns")
            if missing := [name for name in wanted if name not in names]:
                raise UserError(f"{option}.columns: got {missing[0]!r}; {file} has {', '.join(names)}")
            places, rows = [names.index(name) for name in wanted], []
            for number, row in enumerate(reader, start=2):
                if not row:
                    continue
                rows.append([_number(row, place, names, number, file, option) for place in places])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{option}.root: {file} cannot be read ({reason(error)}); give a CSV file") from None
    return tuple(wanted), rows


def _number(row: Sequence[str], place: int, names: Sequence[str], number: int, file: Path, option: str) -> float:
    text = row[place].strip() if place < len(row) else ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        given = "a gap" if not text else repr(text[:40])
        raise UserError(
            f"{option}.root: {file}, line {number}, column {names[place]!r}: got {given}, not a finite number; fill or "
            f"remove such rows, or name the columns to use with {option}.columns=[...]"
        )
    return value
