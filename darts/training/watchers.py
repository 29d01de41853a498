"""A retraining on the console and in TensorBoard."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import Progress

from darts.run.events import Curves
from darts.training.retraining import Retraining, Watcher

BETWEEN_LINES = 2.0  # seconds


class ConsoleWatcher(Watcher):
    """A bar on a terminal, a line an epoch elsewhere, on standard error."""

    def on_start(self, training: Retraining) -> None:
        self.console, self.bar = Console(stderr=True), None
        self.begun, self.first, self.printed = time.perf_counter(), training.state.step, float("-inf")
        if self.console.is_terminal:
            self.bar = Progress(console=self.console)
            self.task = self.bar.add_task("training", total=training.plan.steps, completed=self.first)
            self.bar.start()

    def on_step(self, training: Retraining) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=training.state.step)

    def on_epoch(self, training: Retraining, record: Mapping[str, Any]) -> None:
        plan, metric = training.plan, training.plan.task.metric
        text = f"epoch {record['epoch']:>3}/{plan.recipe.epochs}  train loss {record['train_loss']:.3f}"
        if "watched" in record:
            text += f"  held out {metric.name} {metric.text(record['watched'])}"
        if self.bar is not None:
            self.bar.update(self.task, description=text)
            return
        now = time.perf_counter()
        if now - self.printed < BETWEEN_LINES and record["epoch"] < plan.recipe.epochs:
            return
        self.printed = now
        left = (now - self.begun) / max(1, record["step"] - self.first) * (plan.steps - record["step"])
        print(f"{text}  left {left:.0f} s", file=sys.stderr, flush=True)

    def on_end(self) -> None:
        if self.bar is not None:
            self.bar.stop()


class TensorBoardWatcher(Watcher):
    """Writes events to run_dir/tensorboard; a resumed run goes on in the same curves."""

    def on_start(self, training: Retraining) -> None:
        self.curves = Curves(training.run_dir, training.state.step)

    def on_epoch(self, training: Retraining, record: Mapping[str, Any]) -> None:
        for name in ("lr", "train_loss", "watched"):
            if name in record:
                self.curves.scalar(f"epoch/{name}", record[name], record["step"])

    def on_end(self) -> None:
        self.curves.close()
