"""What DARTS' trainings add: dropped paths, an auxiliary classifier, bounded gradients; each against its definition."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts.cli import main
from darts.run.checkpoint import load_checkpoint
from darts.tasks.classification import Classification
from darts.tasks.datasets.fake import Fake
from darts.training.fit import FitMonitor, FitState, Mixing, fit, fit_step, initialised
from darts.training.model import load_model
from darts.training.recipe import Recipe
from supernet.darts_network import AuxiliaryHead, DartsNetwork, dropped
from supernet.size import NetworkSize
from supernet.spaces.base import Space
from supernet.spaces.cells import CellSpace
from supernet.spaces.darts_cells import DartsCells
from supernet.spaces.sequential_cnn import SequentialCnn

NODE = "|skip_connect~0|sep_conv_3x3~1|"
CELL = f"{NODE}+{NODE}+|dil_conv_3x3~0|skip_connect~2|+|avg_pool_3x3~1|sep_conv_5x5~3|"
SPACE = DartsCells()
GENOTYPE = SPACE.parse(f"{CELL}/{CELL}")
SKIPS = "+".join(["|skip_connect~0|skip_connect~1|"] * 4)
SIZE = NetworkSize(4, 3, 4, 3, 8)


def task() -> Classification:
    return Classification(Fake(images=64, num_classes=4, crop_padding=0, flip=False), 0.5, 8)


def network_of(recipe: Recipe | None = None, text: str = f"{CELL}/{CELL}", seed: int = 0) -> DartsNetwork:
    network = SPACE.network(SPACE.parse(text), SIZE)
    if recipe is not None:
        recipe.prepare(network)
    initialised(network, torch.Generator().manual_seed(seed))
    return network


# --- Dropped paths


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_dropping_keeps_the_mean_and_drops_whole_items(share: float) -> None:
    torch.manual_seed(0)
    x_BCHW = torch.randn(20_000, 2, 2, 3) + 4
    ratio_BCHW = dropped(x_BCHW, share) / x_BCHW
    factor_B = ratio_BCHW[:, 0, 0, 0]
    torch.testing.assert_close(ratio_BCHW, factor_B[:, None, None, None].expand_as(x_BCHW))
    kept_B = factor_B > 0
    torch.testing.assert_close(factor_B[kept_B], torch.full((int(kept_B.sum()),), 1 / (1 - share)))
    error = (share / (1 - share) / len(factor_B)) ** 0.5
    assert abs(float(factor_B.double().mean()) - 1) <= 4 * error
    pairs = float((kept_B[1:] & kept_B[:-1]).double().mean())
    assert abs(pairs - (1 - share) ** 2) <= 4 * (3 * (1 - share) ** 2 / len(factor_B)) ** 0.5


def changes(text: str, training: bool) -> bool:
    """Whether a share of 0.5 changes what the network gives."""
    network = network_of(text=text).train(training)
    x_BCHW = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    answers = []
    for share in (0.0, 0.5):
        network.drop_path = share
        answers.append(network(x_BCHW))
    return not torch.allclose(*answers)


def test_edges_drop_in_training_alone_and_edges_without_an_operation_never_do() -> None:
    pools = SKIPS.replace("skip_connect", "max_pool_3x3")
    assert changes(f"{CELL}/{CELL}", training=True)
    assert not changes(f"{CELL}/{CELL}", training=False)
    assert changes(f"{SKIPS}/{pools}", training=True), "poolings drop"
    normal = network_of(text=f"{SKIPS}/{pools}").layers[0].train()
    older, newer = (torch.randn(8, 12, 8, 8) for _ in range(2))
    torch.testing.assert_close(normal(older, newer, 0.9), normal(older, newer, 0.0), rtol=0, atol=0)


class Shares(FitMonitor):
    """Notes what share each step dropped; may end the training after an epoch."""

    def __init__(self, epochs: int = 100) -> None:
        self.seen: list[float] = []
        self.epochs = epochs

    def on_step(self, state: FitState, loss: Tensor) -> None:
        self.seen.append(float(state.network.drop_path))  # type: ignore[arg-type]

    def on_epoch(self, state: FitState) -> bool:
        return state.step < self.epochs * state.task.steps_per_epoch


def test_the_share_rises_epoch_by_epoch() -> None:
    """As the published training does it: the share times the number of the epoch, from 0, over all epochs."""
    recipe, shares = Recipe(epochs=4, lr=0.01, drop_path=0.4), Shares()
    fit(network_of(), task(), recipe, monitors=[shares])
    assert shares.seen == pytest.approx([0.0] * 4 + [0.1] * 4 + [0.2] * 4 + [0.3] * 4)


def test_a_training_that_stopped_goes_on_to_the_same_bits() -> None:
    recipe = Recipe(epochs=3, lr=0.05, drop_path=0.5, auxiliary=0.4, grad_clip=1.0, average=0.9, mixup=0.2)

    def begun(seed: int) -> tuple[DartsNetwork, Classification, FitState]:
        network, own = network_of(recipe, seed=seed), task()
        return network, own, FitState(network, own, recipe, seed)

    network, own, state = begun(0)
    torch.manual_seed(5)
    fit(network, own, recipe, state, [Shares(2)])
    saved = io.BytesIO()
    torch.save(state.state_dict(), saved)
    saved.seek(0)
    fit(network, own, recipe, state)
    torch.manual_seed(99)
    other, theirs, again = begun(7)
    again.load_state_dict(torch.load(saved))
    fit(other, theirs, recipe, again)
    for mine, one in ((network, other), (state.judged, again.judged)):
        pairs = zip(mine.state_dict().values(), one.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


# --- The auxiliary classifier


@pytest.mark.parametrize(("side", "stride"), [(8, 3), (7, 2)], ids=["cifar", "imagenet"])
def test_the_auxiliary_head_is_the_published_one(side: int, stride: int) -> None:
    """ReLU, mean over 5x5 pixels, 1x1 to 128, 2x2 to 768, a linear layer (Liu et al. 2019, appendix A.2)."""
    torch.manual_seed(0)
    head, x_BCHW = AuxiliaryHead(6, 5).double(), torch.randn(3, 6, side, side, dtype=torch.float64)
    weights = {name: value for name, value in head.state_dict().items() if value.dim() > 1}
    one, two, last = weights.values()
    values = F.avg_pool2d(x_BCHW.clamp(min=0), 5, stride, count_include_pad=False)
    assert values.shape[2:] == (2, 2)
    for weight in (one, two):
        values = F.conv2d(values, weight)
        mean, variance = values.mean((0, 2, 3), keepdim=True), values.var((0, 2, 3), correction=0, keepdim=True)
        values = ((values - mean) / (variance + 1e-5).sqrt()).clamp(min=0)
    expected = values.flatten(1) @ last.T + head.classifier.bias
    torch.testing.assert_close(head(x_BCHW), expected)
    assert (one.shape, two.shape, last.shape) == ((128, 6, 1, 1), (768, 128, 2, 2), (5, 768))


def test_the_second_answer_comes_from_the_cell_after_two_thirds_and_in_training_alone() -> None:
    network = SPACE.network(GENOTYPE, NetworkSize(4, 7, 4, 3, 8))
    network.with_auxiliary()
    seen: list[Tensor] = []
    network.layers[4].register_forward_hook(lambda module, inputs, output: seen.append(output))
    assert network.auxiliary is not None
    network.auxiliary.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    found = network(torch.randn(2, 3, 8, 8))
    assert [value.shape for value in found] == [(2, 4), (2, 4)]
    assert seen[0] is seen[1]
    assert torch.is_tensor(network.eval()(torch.randn(2, 3, 8, 8)))


@pytest.mark.parametrize("mixed", [False, True], ids=["plain", "mixup"])
@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_the_loss_of_the_second_answer_has_its_weight(weight: float, mixed: bool) -> None:
    """The step of plain gradient descent is the gradient of a sum written out."""
    network, own = network_of(Recipe(epochs=1, auxiliary=0.4)), task()
    inputs, targets = batch = own.train.next()
    twin = copy.deepcopy(network)
    order = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])
    parts = [(0.3, targets), (0.7, targets[order])] if mixed else [(1.0, targets)]
    mixing = Mixing(0.3, order) if mixed else None
    main_BK, second_BK = twin(0.3 * inputs + 0.7 * inputs[order] if mixed else inputs)
    losses = [
        sum(share * F.cross_entropy(outputs, labels) for share, labels in parts) for outputs in (main_BK, second_BK)
    ]
    total = losses[0] + weight * losses[1]
    total.backward()  # type: ignore[union-attr]
    before = copy.deepcopy(network.state_dict())
    optimizer = torch.optim.SGD(network.parameters(), 1.0)
    loss = fit_step(network, optimizer, own, batch, 1.0, mixing, auxiliary=weight)
    assert loss.item() == pytest.approx(total.item(), rel=1e-5)  # type: ignore[union-attr]
    for name, parameter in twin.named_parameters():
        assert parameter.grad is not None
        step = before[name] - network.get_parameter(name)
        torch.testing.assert_close(step, parameter.grad, rtol=1e-3, atol=1e-5)
    head = [p.grad for name, p in twin.named_parameters() if name.startswith("auxiliary.") and p.grad is not None]
    assert any(gradient.count_nonzero() for gradient in head) == (weight > 0)


# --- Bounded gradients


def test_the_norm_of_the_gradient_is_bounded() -> None:
    """A longer one keeps its direction; a shorter one stays as it is."""

    def step(grad_clip: float | None) -> Tensor:
        network, own = network_of(Recipe(epochs=1, auxiliary=0.4)), task()
        before = nn.utils.parameters_to_vector(network.parameters()).detach().clone()
        optimizer = torch.optim.SGD(network.parameters(), 1.0)
        fit_step(network, optimizer, own, own.train.next(), 1.0, auxiliary=0.4, grad_clip=grad_clip)
        return before - nn.utils.parameters_to_vector(network.parameters()).detach()

    whole = step(None)
    norm = float(whole.norm())
    assert float(step(norm / 5).norm()) == pytest.approx(norm / 5, rel=1e-3)
    torch.testing.assert_close(step(norm / 5) * 5, whole, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(step(norm * 5), whole, rtol=0, atol=0)


def test_fit_bounds_every_step() -> None:
    """Without momentum and decay a step is at most the rate times the bound."""
    recipe = Recipe(epochs=2, lr=0.5, momentum=0, nesterov=False, weight_decay=0, grad_clip=0.01, drop_path=0.2)
    network, steps = network_of(), list[tuple[float, float]]()
    last = nn.utils.parameters_to_vector(network.parameters()).detach().clone()

    class Steps(FitMonitor):
        def on_step(self, state: FitState, loss: Tensor) -> None:
            now = nn.utils.parameters_to_vector(state.network.parameters()).detach().clone()
            steps.append((float((now - last).norm()), state.optimizer.param_groups[0]["lr"]))
            last.copy_(now)

    fit(network, task(), recipe, monitors=[Steps()])
    assert len(steps) == 8
    assert all(length <= 0.01 * rate * 1.01 + 1e-6 for length, rate in steps)
    assert steps[0][0] == pytest.approx(0.005, rel=0.02)


# --- Networks that cannot

TEXTS: dict[type[Space], str] = {
    CellSpace: "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|",
    SequentialCnn: "R8-3-relu+N8-3-relu+R8-3-relu",
}


@pytest.mark.parametrize("space", [CellSpace(), SequentialCnn()], ids=["cells", "sequential"])
@pytest.mark.parametrize("options", [{"drop_path": 0.2}, {"auxiliary": 0.4}], ids=["drop_path", "auxiliary"])
def test_networks_without_paths_or_a_second_classifier_are_refused(space: Space, options: dict[str, float]) -> None:
    ((name, value),) = options.items()
    network = space.network(space.parse(TEXTS[type(space)]), SIZE)
    with pytest.raises(ValueError, match=rf"^{name}: got {value}; {type(network).__name__} .*, give 0$"):
        Recipe(epochs=1, **options).prepare(network)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["drop_path=0.2", "auxiliary=0.4"])
def test_the_command_names_the_option_of_the_recipe(option: str, darts: Callable[..., Any], tmp_path: Path) -> None:
    name, _, value = option.partition("=")
    cell = TEXTS[CellSpace]
    done = darts("retrain", f"cell={cell}", "dataset=fake", "network.cells=1", f"recipe.{option}", "run_dir=run")
    assert done.returncode == 2
    assert f"recipe.{name}: got {value}" in done.stderr
    assert not (tmp_path / "run" / "checkpoints" / "model.pt").exists()


# --- Files


TINY = ["space=darts_cells", "dataset=fake", "network.channels=4", "network.cells=3", "data.batch_size=32"]


@pytest.mark.parametrize(
    "more",
    [pytest.param([], marks=pytest.mark.slow), ["recipe.average=0.9", "data.held_out=0.25"]],
    ids=["plain", "averaged"],
)
def test_files_of_models_hold_nothing_auxiliary_and_load_again(more: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [*TINY, "recipe.epochs=1", "recipe.auxiliary=0.4", "recipe.drop_path=0.2", *more]
    assert main(["retrain", f"cell={CELL}/{CELL}", *words, f"run_dir={run}"]) == 0
    plain = SPACE.network(GENOTYPE, NetworkSize(4, 3, 4, 3, 8)).state_dict()
    for file in ["model.pt", *(["best.pt"] if more else [])]:
        path = run / "checkpoints" / file
        weights = load_checkpoint(path)["weights"]
        assert {name: value.shape for name, value in weights.items()} == {n: v.shape for n, v in plain.items()}
        model = load_model(path, "model")
        assert torch.is_tensor(model.network(torch.zeros(2, 3, 8, 8)))
        assert all(torch.equal(value, weights[name]) for name, value in model.network.state_dict().items())
    again = tmp_path / "again"
    words = [*TINY, "recipe.epochs=1", "recipe.auxiliary=0.4", f"init={run}"]
    assert main(["retrain", f"cell={CELL}/{CELL}", *words, f"run_dir={again}"]) == 0


@pytest.mark.parametrize("dataset", ["adding", "mackey_glass"])
def test_files_of_models_of_series_load_again(dataset: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [
        "space=recurrent_network", "task=sequence_regression", f"dataset={dataset}", "recipe.epochs=1",
        "data.batch_size=32", f"run_dir={run}",
        "dataset.items=64" if dataset == "adding" else "dataset.steps=200",
    ]  # fmt: skip
    assert main(["retrain", "cell=gru/layers=1/width=8/dropout=0/tanh", *words]) == 0
    model = load_model(run / "checkpoints" / "model.pt", "model")
    assert model.network(torch.zeros(2, 5, 2 if dataset == "adding" else 1)).shape == (2, 1)
