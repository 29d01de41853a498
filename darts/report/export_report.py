"""What files of a model and its measured cost are like, as lines to read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darts.models.exporting import Exported
from darts.models.quantizing import Quantized
from darts.report.text import Lines
from darts.tasks.base import Metric
from darts.training.model import About


def export_lines(about: About, form: str, written: Exported) -> Lines:
    """Name and value of everything worth reading."""
    lines = [
        ("cell", about.cell),
        ("weights", f"{about.origin}, on {about.trained_on}"),
    ]
    if about.judged is not None:
        judged = about.judged
        lines.append(
            (str(judged["name"]), f"{Metric(judged['name'], judged['unit']).text(judged['value'])}  ({judged['on']})")
        )
    if about.origin.startswith("inherited"):
        lines.append(("", "shared weights are a beginning; for a network to use: darts retrain run=RUN_DIR"))
    lines.append(
        ("input", f"batches of {' x '.join(map(str, about.input_shape(1)[1:]))}, normalised, of {about.takes}")
    )
    lines.append((form, f"{written.path}  ({written.bytes / 1e6:.2f} MB, {written.seconds:.1f} s)"))
    lines.append(("checked", f"outputs at most {written.difference:.1e} off the model, in batches of 1 and 64"))
    return lines


def quantized_lines(made: Quantized) -> Lines:
    """Name and value of everything worth reading."""
    metric = made.metric
    drop = metric.worth(made.value_before) - metric.worth(made.value)
    return [
        ("int8", f"{made.path}  ({made.bytes / 1e6:.2f} MB, {made.bytes_before / made.bytes:.1f} times smaller)"),
        (
            f"  {metric.name}",
            f"{metric.text(made.value)}, {metric.text(made.value_before)} in floats: "
            f"{abs(drop):.2f} {'lost' if drop >= 0 else 'gained'}  ({made.judged_on})",
        ),
        (
            "  64 images",
            f"{made.ms:.1f} ms, {made.ms_before:.1f} ms in floats: {made.ms_before / made.ms:.2f} times as fast",
        ),
    ]


def profile_lines(found: Mapping[str, Any], folder: Path) -> Lines:
    """Name and value of everything worth reading of profile.json."""
    device, threads = found["versions"]["device"], found["versions"]["threads"]
    lines = [
        ("cell", found["cell"]),
        ("network", found["network"]),
        ("parameters", f"{found['params']:,}"),
        ("FLOPs", f"{found['flops'] / 1e6:.2f} M multiply-adds of convolutions and linear layers, an image"),
        ("activations", f"{found['activations'] / 1e6:.2f} M values put out by them, an image"),
        ("measured", f"on {device}, {threads} threads{', batch normalisation folded' if found['folded'] else ''}"),
    ]
    for one in found["timing"]:
        lines.append(
            (
                f"  {one['images']} image{'s' if one['images'] > 1 else ''}",
                f"{one['ms_median']:.2f} ms, 95% within {one['ms_p95']:.2f} ms; {one['images_per_second']:,.0f} "
                f"images/s; {one['peak_mb']:.1f} MB at most",
            )
        )
    return [*lines, ("file", str(folder / "profile.json"))]


def ensemble_lines(found: Mapping[str, Any], folder: Path) -> Lines:
    """Name and value of everything worth reading of ensemble.json."""
    lines = []
    for number, one in enumerate(found["members"]):
        times = f"{one['times']} times" if one["times"] > 1 else "chosen" if one["times"] else "left out"
        lines.append(
            (
                "" if number else "members",
                f"{one['accuracy']:.2f}%, confidence {one['calibration_error']:.2f} points off, {times}  {one['run']}",
            )
        )
    whole, best = found["ensemble"], max(one["accuracy"] for one in found["members"])
    gain = whole["accuracy"] - best
    return [
        *lines,
        (
            "ensemble",
            f"{whole['accuracy']:.2f}%, confidence {whole['calibration_error']:.2f} points off; "
            f"{abs(gain):.2f} {'better' if gain >= 0 else 'worse'} than the best of them  ({found['judged_on']})",
        ),
        ("diversity", f"two of them differ on {found['disagreement']:.1f}% of {found['images']:,} images"),
        ("file", str(folder / "ensemble.json")),
    ]
