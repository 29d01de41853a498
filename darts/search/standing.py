"""How the candidates of a phase stand when it ends: what the choice among them rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

KEPT = 200  # cells, of all that were judged


def as_good(value: float, best: float, deviation: float) -> bool:
    """Whether a candidate is within two deviations of the best."""
    return abs(value - best) < 2 * deviation


def standing(
    measure: str,
    rows: Sequence[tuple[str, float, float | None, int]],
    unit: str = "",
    higher_is_better: bool = True,
) -> dict[str, Any]:
    """As `SearchResult` holds it.

    Args:
        measure: what a value is, with what it is measured on.
        rows: cell, value, the standard deviation of its difference from the best where that is known, and how often the
            cell was judged; best first. `undecided` of them are within two deviations of the best.
        unit: behind a value.
        higher_is_better: its direction.
    """
    names = ("cell", "value", "deviation", "times")
    best = rows[0][1]
    undecided = [as_good(value, best, deviation) for _, value, deviation, _ in rows[1:] if deviation is not None]
    return {
        "measure": measure, "unit": unit, "higher_is_better": higher_is_better, "judged": len(rows),
        "times": sum(times for *_, times in rows),
        "undecided": None if rows[0][2] is None else sum(undecided),
        "cells": [dict(zip(names, row, strict=True)) for row in rows[:KEPT]],
    }  # fmt: skip
