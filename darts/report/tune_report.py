"""What a study of hyperparameters gave: lines to read, and its picture."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darts.report.palette import BLUE, GREY, ORANGE, plain_style, save_png
from darts.report.text import Lines
from darts.tasks.base import Metric


def values_text(values: Mapping[str, Any]) -> str:
    """``recipe.lr=0.0312 network.cells=3``; without the decisions of a cell."""
    return " ".join(_words(values, 3))


def _words(values: Mapping[str, Any], digits: int) -> list[str]:
    return [
        f"{key}={value:.{digits}g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in values.items()
        if "." in key
    ]


def tune_lines(content: Mapping[str, Any], folder: Path) -> Lines:
    """Name and value of everything worth reading."""
    metric, best, trials = Metric.read(content["metric"]), content["best"], content["trials"]
    count = {state: sum(trial["state"] == state for trial in trials) for state in ("complete", "pruned", "fail")}
    lines = [
        ("trials", f"{count['complete']} to their end, {count['pruned']} ended early, {count['fail']} failed"),
    ]
    if best is None:
        return [*lines, ("best", "none was trained to its end; give more trials"), ("files", str(folder))]
    words = ["darts", "retrain", f"cell={best['cell']}", "dataset=..."]
    words += _words(best["settings"], 6)
    return [
        *lines,
        ("best", f"{metric.text(best['value'])} {metric.name} on what was held out, trial {best['number'] + 1}"),
        ("  settings", values_text(best["settings"])),
        ("  cell", best["cell"]),
        ("train it", shlex.join(words)),
        ("files", str(folder)),
        ("  picture", str(folder / "figures" / "trials.png")),
    ]


def draw_trials(content: Mapping[str, Any], path: Path) -> None:
    """A dot a trial that was trained to its end, the best so far as a line; marks below are trials that ended early."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    metric = Metric.read(content["metric"])
    whole = [trial for trial in content["trials"] if trial["state"] == "complete"]
    early = [trial["number"] + 1 for trial in content["trials"] if trial["state"] != "complete"]
    numbers, values = [trial["number"] + 1 for trial in whole], [trial["value"] for trial in whole]
    with plain_style():
        figure = Figure(figsize=(6, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.scatter(numbers, values, s=16, color=BLUE)
        axes.step(
            numbers,
            list(itertools.accumulate(values, max if metric.higher_is_better else min)),
            color=ORANGE,
            where="post",
        )
        axes.plot(early, [0.02] * len(early), "|", color=GREY, transform=axes.get_xaxis_transform())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        unit = f" ({metric.unit})" if metric.unit else ""
        axes.set(xlabel="trial (grey: ended early)", ylabel=f"held out {metric.name}{unit}")
        axes.grid(alpha=0.25)
        path.parent.mkdir(exist_ok=True)
        save_png(figure, path)
