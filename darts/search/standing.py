"""How the candidates of a phase stand when it ends: what the choice among them rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SHOWN = 20  # cells that are kept, of all that were judged


def standing(
    measure: str,
    rows: Sequence[tuple[str, float, float | None, int]],
    unit: str = "",
    higher_is_better: bool = True,
) -> dict[str, Any]:
    """As `SearchResult` holds it.

    Args:
        measure: what a value is, with what it is measured on.
        rows: cell, value, its standard deviation where that is known, and how often the cell was judged; best first.
        unit: behind a value.
        higher_is_better: its direction.
    """
    names = ("cell", "value", "deviation", "times")
    return {
        "measure": measure, "unit": unit, "higher_is_better": higher_is_better, "judged": len(rows),
        "times": sum(times for *_, times in rows),
        "cells": [dict(zip(names, row, strict=True)) for row in rows[:SHOWN]],
    }  # fmt: skip


def undecided(content: dict[str, Any]) -> int | None:
    """How many of the others differ from the best by less than two deviations of the difference; None if unknown."""
    first, *others = content["cells"]
    if first["deviation"] is None:
        return None
    return sum(abs(one["value"] - first["value"]) < 2 * one["deviation"] for one in others)
