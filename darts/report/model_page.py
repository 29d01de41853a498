"""One page about a trained network: a file that needs no network, in the style of the comparison's.

Shape suffixes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from darts.report.page import rendered
from darts.report.palette import page_style
from darts.report.retrain_report import figures_of
from darts.report.svg import as_svg, cell_svg
from darts.training.result import RetrainResult
from supernet.spaces.base import Space

CAPTIONS = {
    "training": ("Training", "Mean loss of the training batches of every epoch, and what was held out to be watched."),
    "confusion": (
        "What is taken for what",
        "Percent of the images of a class (row) that got each answer (column).",
    ),
    "calibration": (
        "Can its confidence be trusted?",
        "Accuracy over confidence, in bins of confidence; a dot's size is the number of images. On the line, of images "
        "that it is 80% sure of it gets 80% right; below it, it is too sure of itself.",
    ),
}


def model_page(result: RetrainResult, space: Space, images_NCHW: Tensor | None, made: Mapping[str, str]) -> str:
    """The page as HTML.

    Args:
        result: of the training.
        space: of the cell.
        images_NCHW: bytes of `result.mistakes`, in their order; None if they are not at hand.
        made: when and by which command, for the facts.
    """
    with page_style():
        figures = {name: as_svg(figure, name) for name, figure in figures_of(result).items()}
    return rendered(
        "model.html",
        title=f"A network for {result.trained_on}",
        first=_first(result),
        facts={**made, **_facts(result)},
        figures=figures,
        captions={name: caption for name, caption in CAPTIONS.items() if name in figures},
        classes=_classes(result),
        mistakes=[] if images_NCHW is None else _mistakes(result.mistakes or [], images_NCHW),
        cell=result.cell,
        picture=cell_svg(result.cell, space, "cell"),
    )


def _first(result: RetrainResult) -> str:
    metric = result.judged_by
    text = f"Its {metric.name} is {metric.text(result.test)}, judged once on {result.judged_on} of {result.trained_on}"
    if result.classes is None or result.calibration_error is None:
        return f"{text}."
    count = sum(one["images"] for one in result.classes)
    worst = min(result.classes, key=lambda one: one["accuracy"])
    return (
        f"{text}, {count:,} that it was not trained on; it is weakest at {worst['name']} ({worst['accuracy']:.1f}%), "
        f"and its confidence is {result.calibration_error:.1f} points off in the mean."
    )


def _facts(result: RetrainResult) -> dict[str, str]:
    device = result.versions.get("device", "")
    return {
        "weights": result.origin,
        "network": result.network_size,
        "cost": f"{result.params:,} parameters, {result.flops / 1e6:.2f} M multiply-adds an image",
        "training": f"{result.epochs} epochs, {result.steps:,} steps, {result.images:,} images, seed {result.seed}",
        "time": f"{result.seconds['total']:.0f} s, {result.timing['images_per_second']:,.0f} images/s in "
        f"{result.precision} on {device}",
        "torch": str(result.versions.get("torch", "")),
    }


def _classes(result: RetrainResult) -> list[dict[str, Any]]:
    """Each class with what it is taken for most often."""
    found = []
    for place, (one, row) in enumerate(zip(result.classes or [], result.confusion or [], strict=True)):
        others = [(count, -other) for other, count in enumerate(row) if other != place]
        count, other = max(others, default=(0, 0))
        name = (result.classes or [])[-other]["name"]
        share = 100 * count / max(1, one["images"])
        found.append({**one, "share": share, "other": f"{name} {share:.1f}%" if count else ""})
    return found


def _mistakes(mistakes: Sequence[Mapping[str, Any]], images_NCHW: Tensor) -> list[dict[str, str]]:
    return [
        {
            "label": one["label"], "own": f"{one['label_probability']:.1f}%", "answer": one["answer"],
            "sure": f"{one['answer_probability']:.1f}%", "source": _source(image_CHW),
        }
        for one, image_CHW in zip(mistakes, images_NCHW, strict=True)
    ]  # fmt: skip


def _source(image_CHW: Tensor) -> str:
    """An image as text that a page can hold."""
    pixels = image_CHW.permute(1, 2, 0).numpy()
    stream = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels[:, :, :3]).save(stream, format="png")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
