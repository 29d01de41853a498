"""Trainings of candidates: by recipe and seed alone, with parts of plug-ins, on the chosen device."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from darts.run.checkpoint import load_checkpoint, save_checkpoint
from darts.run.errors import UserError
from darts.run.seeding import make_generator
from darts.tasks.base import Task
from darts.tasks.classification import Classification
from darts.tasks.datasets.fake import Fake
from darts.training import worker
from darts.training.executors import Processes
from darts.training.fit import FitMonitor, FitState, evaluate, fit, initialised
from darts.training.recipe import Recipe
from darts.training.worker import Job, Site, Trained, Trainer
from supernet.discrete_network import DiscreteNetwork
from supernet.genotype import Genotype
from supernet.operations import OPERATIONS
from supernet.spaces.cells import CellSpace

SPACE = CellSpace()
CELL = SPACE.parse("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|")
CHILD = SPACE.parse(str(CELL).replace("|nor_conv_1x1~1|+", "|nor_conv_3x3~1|+"))
MAKE_TASK = partial(Classification, Fake(images=96, num_classes=3), 0.5, 16, 0)
CPU = torch.device("cpu")


def site(space: CellSpace = SPACE, device: torch.device = CPU) -> Site:
    return Site(space, MAKE_TASK, 4, 1, device, 1)


class Curve(FitMonitor):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_epoch(self, state: FitState) -> bool:
        self.values.append(evaluate(state.network, state.task))
        return True


def trained_here(
    cell: Genotype, recipe: Recipe, seed: int, space: CellSpace = SPACE, parent: nn.Module | None = None
) -> tuple[DiscreteNetwork, list[float]]:
    """The network and its curve, without a worker."""
    task, curve = MAKE_TASK(device=CPU), Curve()
    network = space.network(cell, task.network_size(4, 1))
    initialised(network, make_generator(seed, "initial weights"))
    if parent is not None:
        network.inherit(parent)  # type: ignore[arg-type]
    fit(network.to(memory_format=torch.channels_last), task, recipe, monitors=[curve])  # type: ignore[call-overload]
    return network, curve.values


def test_a_worker_trains_job_by_job(tmp_path: Path) -> None:
    """By recipe and seed, whatever it trained before; weights are kept, and a child begins with its parent's."""
    one, recipe, file = Trainer(site()), Recipe(2, 0.05), tmp_path / "0.pt"
    network, curve = trained_here(CELL, recipe, 3)
    assert one.train(Job(CELL, recipe, 3, keep=file)) == Trained(tuple(curve))
    kept = load_checkpoint(file)["weights"]
    assert all(torch.equal(kept[name], value) for name, value in network.state_dict().items())
    other = Recipe(3, 0.2, weight_decay=0.0)
    assert list(one.train(Job(CELL, other, 4)).curve) == trained_here(CELL, other, 4)[1]
    _, inherited = trained_here(CHILD, recipe, 3, parent=network)
    found = one.train(Job(CHILD, recipe, 3, parent=(file, CELL)))
    assert list(found.curve) == inherited != trained_here(CHILD, recipe, 3)[1]
    assert list(one.train(Job(CELL, recipe, 3)).curve) == curve


def test_damaged_weights_of_a_parent_are_refused(tmp_path: Path) -> None:
    """One flipped bit of a weight would be another child, in silence."""
    one, file = Trainer(site()), tmp_path / "0.pt"
    one.train(Job(CELL, Recipe(1, 0.05), 3, keep=file))
    whole = file.read_bytes()
    weights_C = next(value for value in load_checkpoint(file)["weights"].values() if value.dim() == 1)
    place = whole.index(weights_C.numpy().tobytes())
    file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(UserError, match=r"0\.pt cannot be read: damaged"):
        one.train(Job(CHILD, Recipe(1, 0.05), 3, parent=(file, CELL)))


def test_a_worker_stops_where_it_is_told_to_and_says_where_a_training_diverged(tmp_path: Path) -> None:
    one, file = Trainer(site()), tmp_path / "0.pt"
    found = one.train(Job(CELL, Recipe(6, 0.05), 0, stops=lambda curve: len(curve) == 2))
    assert found == Trained(tuple(trained_here(CELL, Recipe(6, 0.05), 0)[1][:2]))
    assert one.train(Job(CELL, Recipe(6, 1e30), 0, keep=file)).diverged
    assert not file.exists()
    assert list(one.train(Job(CELL, Recipe(1), 0)).curve) == trained_here(CELL, Recipe(1), 0)[1]


PLUGIN = """
from torch import nn
from supernet.operations import register_operation

register_operation("theirs", lambda channels, stride, norm: nn.Sequential(
    nn.Conv2d(channels, channels, 3, stride, 1, groups=channels), nn.Tanh(), norm(channels)))
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with an operation, as another project would install it."""
    (tmp_path / "their_operations").mkdir()
    (tmp_path / "their_operations/__init__.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "their_operations"
    OPERATIONS.pop("theirs", None)
    sys.modules.pop("their_operations", None)


def test_a_process_knows_the_operations_of_a_plug_in(plugin: str) -> None:
    """It is a fresh one: without the package's name it does not know a cell that has one."""
    space, recipe = CellSpace(3, ["none", "skip_connect", "theirs"]), Recipe(2, 0.05)
    cell = space.parse("|theirs~0|+|none~0|theirs~1|")
    for known in ((), (plugin,)):
        place = Processes(partial(Trainer, site(space)), 1, plugins=known)
        try:
            if not known:
                with pytest.raises(ValueError, match="theirs"):
                    place.run(Trainer.train, Job(cell, recipe, 0))
                continue
            curve = place.run(Trainer.train, Job(cell, recipe, 0)).curve
        finally:
            place.close()
    assert "theirs" not in OPERATIONS, "this process did not register it so far"
    __import__(plugin)
    assert list(curve) == trained_here(cell, recipe, 0, space)[1]


def test_task_and_networks_are_on_the_device_that_was_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a worker does, done here; the device `meta` holds shapes without values, so nothing is trained."""
    seen: dict[str, Any] = {}

    def noted(network: nn.Module, task: Task, recipe: Recipe, monitors: Any) -> None:
        tensors = [*network.parameters(), *network.buffers(), *task.train.next()]
        seen.update(devices={tensor.device.type for tensor in tensors}, task=task.device, recipe=recipe)

    monkeypatch.setattr(worker, "fit", noted)
    network, _ = trained_here(CELL, Recipe(1), 0)
    save_checkpoint(tmp_path / "0.pt", {"weights": network.state_dict()})
    Trainer(site(device=torch.device("meta"))).train(Job(CHILD, Recipe(5), 0, parent=(tmp_path / "0.pt", CELL)))
    assert seen == {"devices": {"meta"}, "task": torch.device("meta"), "recipe": Recipe(5)}
