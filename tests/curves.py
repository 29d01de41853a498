"""Curves of a run as TensorBoard shows them."""

from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag, wall times aside."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})  # type: ignore[no-untyped-call]
    events.Reload()  # type: ignore[no-untyped-call]
    tags = events.Tags()["scalars"]  # type: ignore[no-untyped-call]
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in tags}  # type: ignore[no-untyped-call]
