"""How far long work is, said on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

PATIENCE = 1.0  # seconds, before a bar shows
BETWEEN_LINES = 10.0  # seconds, where the output is no terminal

Item = TypeVar("Item")


def watched(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Passes items on: with a bar on a terminal, a line now and then elsewhere, and nothing for what is soon done."""
    console, bar = Console(stderr=True), None
    begun = said = time.perf_counter()
    try:
        for done, item in enumerate(items):
            now = time.perf_counter()
            if console.is_terminal:
                if bar is None and now - begun > PATIENCE:
                    bar = Progress(console=console, transient=True)
                    task = bar.add_task(what, total=total)
                    bar.start()
                if bar is not None:
                    bar.update(task, completed=done)
            elif now - said > BETWEEN_LINES:
                said = now
                print(f"{what}: {done:,} of {total:,}", file=sys.stderr, flush=True)
            yield item
    finally:
        if bar is not None:
            bar.stop()
