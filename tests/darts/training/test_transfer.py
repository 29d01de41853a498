"""Trainings that begin with given weights: what is taken, what is held, and that a stop changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from darts.cli import main
from darts.tasks.classification import Classification
from darts.tasks.datasets.fake import Fake
from darts.training.fit import FitState, Recipe, fit
from darts.training.retraining import Retraining
from darts.training.transfer import hold, take_over
from supernet.discrete_network import DiscreteNetwork
from supernet.size import NetworkSize
from supernet.spaces.cells import CellSpace

SPACE = CellSpace()
CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
TINY = ["dataset=fake", "recipe.epochs=3", "data.batch_size=32"]
SIZE = ["network.channels=4", "network.cells=1"]


def made(cells: int = 1, classes: int = 4, in_channels: int = 3, channels: int = 4, seed: int = 0) -> DiscreteNetwork:
    torch.manual_seed(seed)
    network = SPACE.network(SPACE.parse(CELL), NetworkSize(channels, cells, classes, in_channels, 8))
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.randn_like(value).abs() + 0.1)
    return network


def tensors(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_everything_is_taken_by_a_network_of_the_same_size() -> None:
    old, new = made(seed=1), made(seed=2)
    taken = take_over(new, old)
    assert all(torch.equal(value, old.state_dict()[name]) for name, value in new.state_dict().items())
    assert taken == {name for name in new.state_dict() if not name.startswith("classifier")}


def test_other_classes_and_channels_begin_anew_where_shapes_differ() -> None:
    old, new = made(classes=4, in_channels=3, seed=1), made(classes=7, in_channels=1, seed=2)
    before = tensors(new)
    taken = take_over(new, old)
    other = {"classifier.weight", "classifier.bias", "stem.0.weight"}
    assert taken == new.state_dict().keys() - other
    assert all(torch.equal(new.state_dict()[name], before[name]) for name in other)


@pytest.mark.parametrize(("own", "theirs"), [(3, 1), (1, 3)])
def test_cells_are_taken_at_the_same_place_of_the_same_stage(own: int, theirs: int) -> None:
    """Layers by hand: with 3 cells a stage 0-2, reduction 3, 4-6, reduction 7, 8-10; with 1 cell 0, 1, 2, 3, 4."""
    deep = {0: 0, 3: 1, 4: 2, 7: 3, 8: 4}  # of three to of one
    pairs = deep if own == 3 else {one: three for three, one in deep.items()}
    old, new = made(cells=theirs, seed=1), made(cells=own, seed=2)
    before = tensors(new)
    taken = take_over(new, old)
    for name, value in new.state_dict().items():
        if not name.startswith("layers."):
            continue
        layer = int(name.split(".")[1])
        if layer in pairs:
            source = name.replace(f"layers.{layer}.", f"layers.{pairs[layer]}.")
            assert name in taken
            assert torch.equal(value, old.state_dict()[source])
        else:
            assert name not in taken
            assert torch.equal(value, before[name])


def task() -> Classification:
    return Classification(Fake(64, 4, 3, image_size=8), split=0.5, batch_size=8, seed=0)


def trained(recipe: Recipe, backbone: frozenset[str]) -> tuple[dict[str, Tensor], dict[str, Tensor], FitState]:
    torch.manual_seed(0)
    network, data = SPACE.network(SPACE.parse(CELL), NetworkSize(4, 1, 4, 3, 8)), task()
    before = tensors(network)
    state = FitState(network, data, recipe, 0, backbone)
    fit(network, data, recipe, state)
    return before, tensors(network), state


BACKBONE = frozenset(name for name in made().state_dict() if not name.startswith("classifier"))


def test_what_is_held_stays_bit_for_bit_and_the_rest_learns() -> None:
    before, after, _ = trained(Recipe(2, frozen_epochs=2), BACKBONE)
    assert all(torch.equal(after[name], before[name]) for name in BACKBONE)
    assert not torch.equal(after["classifier.weight"], before["classifier.weight"])


def test_what_was_held_learns_after_that() -> None:
    before, after, _ = trained(Recipe(2, frozen_epochs=1), BACKBONE)
    moving = [name for name in BACKBONE if before[name].is_floating_point()]
    assert all(not torch.equal(after[name], before[name]) for name in moving if name.endswith(("mean", "weight")))


def test_a_rate_of_zero_keeps_parameters_but_not_statistics() -> None:
    before, after, state = trained(Recipe(1, backbone_lr=0.0), BACKBONE)
    parameters = {name for name, _ in made().named_parameters()} & BACKBONE
    assert all(torch.equal(after[name], before[name]) for name in parameters)
    assert not torch.equal(after["stem.1.running_mean"], before["stem.1.running_mean"])
    rates = {group["factor"]: group["lr"] for group in state.optimizer.param_groups}
    assert rates[0.0] == 0.0 < rates[1.0]


def test_letting_go_ends_holding() -> None:
    network = made().train()
    hold(network, BACKBONE, held=True)
    assert not network.stem[0].weight.requires_grad
    assert not network.stem[1].training
    assert network.classifier.weight.requires_grad
    hold(network, BACKBONE, held=False)
    assert network.stem[0].weight.requires_grad
    assert network.stem[1].training


def plain(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "result.json").read_text())
    return {key: value for key, value in content.items() if key not in ("seconds", "timing")}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "run"
    assert main(["retrain", f"cell={CELL}", *TINY, *SIZE, f"run_dir={folder}"]) == 0
    return folder


def test_a_stopped_training_goes_on_without_the_network_it_began_with(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = tmp_path / "start.pt"
    start.write_bytes((model / "checkpoints/model.pt").read_bytes())
    words = ["retrain", f"init={start}", *TINY, "recipe.frozen_epochs=1", "recipe.backbone_lr=0.1"]
    assert main([*words, f"run_dir={tmp_path / 'whole'}"]) == 0
    assert plain(tmp_path / "whole")["network_size"] == plain(model)["network_size"], "of the network it began with"
    real = Retraining.on_step

    def stopping(self: Retraining, state: FitState, loss: Tensor) -> None:
        if state.step == 11:
            self.stop.made = True
        real(self, state, loss)

    with monkeypatch.context() as patch:
        patch.setattr(Retraining, "on_step", stopping)
        assert main([*words, f"run_dir={tmp_path / 'stopped'}"]) == 130
    start.unlink()
    assert main(["retrain", f"resume={tmp_path / 'stopped'}"]) == 0
    assert plain(tmp_path / "stopped") == plain(tmp_path / "whole")
    assert plain(tmp_path / "whole")["origin"].startswith("began with ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["init=nowhere"], "init: there is no"),
        (["init={model}", "cell=" + CELL.replace("1x1", "3x3")], "of the cell"),
        (["init={model}/result.json"], "give the folder of a run"), (["init={broken}"], "cannot be read"),
        (["init={model}", "recipe.frozen_epochs=9"], "frozen_epochs: got 9"),
        (["init={model}", "recipe.backbone_lr=-1"], "backbone_lr: got -1"),
        (["engine.precision=half"], "precision: got"),
    ],
)  # fmt: skip
def test_what_cannot_be_begun_with_is_said(
    words: list[str], message: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.pt"
    broken.write_bytes((model / "checkpoints/model.pt").read_bytes()[:2000])
    given = [word.format(model=model, broken=broken) if word.startswith("init") else word for word in words]
    assert main(["retrain", *given, *TINY, f"run_dir={tmp_path / 'run'}"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_bfloat16_trains_about_the_same(tmp_path: Path) -> None:
    words = ["retrain", f"cell={CELL}", *TINY, *SIZE]
    for precision in ("float32", "bfloat16"):
        assert main([*words, f"engine.precision={precision}", f"run_dir={tmp_path / precision}"]) == 0
    one, other = plain(tmp_path / "float32"), plain(tmp_path / "bfloat16")
    assert (one["precision"], other["precision"]) == ("float32", "bfloat16")
    losses = [[record["train_loss"] for record in found["history"]] for found in (one, other)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
