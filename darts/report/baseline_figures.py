"""Pictures of black-box runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darts.blackbox.pareto import TrueFront
from darts.blackbox.result import BaselineResult
from darts.blackbox.runs import prepare, true_front
from darts.compare.curves import values_at
from darts.report.cell import titled_cell
from darts.report.palette import BLUE, GREY, RED, plain_style, save_png
from supernet.spaces.base import Space


def steps(result: BaselineResult, axis: str, value: str, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Value of every run's incumbent at some places of an axis, (runs, places); nan before the first."""
    rows = []
    for run in result.runs:
        places, values = ([getattr(point, name) for point in run.trajectory] for name in (axis, value))
        rows.append(values_at(places, values, at))
    return np.array(rows)


def names_of(result: BaselineResult) -> list[str]:
    """The pictures that `draw_baseline` writes."""
    found = any(run.trajectory for run in result.runs)
    return [
        *(["front.png"] if result.objective is not None else []),
        "trajectory.png",
        *(["cell.png"] if found else []),
    ]


def complete_figures(result: BaselineResult, settings: Mapping[str, Any], folder: Path) -> None:
    """Draw the pictures that a written result lacks, because it was stopped before them.

    Raises:
        UserError: settings that the run cannot have been made with.
    """
    if not all((folder / name).is_file() for name in names_of(result)):
        prepared = prepare(settings)
        draw_baseline(result, true_front(prepared), folder, prepared.search.space)


def draw_baseline(result: BaselineResult, best: TrueFront | None, folder: Path, space: Space) -> None:
    """Write trajectory.png, cell.png of the best that was found, and front.png if there is a second objective, with the
    table's own front where it is known."""
    folder.mkdir(exist_ok=True)
    if result.objective is not None:
        draw_front(result, best, folder / "front.png")
    draw_trajectory(result, folder / "trajectory.png")
    if found := [run.trajectory[-1] for run in result.runs if run.trajectory]:
        cell = max(found, key=lambda point: point.signal).cell
        with plain_style():
            figure = titled_cell(cell, space)
            save_png(figure, folder / "cell.png")


def draw_trajectory(result: BaselineResult, path: Path) -> None:
    """The incumbents' signal and truth over evaluations: each run thin, their mean thick."""
    from matplotlib.figure import Figure

    last = max((run.evaluations for run in result.runs), default=1)
    at = np.unique(np.geomspace(1, max(last, 2), 300).round())
    panels = [("signal", result.evaluator["signal"])]
    if result.truth is not None:
        panels.append(("truth", result.truth))
    with plain_style():
        figure = Figure(figsize=(4.6 * len(panels), 3.2), layout="constrained")
        for axes, (value, column) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            curves = steps(result, "evaluations", value, at)
            shown = curves[:50]
            axes.step(at, shown.T, where="post", color=BLUE, alpha=min(1, 4 / len(shown)), linewidth=0.8)
            known = ~np.isnan(curves).any(axis=0)
            axes.step(at[known], curves[:, known].mean(0), where="post", color=RED, linewidth=2, label="mean")
            finals = curves[:, -1][~np.isnan(curves[:, -1])]
            if finals.size:
                low = np.nanpercentile(curves[:, at <= max(2, last // 10)], 5)
                bottom, top = min(low, finals.min()), finals.max()
                axes.set_ylim(bottom - 0.05 * (top - bottom or 1), top + 0.1 * (top - bottom or 1))
            unit = "" if "minus" in column else " (%)"
            axes.set(xscale="log", xlabel="evaluations", ylabel=f"{value}: {column}{unit}")
            axes.xaxis.set_major_formatter("{x:g}")  # its own would be set as mathematics
            axes.xaxis.set_minor_formatter("")
            axes.grid(alpha=0.25)
            axes.legend(frameon=False, loc="lower right")
        figure.suptitle(f"{result.label}, {len(result.runs)} run{'s' * (len(result.runs) > 1)}")
        save_png(figure, path)


def draw_front(result: BaselineResult, best: TrueFront | None, path: Path) -> None:
    """Every run's front, by what the searches saw and by known accuracy; there beside the table's own."""
    from matplotlib.figure import Figure

    assert result.objective is not None
    panels = [("value", f"signal: {result.evaluator['signal']}")]
    if result.truth is not None:
        panels.append(("truth", f"truth: {result.truth} (%)"))
    with plain_style():
        figure = Figure(figsize=(4.6 * len(panels), 3.4), layout="constrained")
        for axes, (value, label) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            if value == "truth" and best is not None:
                truths, prices = zip(*best.pairs, strict=True)
                axes.scatter(best.prices, best.truths, s=1, color=GREY, rasterized=True)
                axes.step(prices, truths, where="post", color=RED, linewidth=2, label="table's own front")
            for place, run in enumerate(result.runs[:50]):
                found = [(member.price, getattr(member, value)) for member in run.front]
                axes.plot(
                    *zip(*found, strict=True), "o-", drawstyle="steps-post", color=BLUE, markersize=3,
                    linewidth=0.6, alpha=max(0.1, min(0.9, 3 / len(result.runs))), label=None if place else "found",
                )  # fmt: skip
            shown = [getattr(member, value) for run in result.runs for member in run.front]
            if shown and max(shown) > min(shown):
                pad = 0.05 * (max(shown) - min(shown))
                axes.set_ylim(min(shown) - pad, max(shown) + 2 * pad)
            axes.set(xlabel=f"{result.objective['name']} ({result.objective['unit']})", ylabel=label)
            axes.grid(alpha=0.25)
            for handle in axes.legend(frameon=False, loc="lower right").legend_handles:
                handle.set_alpha(1)
        figure.suptitle(f"{result.label}, {len(result.runs)} run{'s' * (len(result.runs) > 1)}")
        save_png(figure, path)
