"""What the tests of searches share: a tiny search, its result without wall-clock values, a monitor that acts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from darts.command.config import compose_config
from darts.search.build import build_search
from darts.search.loop import Search
from darts.search.monitors.base import Monitor
from darts.search.result import SearchResult

WORDS = (
    "method=plain", "dataset=fake", "dataset.images=64", "dataset.image_size=4", "data.batch_size=8",
    "network.channels=2", "monitor=[]", "oracle=none", "space.num_nodes=3",
)  # fmt: skip


def made(*words: str, folder: Path | None = None) -> Search:
    """A search of three nodes, four steps an epoch."""
    if folder is not None:
        (folder / "checkpoints").mkdir(exist_ok=True)
    return build_search(compose_config("search", [*WORDS, *words]), folder)


def plain(result: SearchResult) -> str:
    """A result without its wall-clock values, every number with all its digits."""
    return json.dumps({key: value for key, value in asdict(result).items() if key not in ("seconds", "timing")})


class After(Monitor):
    """Does something with the search after every step."""

    def __init__(self, action: Callable[[Search], None]) -> None:
        self.action = action

    def on_step(self, search: Search, numbers: dict[str, float]) -> None:  # type: ignore[override]
        self.action(search)
