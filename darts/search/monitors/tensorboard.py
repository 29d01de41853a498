"""The search in TensorBoard: losses, accuracies, learning rates, architecture parameters, the cell's text."""

from __future__ import annotations

from typing import Any

import torch

from darts.run.events import Curves
from darts.search.monitors.base import Monitor, Watched
from darts.search.verdict import entropy


class TensorBoardMonitor(Monitor):
    """Writes events to run_dir/tensorboard; a resumed run goes on in the same curves."""

    def on_start(self, search: Watched) -> None:
        if search.run_dir is None:
            raise ValueError("monitor: tensorboard writes into the run folder; give the search a run_dir")
        self.curves = Curves(search.run_dir, search.state.step)

    def on_step(self, search: Watched, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            self.curves.scalar(f"step/{name}", value, search.state.step)

    def on_epoch(self, search: Watched, record: dict[str, Any]) -> None:
        step, curves = record["step"], self.curves
        for name in ("train_loss", "valid_loss", f"valid_{search.state.task.metric.name}"):
            curves.scalar(f"epoch/{name}", record[name], step)
        for name, value in search.state.params.items():
            curves.histogram(name, value, step)
        weights_EO = search.state.expected_weights().mean_EO
        for name, value in ({"alpha_entropy": entropy(weights_EO)} | record.get("measured", {})).items():
            curves.scalar(f"epoch/{name}", value, step)
        for edge, row in zip(search.state.space.edge_names, weights_EO.tolist(), strict=True):
            for operation, weight in zip(search.state.space.candidates, row, strict=True):
                curves.scalar(f"edge {edge}/{operation}", weight, step)
        image_HW = (weights_EO / weights_EO.max()).repeat_interleave(16, 0).repeat_interleave(16, 1)
        curves.image("edge_weights", image_HW.to(torch.float32), step)
        curves.text("cell", f"`{record['cell']}`", step)

    def on_end(self, search: Watched) -> None:
        self.curves.close()
