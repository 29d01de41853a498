"""What an export gave, as lines to read."""

from __future__ import annotations

from darts.models.exporting import Exported
from darts.models.quantizing import Quantized
from darts.report.text import Lines
from darts.training.model import About


def export_lines(about: About, form: str, written: Exported) -> Lines:
    """Name and value of everything worth reading."""
    size = about.network_size
    lines = [
        ("cell", about.cell),
        ("weights", f"{about.origin}, on {about.trained_on}"),
    ]
    if about.judged is not None:
        judged = about.judged
        lines.append((str(judged["name"]), f"{judged['value']:.2f}{judged['unit']}  ({judged['on']})"))
    if about.origin.startswith("inherited"):
        lines.append(("", "shared weights are a beginning; for a network to use: darts retrain run=RUN_DIR"))
    lines.append(
        ("input", f"batches of {size.in_channels} x {size.image_size} x {size.image_size}, normalised; {size}")
    )
    lines.append((form, f"{written.path}  ({written.bytes / 1e6:.2f} MB, {written.seconds:.1f} s)"))
    lines.append(("checked", f"outputs at most {written.difference:.1e} off the model, in batches of 1 and 64"))
    return lines


def quantized_lines(made: Quantized) -> Lines:
    """Name and value of everything worth reading."""
    drop = made.metric_before - made.metric
    return [
        ("int8", f"{made.path}  ({made.bytes / 1e6:.2f} MB, {made.bytes_before / made.bytes:.1f} times smaller)"),
        (
            f"  {made.name}",
            f"{made.metric:.2f}{made.unit}, {made.metric_before:.2f}{made.unit} in floats: "
            f"{abs(drop):.2f} {'lost' if drop >= 0 else 'gained'}  ({made.judged_on})",
        ),
        (
            "  64 images",
            f"{made.ms:.1f} ms, {made.ms_before:.1f} ms in floats: {made.ms_before / made.ms:.2f} times as fast",
        ),
    ]
