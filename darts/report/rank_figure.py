"""The picture of a ranking."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from darts.compare.rank import Ranked
from darts.report.palette import BLUE, plain_style, save_png


def draw_rank(cells: Sequence[Ranked], value: str, truth: str, path: Path) -> None:
    """A dot a cell: left all of them, right the better half by what is known; darker where they are deeper."""
    from matplotlib.figure import Figure

    ordered = sorted(cells, key=lambda one: -one.truth)
    panels = {"all cells": ordered, "the better half": ordered[: max(2, len(ordered) // 2)]}
    deepest = max(1, *(one.depth for one in cells))
    with plain_style():
        figure = Figure(figsize=(9.2, 3.6), layout="constrained")
        for axes, (title, members) in zip(figure.subplots(1, 2), panels.items(), strict=True):
            strength = [0.25 + 0.75 * max(0, one.depth) / deepest for one in members]
            axes.scatter(
                [one.value for one in members], [one.truth for one in members], s=16, color=BLUE, alpha=strength, lw=0
            )
            axes.set(xlabel=value, ylabel=f"known accuracy, {truth}", title=f"{title} ({len(members)})")
        figure.supxlabel("darker: more convolutions in a row", x=0.995, ha="right", fontsize=7)
        save_png(figure, path)
