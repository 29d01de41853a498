"""What a retraining gave: lines to read, and its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from darts.report.palette import BLUE, GREY, ORANGE, plain_style, save_png
from darts.training.result import SCRATCH, RetrainResult

NAMED = 30  # classes, above which the confusion matrix has no names and numbers
WORST = 3  # classes in a line


def retrain_lines(result: RetrainResult, folder: Path) -> list[tuple[str, str]]:
    """Name and value of everything worth reading."""
    metric = result.judged_by
    lines = [
        ("cell", result.cell),
        ("parameters", f"{result.params:,}  ({result.network_size})"),
        ("FLOPs", f"{result.flops / 1e6:.2f} M multiply-adds"),
        *([("weights", result.origin)] if result.origin != SCRATCH else []),
        (f"test {metric.name}", f"{metric.text(result.test)}  (of {result.trained_on}, {result.judged_on}, once)"),
    ]
    for one in result.rolled_back:
        lines.append(("rolled back", f"{one['why']}; to step {one['step']}, rates times {one['rate']:g}"))
    if result.best_epoch is not None:
        best = next(record for record in result.history if record["epoch"] == result.best_epoch)
        lines.append(("held out", f"{metric.text(best['watched'])} at best, in epoch {result.best_epoch}"))
    if result.classes is not None and result.calibration_error is not None:
        worst = sorted(result.classes, key=lambda one: one["accuracy"])[:WORST]
        lines.append(("worst classes", ", ".join(f"{one['name']} {one['accuracy']:.1f}%" for one in worst)))
        lines.append(("calibration", f"confidence is {result.calibration_error:.2f} points off in the mean"))
    seconds = result.seconds
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if name != "total")
    speed = f"{result.timing['images_per_second']:,.0f} images/s in {result.precision}"
    pictures = ", ".join([str(folder / "figures" / names_of(result)[0]), *names_of(result)[1:]])
    return [
        *lines,
        ("time", f"{seconds['total']:.1f} s  ({parts}); {result.epochs} epochs, {result.steps} steps, {speed}"),
        ("files", str(folder)),
        ("  pictures", pictures),
        ("  report", str(folder / "report.html")),
    ]


def names_of(result: RetrainResult) -> list[str]:
    """The pictures that `draw_retraining` writes."""
    return ["training.png", *(["confusion.png", "calibration.png"] if result.confusion is not None else [])]


def draw_retraining(result: RetrainResult, folder: Path) -> None:
    """Write training.png, and for a classifier confusion.png and calibration.png."""
    with plain_style():
        folder.mkdir(exist_ok=True)
        for name, figure in figures_of(result).items():
            save_png(figure, folder / f"{name}.png")


def figures_of(result: RetrainResult) -> dict[str, Any]:
    """Name to matplotlib figure: training, and for a classifier confusion and calibration."""
    figures = {"training": _training(result)}
    if result.confusion is not None and result.classes is not None and result.calibration_bins is not None:
        figures |= {"confusion": _confusion(result.confusion, result.classes), "calibration": _calibration(result)}
    return figures


def _training(result: RetrainResult) -> Any:
    """Loss, rate, and what was watched, over the epochs."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    watched, metric = result.best_epoch is not None, result.judged_by
    epochs = [record["epoch"] for record in result.history]
    marker = "o" if len(epochs) < 3 else None
    figure = Figure(figsize=(8 if watched else 5.5, 3), layout="constrained")
    panels = figure.subplots(1, 2 if watched else 1, squeeze=False)[0]
    panels[0].plot(epochs, [record["train_loss"] for record in result.history], color=BLUE, marker=marker)
    panels[0].set(xlabel="epoch", ylabel="train loss", ylim=(0, None))
    if watched:
        panels[1].plot(epochs, [record["watched"] for record in result.history], color=ORANGE, marker=marker)
        unit = f" ({metric.unit})" if metric.unit else ""
        panels[1].set(xlabel="epoch", ylabel=f"held out {metric.name}{unit}")
        panels[1].axvline(result.best_epoch, color=GREY, linewidth=0.8, linestyle=":")
    for panel in panels:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.25)
    figure.suptitle(f"{result.trained_on}: test {metric.name} {metric.text(result.test)}", fontsize=9)
    return figure


def _confusion(table: list[list[int]], classes: list[dict[str, Any]]) -> Any:
    """Share of each class (rows) that got each answer."""
    from matplotlib.figure import Figure

    counts = np.array(table, dtype=float)
    share = 100 * counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    count, names = len(classes), [one["name"] for one in classes]
    side = 2.5 + 0.36 * min(count, NAMED)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    if count <= NAMED:
        axes.set_xticks(range(count), names, rotation=90, fontsize=8)
        axes.set_yticks(range(count), names, fontsize=8)
        for row in range(count):
            for column in range(count):
                if counts[row, column]:
                    colour = "white" if share[row, column] > 50 else "black"
                    axes.text(
                        column, row, f"{share[row, column]:.0f}", ha="center", va="center", fontsize=7, color=colour
                    )
    axes.set(xlabel="answer", ylabel="class")
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="% of the class", shrink=0.8)
    return figure


def _calibration(result: RetrainResult) -> Any:
    """Accuracy over confidence; the size of a dot is the number of images."""
    from matplotlib.figure import Figure

    counts, confidence, accuracy = (np.array(column) for column in zip(*(result.calibration_bins or []), strict=True))
    figure = Figure(figsize=(4.2, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=0.8, linestyle=":")
    axes.plot(confidence, accuracy, color=BLUE, linewidth=0.8)
    axes.scatter(confidence, accuracy, s=10 + 200 * counts / counts.sum(), color=BLUE)
    axes.set(xlabel="confidence (%)", ylabel="accuracy (%)", xlim=(0, 102), ylim=(0, 102), aspect="equal")
    axes.set_title(f"expected calibration error {result.calibration_error:.2f} points", fontsize=9)
    axes.grid(alpha=0.25)
    return figure
