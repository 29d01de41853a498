"""What a data set holds: lines to read, and some images of every class.

Shape suffixes: N images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from darts.report.palette import plain_style, save_png
from darts.tasks.datasets.base import Images
from darts.tasks.datasets.windows import SeriesParts

COLUMNS, ROWS = 10, 20  # images of a class, and classes, in the picture
GAP = 2  # pixels between images


def data_lines(name: str, parts: Mapping[str, Images], folder: Path) -> list[tuple[str, str]]:
    """Name and value of everything worth reading."""
    train = parts["train"]
    counts = {part: torch.bincount(images.labels_N, minlength=len(train.classes)) for part, images in parts.items()}
    lines = [("data", name), *((part, images.about()) for part, images in parts.items())]
    for label, of in enumerate(train.classes):
        numbers = ", ".join(f"{int(count[label]):,} {part}" for part, count in counts.items())
        lines.append((f"  {of}", numbers if len(parts) > 1 else f"{int(counts['train'][label]):,}"))
    channels, size = train.images_NCHW.shape[1:3]
    lines.append(("image", f"{size}x{size} pixels, {channels} channel{'s' * (channels > 1)}{_before(train)}"))
    mean_C, deviation_C = (" ".join(f"{value:.3f}" for value in of.tolist()) for of in train.statistics())
    lines.append(("mean", f"{mean_C}, deviation {deviation_C}, of values from 0 to 1"))
    if left_out := sum(len(images.left_out) for images in parts.values()):
        lines.append(("left out", f"{left_out:,} files: see {folder / 'data.txt'}"))
    if notes := sum(len(images.notes) for images in parts.values()):
        lines.append(("read in part", f"{notes:,} files: see {folder / 'data.txt'}"))
    return [*lines, ("picture", str(folder / "figures" / "classes.png"))]


def _before(images: Images) -> str:
    """How large they were."""
    if images.sizes is None:
        return ""
    least, middle, most = (
        "x".join(map(str, images.sizes[place].tolist()))
        for place in images.sizes.prod(dim=1).argsort()[[0, len(images) // 2, -1]].tolist()
    )
    return f", made of {least} to {most}, median {middle}" if least != most else f", made of {least}"


def draw_classes(parts: Mapping[str, Images], path: Path) -> None:
    """Some images of each class, as a network gets them, spread evenly over those that there are."""
    from matplotlib.figure import Figure

    train = parts["train"]
    side, shown = train.images_NCHW.shape[-1], train.classes[:ROWS]
    step = side + GAP
    sheet = np.full((len(shown) * step - GAP, COLUMNS * step - GAP, 3), 255, dtype=np.uint8)
    for row in range(len(shown)):
        for column, picture_HWC in enumerate(_some(train, row)):
            top, left = row * step, column * step
            sheet[top : top + side, left : left + side] = picture_HWC
    with plain_style():
        figure = Figure(figsize=(8.5, 0.7 * len(shown) + 0.5), layout="constrained")
        axes = figure.subplots()
        axes.imshow(sheet, interpolation="nearest")
        counts = torch.bincount(train.labels_N, minlength=len(train.classes)).tolist()
        labels = [f"{name}  {count:,}" for name, count in zip(shown, counts, strict=False)]
        axes.set_yticks([row * step + side / 2 for row in range(len(shown))], labels)
        axes.set_xticks([])
        axes.spines[:].set_visible(False)
        axes.tick_params(left=False)
        more = f"; {len(train.classes) - ROWS} more classes" if len(train.classes) > ROWS else ""
        axes.set_title(f"{side}x{side} pixels{more}", fontsize=9)
        save_png(figure, path)


def _some(images: Images, label: int) -> list[NDArray[np.uint8]]:
    """Images of a class as (H, W, 3)."""
    places = (images.labels_N == label).nonzero().flatten()
    chosen = places[torch.linspace(0, len(places) - 1, min(COLUMNS, len(places))).round().long()]
    pictures_NCHW = images.images_NCHW[chosen]
    if pictures_NCHW.shape[1] != 3:
        pictures_NCHW = pictures_NCHW[:, :1].expand(-1, 3, -1, -1)
    return list(pictures_NCHW.permute(0, 2, 3, 1).numpy())


def series_lines(name: str, parts: SeriesParts) -> list[tuple[str, str]]:
    """What a data set of series holds: windows of the parts, and what is known of the columns."""
    steps, columns = parts.train.inputs_NLC.shape[1:]
    lines = [("data set", f"{name}: windows of {steps} steps and {columns} columns")]
    for part, windows, use in (
        ("weights", parts.train, "of a search"), ("architecture", parts.valid, "of a search"),
        ("kept", parts.test, "for the judgement of a final network"),
    ):  # fmt: skip
        lines.append((part, f"{len(windows.targets_NK):,} windows, {use}"))
    known = parts.inputs
    for column, mean, deviation in zip(*(known.get(key, ()) for key in ("columns", "mean", "deviation")), strict=True):
        target = "  to be foretold" if column in known["targets"] else ""
        lines.append((column, f"mean {mean:.6g}, deviation {deviation:.6g} of what trains the weights{target}"))
    return lines
