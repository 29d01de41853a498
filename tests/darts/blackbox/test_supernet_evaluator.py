"""Shared weights: values beside plain networks with the checkpoint's weights, cost, the way from a search to a cell."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from darts.blackbox.evaluators.base import Context
from darts.blackbox.evaluators.supernet import SupernetEvaluator
from darts.cli import main
from darts.run.errors import UserError
from darts.run.seeding import make_generator
from darts.tasks.base import Task
from darts.tasks.batches import BatchStream
from darts.tasks.datasets.fake import Fake
from supernet.discrete_network import DiscreteNetwork
from supernet.genotype import Genotype
from supernet.operations import OPERATIONS
from supernet.relaxations.base import EdgeWeights
from supernet.spaces.cells import CellSpace

SPACE = CellSpace()
WORDS = ["search", "dataset=fake", "network.channels=4", "data.batch_size=16", "budget.epochs=3", "oracle=none"]
WORDS += [
    "relaxation=single_path",
    "phases.warm_up.share=1",
    "phases.bilevel.share=0",
    "phases.best_of_k.share=0.01",
    "method=plain",
    "monitor=[]",
    "device=cpu",
]
WORDS += ["data.split=0.75", "seed=3"]


class Searched(NamedTuple):
    """A run, and the images (bytes) that its weights were trained on, as the run drew them."""

    folder: Path
    trained: set[bytes]


def search(folder: Path, *words: str) -> Searched:
    trained: set[bytes] = set()
    draw = BatchStream.next

    def noting(stream: BatchStream) -> tuple[Tensor, Tensor]:
        batch = draw(stream)
        rows = stream.order[stream.position - stream.batch_size : stream.position]
        trained.update(image.numpy().tobytes() for image in stream.images_NCHW[rows])
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchStream, "next", noting)
        assert main([*WORDS, *words, f"run_dir={folder}"]) == 0
    return Searched(folder, trained)


@pytest.fixture(scope="module", params=["batch", "running"])
def searched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    return search(tmp_path_factory.mktemp("search") / "run", f"network.batch_norm={request.param}")


@pytest.fixture
def run(searched: Searched) -> Path:
    return searched.folder


def no_task(**options: object) -> Task:
    raise AssertionError("the data are those of the run")


def opened(
    run: Path, space: CellSpace = SPACE, device: str = "cpu", plugins: tuple[str, ...] = ()
) -> SupernetEvaluator:
    evaluator = SupernetEvaluator(str(run))
    evaluator.open(Context(space, None, no_task, torch.device(device), plugins))
    return evaluator


def plain_network(run: Path, cell: Genotype, space: CellSpace) -> DiscreteNetwork:
    """The network of one cell with weights out of the checkpoint, name by name; batches normalise themselves."""
    weights = torch.load(run / "checkpoints/last.pt", weights_only=True)["state"]["network"]
    network = DiscreteNetwork(cell, 4, 1, 4, 3, batch_norm="batch", affine_cells=False)
    found: dict[str, Tensor] = {}
    for name in network.state_dict():
        parts = name.split(".")
        if "edges" not in parts:
            found[name] = weights[name]
            continue
        layer, edge = ".".join(parts[:2]), int(parts[3])
        source, target, operation = cell.connections[edge]
        position = space.operations.index(operation)
        if (stack := f"{layer}.stacked.{source}:{position}.weight") in weights:
            rows = weights[stack].chunk(space.num_nodes - 1 - source)  # of every edge that leaves the source
            found[name] = rows[target - source - 1]
        else:
            found[name] = weights[f"{layer}.single.{edge}:{position}.{'.'.join(parts[4:])}"]
    network.load_state_dict(found)
    return network.train()


def accuracy_by_hand(network: DiscreteNetwork, trained: set[bytes]) -> float:
    """Of the images that the run never trained on (%), from their bytes, 16 a batch in the task's mixed order."""
    images = Fake().load_train()
    kept = [place for place, image in enumerate(images.images_NCHW) if image.numpy().tobytes() not in trained]
    values_NCHW = images.images_NCHW.double() / 255
    deviation, mean = torch.std_mean(values_NCHW, dim=(0, 2, 3), keepdim=True, correction=0)
    inputs_NCHW = ((values_NCHW - mean) / deviation).float()[kept]
    targets_N = images.labels_N[kept]
    right = 0
    with torch.no_grad():
        for rows in torch.randperm(len(kept), generator=make_generator(3, "evaluation")).split(16):
            right += int((network(inputs_NCHW[rows]).argmax(1) == targets_N[rows]).sum())
    return 100 * right / len(kept)


def test_a_value_is_the_accuracy_of_a_plain_network_on_images_that_the_run_kept_apart(searched: Searched) -> None:
    """With the statistics of each batch, whatever the run did; nothing in the supernet changes."""
    evaluator = opened(searched.folder)
    network = evaluator.compute.network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    values = []
    for index in (15_624, 12_345, 7_000, 0):
        cell = SPACE.genotype(index)
        values.append(evaluator.value(cell, 1))
        assert values[-1] == accuracy_by_hand(plain_network(searched.folder, cell, SPACE), searched.trained)
        assert values[-1] == accuracy_by_hand(network.inherit(cell).train(), searched.trained)
    assert len(set(values)) > 1
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert all(name.endswith("num_batches_tracked") for name in changed), "a counter that nothing reads"


def test_the_images_that_trained_the_weights_are_charged(run: Path) -> None:
    evaluator = opened(run)
    content = json.loads((run / "result.json").read_text())
    assert evaluator.upfront == content["images"] > 0
    assert evaluator.images(1) == 64


def test_cells_are_judged_by_images_that_the_run_kept_apart(searched: Searched) -> None:
    """A quarter of every class, none of which the weights were trained on."""
    judged = opened(searched.folder).task.valid
    kept = [image.numpy().tobytes() for image in judged.images_NCHW]
    every = {image.numpy().tobytes() for image in Fake().load_train().images_NCHW}
    assert len(searched.trained) == 192
    assert set(kept) == every - searched.trained
    assert len(kept) == 64
    assert judged.labels_N.bincount().tolist() == [16] * 4


def test_from_shared_weights_to_a_cell(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["search", f"resume={run}"]) == 0
    assert f"darts baseline evaluator=supernet evaluator.run={run}: other searches" in capsys.readouterr().out
    words = ["baseline", "evaluator=supernet", f"evaluator.run={run}", "baseline.population=5", "baseline.sample=2"]
    assert main([*words, "budget.evaluations=20", "seeds=0-1", "run_dir=found", "oracle=none"]) == 0
    content = json.loads((tmp_path / "found/result.json").read_text())
    first = content["runs"][0]
    assert first["images"] == opened(run).upfront + 20 * 64
    assert first["cost"] == pytest.approx(first["images"] / 5e6)
    assert content["evaluator"]["signal"].startswith("shared weights after 36 steps")
    cell = first["trajectory"][-1]
    assert opened(run).value(SPACE.parse(cell["cell"]), 1) == cell["signal"]


def test_runs_that_do_not_fit_are_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"run: .* is of another space"):
        opened(run, CellSpace(3))
    with pytest.raises(UserError, match=r"evaluator\.run: .* is no run folder"):
        opened(tmp_path)
    (tmp_path / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    with pytest.raises(UserError, match=r"evaluator\.run: .* holds no checkpoint"):
        opened(tmp_path)
    assert main(["baseline", "evaluator=supernet", "oracle=none", f"run_dir={tmp_path / 'new'}"]) == 2
    assert "evaluator.run" in capsys.readouterr().err


def test_weights_images_and_paths_are_on_the_device_that_was_chosen(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device `meta` holds shapes without values, so each of the four batches is said to have one hit."""
    evaluator = opened(run, device="meta")
    tensors = [*evaluator.compute.network.parameters(), *evaluator.compute.network.buffers()]
    tensors += [evaluator.task.valid.images_NCHW, evaluator.task.valid.labels_N]
    used = []

    def noted(images_BCHW: Tensor, path: EdgeWeights) -> Tensor:
        used.extend([images_BCHW.device, path.weights.device])
        return images_BCHW.new_zeros(len(images_BCHW), 4)

    monkeypatch.setattr(evaluator.compute, "logits", noted)
    monkeypatch.setattr(evaluator.task, "score", lambda outputs, targets: torch.ones(()))
    assert evaluator.value(SPACE.genotype(12_345), 1) == 100 * 4 / 64
    assert len(used) == 2 * 4
    assert {*used, *(tensor.device for tensor in tensors)} == {torch.device("meta")}


# --- A run with parts of a plug-in package

PLUGIN = """
from torch import nn
from darts.tasks.datasets.fake import Fake
from supernet.operations import register_operation

register_operation("theirs", lambda channels, stride, norm: nn.Sequential(
    nn.Conv2d(channels, channels, 3, stride, 1, groups=channels), nn.Tanh(), norm(channels)))


class TheirImages(Fake):
    pass
"""
THEIRS = "[none,skip_connect,theirs,nor_conv_1x1]"


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with an operation and a data set, as another project would install it."""
    folder = tmp_path / "packages/their_parts"
    (folder / "configs/dataset").mkdir(parents=True)
    (folder / "__init__.py").write_text(PLUGIN)
    (folder / "configs/dataset/theirs.yaml").write_text("_target_: their_parts.TheirImages\n")
    monkeypatch.syspath_prepend(str(folder.parent))
    yield "their_parts"
    OPERATIONS.pop("theirs", None)
    sys.modules.pop("their_parts", None)


@pytest.mark.slow
def test_a_run_with_parts_of_a_plug_in_is_evaluated(
    plugin: str, darts: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    """In this process and, where nothing has imported the plug-in before, by the command."""
    folder, trained = search(tmp_path / "run", f"plugins=[{plugin}]", "dataset=theirs", f"space.operations={THEIRS}")
    space = CellSpace(4, THEIRS.strip("[]").split(","))
    evaluator = opened(folder, space, plugins=(plugin,))
    cells = [
        space.parse("|theirs~0|+|theirs~0|nor_conv_1x1~1|+|none~0|theirs~1|skip_connect~2|"),
        space.genotype(2_730),
    ]
    for cell in cells:
        assert "theirs" in cell.operations
        assert evaluator.value(cell, 1) == accuracy_by_hand(plain_network(folder, cell, space), trained)
    with pytest.raises(UserError, match=rf"plugins=\[{plugin}\]"):
        opened(folder, space)

    paths = os.pathsep.join([str(tmp_path / "packages"), os.environ.get("PYTHONPATH", "")])
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": paths}
    words = ["baseline", "evaluator=supernet", f"evaluator.run={folder}", "baseline=random_search", "seeds=0"]
    words += ["budget.evaluations=6", f"space.operations={THEIRS}", "oracle=none", "run_dir=found"]
    done = darts(*words, f"plugins=[{plugin}]", env=environment)
    assert done.returncode == 0, done.stderr
    for point in json.loads((tmp_path / "found/result.json").read_text())["runs"][0]["trajectory"]:
        assert evaluator.value(space.parse(point["cell"]), 1) == point["signal"]
    refused = darts(*words[:-1], "run_dir=refused", env=environment)
    assert refused.returncode == 2
    assert f"plugins=[{plugin}]" in refused.stderr
