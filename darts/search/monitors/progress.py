"""The search on the console: a progress bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from darts.search.monitors.base import Monitor, Watched


class _Bar(Progress):
    """A bar with lines of text below it."""

    below = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield Text(self.below)


class ProgressMonitor(Monitor):
    """Losses, accuracy, the current cell and the time left, on standard error.

    Args:
        every_seconds: least time between two plain lines where the output is no terminal.
    """

    def __init__(self, every_seconds: float = 2.0) -> None:
        self.console = Console(stderr=True)
        self.every_seconds = every_seconds
        self.bar: _Bar | None = None

    def on_start(self, search: Watched) -> None:
        state = search.state
        self.started, self.first_step, self.printed = time.perf_counter(), state.step, float("-inf")
        self.losses: dict[str, float] = {}
        self.metric = state.task.metric
        self.value = self._text(state.history[-1]) if state.history else "-"
        self.cell = state.history[-1]["cell"] if state.history else ""
        if self.console.is_terminal:
            self.bar = _Bar(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self.task = self.bar.add_task("search", total=state.planned_steps, completed=state.step)
            self.bar.start()

    def on_step(self, search: Watched, numbers: dict[str, float]) -> None:
        self.losses |= {name: value for name, value in numbers.items() if name.endswith("_loss")}
        if self.bar is not None:
            self.bar.below = self._below()
            state = search.state
            self.bar.update(
                self.task, completed=state.step, total=state.planned_steps, description=state.phase or "done"
            )

    def on_epoch(self, search: Watched, record: dict[str, Any]) -> None:
        state = search.state
        self.value, self.cell = self._text(record), record["cell"]
        if self.bar is not None:
            self.bar.below = self._below()
            return
        now = time.perf_counter()
        if now - self.printed < self.every_seconds and state.step < state.planned_steps:
            return
        self.printed = now
        left = (now - self.started) / max(1, state.step - self.first_step) * (state.planned_steps - state.step)
        print(
            f"epoch {record['epoch']:>3}  step {state.step}/{state.planned_steps}  {self._numbers()}"
            f"  left {left:.0f} s  {self.cell}",
            file=sys.stderr,
            flush=True,
        )

    def on_end(self, search: Watched) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _below(self) -> str:
        return f"{self._numbers()}\n{self.cell}"

    def _numbers(self) -> str:
        losses = "".join(f"{name.replace('_', ' ')} {value:.3f}  " for name, value in self.losses.items())
        return f"{losses}supernet {self.metric.name} {self.value}"

    def _text(self, record: dict[str, Any]) -> str:
        return self.metric.text(record[f"valid_{self.metric.name}"])
