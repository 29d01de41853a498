"""What two runs have to have in common: all but what a clock says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def left_alone(content: Any) -> Any:
    """Without what a clock says, at any depth."""
    if isinstance(content, dict):
        return {key: left_alone(value) for key, value in content.items() if key not in ("seconds", "timing")}
    return [left_alone(value) for value in content] if isinstance(content, list) else content


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag as TensorBoard shows them, wall times aside."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})  # type: ignore[no-untyped-call]
    events.Reload()  # type: ignore[no-untyped-call]
    tags = events.Tags()["scalars"]  # type: ignore[no-untyped-call]
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in tags}  # type: ignore[no-untyped-call]
