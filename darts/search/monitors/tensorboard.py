"""The search in TensorBoard: losses, accuracies, learning rates, architecture parameters, the cell's text."""

from __future__ import annotations

from typing import Any

import torch

from darts.search.monitors.base import Monitor, Watched
from darts.search.verdict import entropy


class TensorBoardMonitor(Monitor):
    """Writes events to run_dir/tensorboard; a resumed run goes on in the same curves."""

    def on_start(self, search: Watched) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if search.run_dir is None:
            raise ValueError("monitor: tensorboard writes into the run folder; give the search a run_dir")
        folder = str(search.run_dir / "tensorboard")
        self.writer = SummaryWriter(folder, purge_step=search.state.step + 1 if search.state.step else None)  # type: ignore[no-untyped-call]

    def on_step(self, search: Watched, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(f"step/{name}", value, search.state.step)  # type: ignore[no-untyped-call]

    def on_epoch(self, search: Watched, record: dict[str, Any]) -> None:
        step = record["step"]
        for name in ("train_loss", "valid_loss", f"valid_{search.state.task.metric.name}"):
            self.writer.add_scalar(f"epoch/{name}", record[name], step)  # type: ignore[no-untyped-call]
        for name, value in search.state.params.items():
            self.writer.add_histogram(name, value.detach(), step)  # type: ignore[no-untyped-call]
        weights_EO = search.state.expected_weights().mean_EO
        for name, value in ({"alpha_entropy": entropy(weights_EO)} | record.get("measured", {})).items():
            self.writer.add_scalar(f"epoch/{name}", value, step)  # type: ignore[no-untyped-call]
        for edge, row in zip(search.state.space.edge_names, weights_EO.tolist(), strict=True):
            for operation, weight in zip(search.state.space.candidates, row, strict=True):
                self.writer.add_scalar(f"edge {edge}/{operation}", weight, step)  # type: ignore[no-untyped-call]
        image = (weights_EO / weights_EO.max()).repeat_interleave(16, 0).repeat_interleave(16, 1)
        self.writer.add_image("edge_weights", image.to(torch.float32), step, dataformats="HW")  # type: ignore[no-untyped-call]
        self.writer.add_text("cell", f"`{record['cell']}`", step)  # type: ignore[no-untyped-call]

    def on_end(self, search: Watched) -> None:
        self.writer.close()  # type: ignore[no-untyped-call]
