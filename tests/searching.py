"""What the tests of searches share: a tiny search, its result without wall-clock values, a monitor that acts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from darts.command.config import compose_config
from darts.run.signals import Interrupted
from darts.search.arch_steps.base import ArchStep
from darts.search.arch_steps.first_order import FirstOrder
from darts.search.build import build_search
from darts.search.loop import Search
from darts.search.monitors.base import Monitor
from darts.search.result import SearchResult
from darts.search.state import SearchState
from darts.search.weight_steps.base import WeightStep
from darts.tasks.classification import Classification
from darts.tasks.datasets.fake import Fake
from supernet.network import SuperNet
from supernet.relaxations.base import Relaxation
from supernet.relaxations.softmax import Softmax
from supernet.spaces.cells import CellSpace

WORDS = (
    "method=plain", "dataset=fake", "dataset.images=64", "dataset.image_size=4", "data.batch_size=8",
    "network.channels=2", "monitor=[]", "oracle=none", "space.num_nodes=3",
)  # fmt: skip


def made(*words: str, folder: Path | None = None) -> Search:
    """A search of three nodes, four steps an epoch."""
    if folder is not None:
        (folder / "checkpoints").mkdir(exist_ok=True)
    return build_search(compose_config("search", [*WORDS, *words]), folder)


def tiny_state(
    weight_step: WeightStep,
    arch_step: ArchStep | None = None,
    relaxation: Relaxation | None = None,
    nodes: int = 4,
    batch_norm: str = "batch",
    seed: int = 0,
) -> SearchState:
    """A state in float64 on images that fit it."""
    torch.set_default_dtype(torch.float64)
    space = CellSpace(nodes)
    network = SuperNet(space, 2, 1, 3, 1, batch_norm=batch_norm, generator=torch.Generator().manual_seed(1))
    task = Classification(Fake(48, 3, 1, image_size=4), split=0.5, batch_size=8, seed=0, device=torch.device("cpu"))
    task.normalize = task.train.normalize = task.valid.normalize = lambda pixels: pixels.double() / 64 - 2  # type: ignore[assignment]
    optimizers = weight_step.make_optimizer, (arch_step or FirstOrder()).make_optimizer
    return SearchState(space, network, relaxation or Softmax(init_scale=0.5), task, *optimizers, seed=seed)


def plain(result: SearchResult) -> str:
    """A result without its wall-clock values, every number with all its digits."""
    return json.dumps({key: value for key, value in asdict(result).items() if key not in ("seconds", "timing")})


class After(Monitor):
    """Does something with the search after every step."""

    def __init__(self, action: Callable[[Search], None]) -> None:
        self.action = action

    def on_step(self, search: Search, numbers: dict[str, float]) -> None:  # type: ignore[override]
        self.action(search)


def gone_on(make: Callable[..., Search], folder: Path, step: int) -> str:
    """The result of a search that was stopped after a step, and then resumed in its folder.

    Args:
        make: the search, told `folder`.
        folder: of the run.
        step: from 1.
    """
    stopped = make(folder=folder)
    stopped.monitors = [After(lambda search: setattr(search.stop, "made", search.state.step >= step))]
    with pytest.raises(Interrupted):
        stopped.run()
    again = make(folder=folder)
    again.resume()
    assert again.state.step == step
    return plain(again.run())
