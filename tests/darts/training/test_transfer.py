"""Networks that begin with the weights of a trained one: what is taken, what rests, and that it resumes to the bit."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from darts.cli import main
from darts.run.checkpoint import load_checkpoint
from darts.tasks.classification import Classification
from darts.tasks.datasets.fake import Fake
from darts.training.fit import FitMonitor, FitState, evaluate, fit
from darts.training.recipe import Recipe
from darts.training.retraining import Retraining
from darts.training.transfer import hold, take_over
from supernet.discrete_network import DiscreteNetwork
from supernet.size import NetworkSize
from supernet.spaces.cells import CellSpace
from tests.quickly import slow_but

SPACE = CellSpace()
CELL = "|nor_conv_3x3~0|+|skip_connect~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"  # weights: edges 0, 5
OTHER = CELL.replace("1x1", "3x3")
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
TINY = ["dataset=fake", "network.channels=4", "network.cells=1", "data.batch_size=32"]
Darts = Callable[..., Any]


def filled(cells: int = 1, classes: int = 4, in_channels: int = 3, channels: int = 4, seed: int = 0) -> DiscreteNetwork:
    """With another value in every place."""
    network = SPACE.network(SPACE.parse(CELL), NetworkSize(channels, cells, classes, in_channels, 8))
    generator = torch.Generator().manual_seed(seed)
    for value in network.state_dict().values():
        if value.is_floating_point():
            drawn = torch.rand(value.shape, generator=generator)
            value.copy_(drawn - 0.5 if value.ndim > 1 else drawn + 0.5)
        else:
            value.fill_(7 + seed)
    return network


def kept(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(network: nn.Module, before: dict[str, Tensor], names: set[str] | frozenset[str]) -> list[str]:
    """Which of these tensors are what they were, bit by bit."""
    now = network.state_dict()
    return sorted(name for name in names if torch.equal(now[name], before[name]))


def with_norm(convolution: str, norm: str) -> list[str]:
    return [f"{convolution}.weight", *(f"{norm}.{part}" for part in NORM)]


def cell_names(layer: int) -> list[str]:
    place = f"layers.{layer}.edges"
    return [*with_norm(f"{place}.0.1", f"{place}.0.2"), *with_norm(f"{place}.5.1", f"{place}.5.2")]


def reduction_names(layer: int) -> list[str]:
    place = f"layers.{layer}"
    halves = [*with_norm(f"{place}.first.1", f"{place}.first.2"), *with_norm(f"{place}.second.1", f"{place}.second.2")]
    return [*halves, f"{place}.shortcut.1.weight"]


def last_names() -> list[str]:
    return [f"last_norm.{part}" for part in NORM]


# Taking over

# Layer of the new network: layer of the trained one. With one cell a stage, 1 and 3 are reductions; with two, 2 and 5;
# with three, 3 and 7.
DEPTHS = [
    (1, 1, {0: 0, 2: 2, 4: 4}, {1: 1, 3: 3}),
    (1, 2, {0: 0, 3: 2, 6: 4}, {2: 1, 5: 3}),
    (2, 3, {0: 0, 1: 1, 4: 3, 5: 4, 8: 6, 9: 7}, {3: 2, 7: 5}),
    (2, 1, {0: 0, 2: 3, 4: 6}, {1: 2, 3: 5}),
    (3, 1, {0: 0, 2: 4, 4: 8}, {1: 3, 3: 7}),
]


@pytest.mark.parametrize(("theirs", "own", "cells", "reductions"), DEPTHS)
def test_every_cell_takes_the_weights_of_the_same_place_of_the_same_stage(
    theirs: int, own: int, cells: dict[int, int], reductions: dict[int, int]
) -> None:
    trained, network = filled(theirs, seed=1), filled(own, seed=2)
    given, before = kept(trained), kept(network)
    sources = {name: name for name in [*with_norm("stem.0", "stem.1"), *last_names()]}
    for place, source in cells.items():
        sources |= dict(zip(cell_names(place), cell_names(source), strict=True))
    for place, source in reductions.items():
        sources |= dict(zip(reduction_names(place), reduction_names(source), strict=True))
    assert take_over(network, trained) == sources.keys()
    after = network.state_dict()
    for name, source in sources.items():
        assert torch.equal(after[name], given[source]), name
    rest = before.keys() - sources.keys() - {"classifier.weight", "classifier.bias"}
    assert same(network, before, rest) == sorted(rest)
    assert len(same(trained, given, given.keys())) == len(given)


def test_a_cell_beyond_the_others_depth_has_no_counterpart() -> None:
    network = filled(2)
    found = [network.counterpart(f"layers.{layer}.x.weight", 1) for layer in range(8)]
    places = [0, None, 1, 2, None, 3, 4, None]
    assert found == [None if place is None else f"layers.{place}.x.weight" for place in places]


def test_a_classifier_of_as_many_classes_is_taken_too_but_is_no_backbone() -> None:
    trained, network = filled(classes=4, seed=1), filled(classes=4, seed=2)
    names = take_over(network, trained)
    head = {"classifier.weight", "classifier.bias"}
    assert same(network, kept(trained), head) == sorted(head)
    assert names == network.state_dict().keys() - head


def test_a_classifier_of_other_classes_begins_anew() -> None:
    trained, network = filled(classes=4, seed=1), filled(classes=6, seed=2)
    before = kept(network)
    names = take_over(network, trained)
    head = {"classifier.weight", "classifier.bias"}
    assert same(network, before, head) == sorted(head)
    assert names == before.keys() - head


def test_other_channels_of_the_images_concern_the_first_convolution_alone() -> None:
    trained, network = filled(in_channels=3, seed=1), filled(in_channels=1, classes=2, seed=2)
    before = kept(network)
    names = take_over(network, trained)
    assert before.keys() - names == {"stem.0.weight", "classifier.weight", "classifier.bias"}
    assert same(network, before, before.keys()) == ["classifier.bias", "classifier.weight", "stem.0.weight"]


def test_networks_without_stages_are_matched_by_name_and_shape() -> None:
    def network(width: int) -> nn.Module:
        layers = {"a": nn.Linear(2, 3), "b": nn.Linear(3, width), "classifier": nn.Linear(width, 2)}
        return nn.ModuleDict(layers)

    trained, other = network(4), network(5)
    before = kept(other)
    assert take_over(other, trained) == {"a.weight", "a.bias"}
    assert same(other, kept(trained), {"a.weight", "a.bias"}) == ["a.bias", "a.weight"]
    rest = before.keys() - {"a.weight", "a.bias", "classifier.bias"}  # that one has a counterpart of its shape
    assert same(other, before, rest) == sorted(rest)


# Holding


def steps(network: nn.Module, count: int = 3) -> None:
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    for seed in range(count):
        images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        F.cross_entropy(network(images), torch.arange(8) % 4).backward()
        optimizer.step()


def test_what_is_held_stays_and_learns_again_when_it_is_let_go() -> None:
    network = filled()
    held = {*cell_names(0), *reduction_names(1), *with_norm("stem.0", "stem.1")}
    before = kept(network)
    hold(network, held, True)
    steps(network)
    assert same(network, before, before.keys()) == sorted(held)
    assert all(value.grad is None for name, value in network.named_parameters() if name in held)
    hold(network, held, False)
    steps(network)
    assert same(network, before, before.keys()) == []


DATA = Fake(images=64, num_classes=4, crop_padding=0, flip=False)


def task(batch_size: int = 8) -> Classification:
    return Classification(DATA, 0.5, batch_size)  # 32 images for the weights


class Look(FitMonitor):
    """After every step: what of the tensors is as it was, and the rates; evaluates after every epoch."""

    def __init__(self, network: nn.Module, names: frozenset[str]) -> None:
        self.network, self.names, self.before = network, names, kept(network)
        self.same: list[set[str]] = []
        self.averages: list[set[str]] = []
        self.rates: list[list[float]] = []

    def on_step(self, state: FitState, loss: Tensor) -> None:
        self.same.append({*same(self.network, self.before, self.before.keys())})
        self.averages.append({*same(state.judged, self.before, self.before.keys())})
        self.rates.append([group["lr"] for group in state.optimizer.param_groups])

    def on_epoch(self, state: FitState) -> bool:
        evaluate(self.network, state.task)
        return True


def fitted(recipe: Recipe) -> Look:
    network = filled(classes=4, seed=2)
    names = take_over(network, filled(classes=5, seed=1))
    look, mine = Look(network, names), task()
    fit(network, mine, recipe, FitState(network, mine, recipe, backbone=names), [look])
    return look


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_the_backbone_rests_in_its_frozen_epochs_to_the_bit(average: float) -> None:
    look = fitted(Recipe(epochs=3, lr=0.1, weight_decay=0.1, frozen_epochs=2, average=average))
    everything = {*look.before}
    assert len(look.same) == 12
    assert look.same[:8] == look.averages[:8] == [look.names] * 8
    assert everything - look.names == {"classifier.weight", "classifier.bias"}
    assert look.same[8:] == look.averages[8:] == [set()] * 4


def test_frozen_to_the_end() -> None:
    look = fitted(Recipe(epochs=2, weight_decay=0.1, frozen_epochs=2))
    assert look.same == [look.names] * 8


def test_a_rate_of_zero_leaves_the_weights_and_not_the_statistics() -> None:
    look = fitted(Recipe(epochs=2, weight_decay=0.1, backbone_lr=0))
    statistics = {name for name in look.names if name.rpartition(".")[2] in NORM[2:]}
    assert look.same == [look.names - statistics] * 8


def test_the_backbone_has_its_factor_of_the_rate() -> None:
    look = fitted(Recipe(epochs=3, lr=0.2, frozen_epochs=1, backbone_lr=0.25))
    rates = [0.1 * (1 + math.cos(math.pi * step / 12)) for step in range(12)]
    assert [own for own, _ in look.rates] == pytest.approx(rates)
    assert [theirs for _, theirs in look.rates] == pytest.approx([rate / 4 for rate in rates])


def test_a_step_moves_the_backbone_by_its_factor_of_the_gradient() -> None:
    network, twin = (filled(classes=4, seed=2) for _ in range(2))
    trained = filled(classes=5, seed=1)
    names = take_over(network, trained)
    take_over(twin, trained)
    images, labels = task(32).train.next()
    F.cross_entropy(twin.train()(images), labels).backward()
    recipe, mine = Recipe(epochs=1, lr=0.05, momentum=0, nesterov=False, weight_decay=0, backbone_lr=3), task(32)
    assert fit(network, mine, recipe, FitState(network, mine, recipe, backbone=names)).step == 1
    now = dict(network.named_parameters())
    for name, value in twin.named_parameters():
        assert value.grad is not None
        factor = 1 if name.startswith("classifier") else 3
        torch.testing.assert_close(now[name].detach(), (value - 0.05 * factor * value.grad).detach(), msg=name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frozen_epochs": -1}, "frozen_epochs: got -1; give 0 to epochs=3"),
        ({"frozen_epochs": 4}, "frozen_epochs: got 4"),
        ({"backbone_lr": -0.1}, "backbone_lr: got -0.1"),
        ({"backbone_lr": math.nan}, "backbone_lr: got nan"),
        ({"backbone_lr": math.inf}, "backbone_lr: got inf"),
    ],
)
def test_recipes_refuse_what_means_nothing(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(epochs=3, **options)


# The command


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network of four classes."""
    folder = tmp_path_factory.mktemp("base") / "run"
    assert main(["retrain", f"cell={CELL}", *TINY, "recipe.epochs=2", f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def file(base: Path) -> Path:
    """The same as a file."""
    assert main(["export", f"run={base}", "format=safetensors"]) == 0
    return base / "exports" / "model.safetensors"


def weights_of(folder: Path) -> dict[str, Tensor]:
    content = load_checkpoint(folder / "checkpoints" / "model.pt")["weights"]
    return dict(content)


def result_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return {key: value for key, value in content.items() if key not in ("seconds", "timing")}


def begun_with(start: Path, folder: Path, *more: str) -> list[str]:
    own = [word for word in TINY if not word.startswith("network")]
    return ["retrain", f"init={start}", *own, "dataset.num_classes=3", f"run_dir={folder}", *more]


def test_a_network_begins_with_another_ones_weights(base: Path, file: Path, tmp_path: Path) -> None:
    """Cell and width are the other one's where nothing else is given; from its folder or its file alike."""
    frozen = ("recipe.epochs=2", "recipe.frozen_epochs=2")
    assert main(begun_with(base, tmp_path / "one", *frozen)) == 0
    assert main(begun_with(file, tmp_path / "two", *frozen)) == 0
    theirs, own = weights_of(base), weights_of(tmp_path / "one")
    changed = {name for name, value in own.items() if not torch.equal(value, theirs[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert own["classifier.weight"].shape == (3, 16)
    result = result_of(tmp_path / "one")
    assert (result["cell"], result["network_size"]) == (CELL, "C=4, N=1, 8x8, 3 classes")
    assert result["origin"] == f"began with {len(own) - 2} of {len(own)} tensors trained from scratch"
    assert result == result_of(tmp_path / "two")


def test_a_deeper_network_than_the_one_it_begins_with(base: Path, tmp_path: Path) -> None:
    more = ("network.cells=2", "recipe.epochs=1", "recipe.frozen_epochs=1")
    assert main(begun_with(base, tmp_path / "run", *more)) == 0
    theirs, own = weights_of(base), weights_of(tmp_path / "run")
    for place, source in {0: 0, 3: 2, 6: 4}.items():
        for name, other in zip(cell_names(place), cell_names(source), strict=True):
            assert torch.equal(own[name], theirs[other]), name
    taken = 6 + 3 * 12 + 2 * 13 + 5  # stem, cells, reductions, last normalisation
    assert result_of(tmp_path / "run")["origin"].startswith(f"began with {taken} of {taken + 3 * 12 + 2} tensors")


def test_the_weights_of_a_search_are_a_beginning_too(tmp_path: Path) -> None:
    tiny = ["method=plain", "dataset=fake", "network.channels=2", "budget.steps=2", "monitor=[]", "oracle=none"]
    assert main(["search", *tiny, f"run_dir={tmp_path / 'search'}"]) == 0
    words = begun_with(tmp_path / "search", tmp_path / "run", "recipe.epochs=1", "recipe.frozen_epochs=1", "force=true")
    assert main(words) == 0
    result = result_of(tmp_path / "run")
    assert result["cell"] == json.loads((tmp_path / "search/result.json").read_text())["cell"]
    assert result["origin"].endswith("inherited from the supernet of a search")
    supernet = load_checkpoint(tmp_path / "search/checkpoints/last.pt")["state"]["network"]
    assert torch.equal(weights_of(tmp_path / "run")["stem.0.weight"], supernet["stem.0.weight"])


RESUMED = ("recipe.epochs=3", "recipe.frozen_epochs=1", "recipe.backbone_lr=0.3", "recipe.average=0.9")


@pytest.fixture(scope="module")
def whole(base: Path) -> Path:
    folder = base.parent / "whole"
    assert main(begun_with(base, folder, *RESUMED)) == 0
    return folder


@pytest.mark.parametrize("step", slow_but([8], [3, 8, 9, 20]))  # of 8 an epoch: frozen, its end, let go
def test_a_stopped_one_goes_on_to_the_same_bits_without_the_network_that_it_began_with(
    base: Path, whole: Path, tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, folder = shutil.copytree(base, tmp_path / "base"), tmp_path / "run"
    real = Retraining.on_step

    def on_step(self: Retraining, state: FitState, loss: Tensor) -> None:
        self.stop.made = state.step == step
        real(self, state, loss)

    with monkeypatch.context() as patch:
        patch.setattr(Retraining, "on_step", on_step)
        assert main(begun_with(start, folder, *RESUMED)) == 130
    assert load_checkpoint(folder / "checkpoints/last.pt")["state"]["step"] == step
    shutil.rmtree(start)
    assert main(["retrain", f"resume={folder}"]) == 0
    assert result_of(folder) == result_of(whole)
    for name, value in weights_of(whole).items():
        assert torch.equal(weights_of(folder)[name], value), name
    mine, theirs = (load_checkpoint(place / "checkpoints/last.pt")["state"] for place in (folder, whole))
    for name, value in theirs["network"].items():
        assert torch.equal(mine["network"][name], value), name
    assert mine["backbone"] == theirs["backbone"]


def test_a_cell_beside_other_weights_is_refused(darts: Darts, base: Path, tmp_path: Path) -> None:
    done = darts(*begun_with(base, tmp_path / "run", f"cell={OTHER}"))
    assert done.returncode == 2
    assert f"init: its weights are of the cell {CELL}; leave out cell and run, or init" in done.stderr
    assert not (tmp_path / "run").exists()


def test_what_is_no_model_is_refused(darts: Darts, base: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    unfinished = shutil.copytree(base, tmp_path / "unfinished")
    (unfinished / "checkpoints/model.pt").unlink()
    (tmp_path / "notes.txt").write_text("no model")
    for start, message in {
        "nowhere": "init: there is no nowhere; give",
        "empty": "init: empty is no run folder",
        "unfinished": "init: unfinished holds no model.pt; finish it with: darts retrain resume=unfinished",
        "notes.txt": "init: got notes.txt; give",
        str(base / "checkpoints/last.pt"): "last.pt is no model of this program",
    }.items():
        done = darts(*begun_with(Path(start), tmp_path / "run"))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert message.replace("init: ", "") in done.stderr, done.stderr
        assert done.stderr.startswith("darts: init: ")
        assert not (tmp_path / "run").exists()


def lacking(weights: dict[str, Tensor]) -> None:
    del weights["layers.0.edges.0.1.weight"]


def reshaped(weights: dict[str, Tensor]) -> None:
    weights["classifier.bias"] = torch.zeros(5)


def foreign(weights: dict[str, Tensor]) -> None:
    weights["head.weight"] = torch.zeros(2)


def empty(weights: dict[str, Tensor]) -> None:
    weights.clear()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lacking, "layers.0.edges.0.1.weight is missing"),
        (reshaped, "classifier.bias has the shape (5,), not (4,)"),
        (foreign, "head.weight is unknown"),
        (empty, "stem.0.weight is missing; stem.1.weight is missing; stem.1.bias is missing; and "),
    ],
)
def test_a_file_whose_weights_do_not_fit_is_refused(
    darts: Darts, file: Path, tmp_path: Path, spoil: Callable[[dict[str, Tensor]], None], message: str
) -> None:
    from safetensors import safe_open

    with safe_open(str(file), framework="pt") as opened:
        notes = opened.metadata()
    weights = load_file(str(file))
    spoil(weights)
    save_file(weights, str(tmp_path / "spoiled.safetensors"), metadata=notes)
    done = darts(*begun_with(tmp_path / "spoiled.safetensors", tmp_path / "run"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("darts: init: the weights in ")
    assert message in done.stderr
    assert not (tmp_path / "run").exists()
