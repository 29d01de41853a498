"""One training: what it learns, that it repeats and resumes bit for bit, its schedule, its ends."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from darts.run.seeding import make_generator
from darts.tasks.classification import Classification
from darts.tasks.datasets.fake import Fake
from darts.training.fit import Diverged, FitMonitor, FitState, evaluate, fit, initialised
from darts.training.recipe import Recipe
from darts.training.schedules import cosine
from supernet.discrete_network import DiscreteNetwork
from supernet.genotype import Genotype
from supernet.spaces.cells import CellSpace

SPACE = CellSpace()
GOOD = SPACE.parse("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|")
CHILD = SPACE.parse(str(GOOD).replace("|nor_conv_3x3~1|+", "|nor_conv_1x1~1|+"))
USED = SPACE.parse("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|")
DATA = Fake(images=96, num_classes=3)


class Curve(FitMonitor):
    """Keeps the metric after every epoch; may end the training."""

    def __init__(self, epochs: float = math.inf) -> None:
        self.values: list[float] = []
        self.epochs = epochs

    def on_epoch(self, state: FitState) -> bool:
        self.values.append(evaluate(state.network, state.task))
        return len(self.values) < self.epochs


def task(split: float = 0.5) -> Classification:
    return Classification(DATA, split, 16, 0, torch.device("cpu"))


def network_of(cell: Genotype = GOOD, seed: int = 0, parent: nn.Module | None = None) -> DiscreteNetwork:
    """Before training."""
    network = SPACE.network(cell, task().network_size(4, 1))
    initialised(network, make_generator(seed, "initial weights"))
    if parent is not None:
        network.inherit(parent)  # type: ignore[arg-type]
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def recipe(epochs: int = 6, lr: float = 0.05) -> Recipe:
    return Recipe(epochs, lr, weight_decay=5e-4)


def curve(seed: int = 0, epochs: int = 6, lr: float = 0.05) -> list[float]:
    """Accuracies after every epoch."""
    monitor = Curve()
    fit(network_of(seed=seed), task(), recipe(epochs, lr), monitors=[monitor])
    return monitor.values


def test_training_learns_and_repeats() -> None:
    first = curve()
    assert first == curve()
    assert len(first) == 6
    longer = curve(epochs=25)
    assert longer[-1] > 80 > longer[0]
    assert curve(seed=1) != first


def test_a_loss_that_is_no_number_is_a_divergence() -> None:
    with pytest.raises(Diverged, match=r"the loss is (nan|inf) at step \d+ of 18"):
        curve(lr=1e30)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_divergence_is_noticed_before_weights_are_touched(loss: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the step where it happens, with the weights of the step before."""
    mine, network, losses = task(), network_of(), iter([1.0, 1.0, 1.0, 1.0, loss])
    plain, steps = mine.loss, []
    monkeypatch.setattr(mine, "loss", lambda outputs, targets: plain(outputs, targets) * next(losses))

    class Counting(FitMonitor):
        def on_step(self, state: FitState, loss: Tensor) -> None:
            steps.append([parameter.detach().clone() for parameter in network.parameters()])

    with pytest.raises(Diverged, match=rf"the loss is {loss} at step 4 of 18"):
        fit(network, mine, recipe(), monitors=[Counting()])
    assert len(steps) == 4
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), steps[-1], strict=True))


def test_a_monitor_may_end_a_training_after_an_epoch() -> None:
    monitor = Curve(epochs=2)
    state = fit(network_of(), task(), recipe(), monitors=[monitor])
    assert monitor.values == curve()[:2]
    assert state.step == 6


def test_all_monitors_hear_of_every_step_and_epoch_also_of_the_one_that_any_of_them_ends() -> None:
    class Noting(FitMonitor):
        def __init__(self, last: int) -> None:
            self.heard: list[Any] = []
            self.last = last

        def on_step(self, state: FitState, loss: Tensor) -> None:
            self.heard.append((state.step, loss.item()))

        def on_epoch(self, state: FitState) -> bool:
            self.heard.append(state.step)
            return state.step < self.last

    first, second, silent = Noting(6), Noting(99), FitMonitor()
    state = fit(network_of(), task(), recipe(), monitors=[first, second, silent])
    assert state.step == 6
    assert first.heard == second.heard
    assert [entry if isinstance(entry, int) else entry[0] for entry in first.heard] == [1, 2, 3, 3, 4, 5, 6, 6]
    assert all(math.isfinite(entry[1]) for entry in first.heard if isinstance(entry, tuple))


def test_a_child_inherits_all_weights_but_those_of_its_new_edge() -> None:
    """Changed edges keep their own initial weights; everything else is the parent's, statistics included."""
    parent = network_of()
    fit(parent, task(), recipe(1))
    begin, fresh = network_of(CHILD, parent=parent).state_dict(), network_of(CHILD).state_dict()
    own = {name for name in begin if ".edges.2." in name}
    assert len([name for name in own if begin[name].ndim == 4]) == 3, "a convolution in each of three cells"
    for name, value in begin.items():
        assert torch.equal(value, fresh[name] if name in own else parent.state_dict()[name])
    assert not torch.equal(begin["classifier.weight"], fresh["classifier.weight"])


def test_a_subset_of_the_weights_part_is_trained_on() -> None:
    """Of every class its share; the architecture's part stays."""
    whole = task()
    half = Classification(DATA, 0.5, 16, 0, torch.device("cpu"), subset=2 / 3)
    assert (whole.sizes, half.sizes) == ((48, 48), (33, 48))
    assert half.train.labels_N.bincount().tolist() == [11, 11, 11]
    rows = {image.numpy().tobytes() for image in whole.train.images_NCHW}
    assert {image.numpy().tobytes() for image in half.train.images_NCHW} < rows
    assert torch.equal(half.valid.images_NCHW, whole.valid.images_NCHW)
    with pytest.raises(ValueError, match="subset: got 0"):
        Classification(DATA, 0.5, 16, 0, torch.device("cpu"), subset=0)


def noted_groups(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The settings of SGD at every step from now on."""
    groups: list[dict[str, Any]] = []

    class Noting(torch.optim.SGD):
        def step(self, closure: None = None) -> None:
            groups.append({name: value for name, value in self.param_groups[0].items() if name != "params"})
            super().step()

    monkeypatch.setattr(torch.optim, "SGD", Noting)
    return groups


def test_training_is_that_of_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    groups, ends = noted_groups(monkeypatch), []

    class Ends(FitMonitor):
        def on_epoch(self, state: FitState) -> bool:
            ends.append(len(groups))
            return True

    fit(network_of(), task(), recipe(), monitors=[Ends()])
    assert ends == [3, 6, 9, 12, 15, 18]
    for step, group in enumerate(groups):
        assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 5e-4)
        assert group["lr"] == pytest.approx(0.05 * math.cos(math.pi * step / 36) ** 2)
    assert (Recipe(1).lr, Recipe(1).lr_min) == (0.1, 0.0)


def test_every_number_of_a_recipe_reaches_the_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = noted_groups(monkeypatch)
    fit(network_of(), task(), Recipe(2, 0.4, 0.1, momentum=0.5, nesterov=False, weight_decay=0.01))
    assert len(groups) == 6
    for step, group in enumerate(groups):
        assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.5, False, 0.01)
        assert group["lr"] == pytest.approx(0.1 + 0.3 * math.cos(math.pi * step / 12) ** 2)


@pytest.mark.parametrize(("progress", "rate"), [(0, 3.0), (1 / 3, 2.5), (1 / 2, 2.0), (2 / 3, 1.5), (1, 1.0)])
def test_the_cosine_schedule_has_its_closed_form(progress: float, rate: float) -> None:
    assert cosine(progress, 3.0, 1.0) == pytest.approx(rate)
    assert Recipe(1, 3.0, 1.0).learning_rate(progress) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs: got 0; give 1 or more"),
        ({"epochs": 1, "lr": 0.0}, "lr: got 0.0; give a rate above 0"),
        ({"epochs": 1, "lr": math.inf}, "lr: got inf"),
        ({"epochs": 1, "lr": math.nan}, "lr: got nan"),
        ({"epochs": 1, "lr": 0.1, "lr_min": 0.2}, "lr: got 0.1; give a rate above 0, at least lr_min=0.2"),
        ({"epochs": 1, "lr_min": -0.1}, "lr: got"),
        ({"epochs": 1, "weight_decay": -1.0}, "weight_decay: got -1.0; give 0 or more"),
        ({"epochs": 1, "weight_decay": math.nan}, "weight_decay: got nan"),
    ],
)
def test_recipes_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**options)


def test_a_recipe_is_followed_as_by_a_loop_of_its_own() -> None:
    """Nesterov's momentum under weight decay and a cosine, written out: the same weights."""
    mine, theirs, data = network_of(USED), network_of(USED), task()
    fit(mine, task(), recipe(2))
    velocity = {name: torch.zeros_like(value) for name, value in theirs.named_parameters()}
    for step in range(6):
        inputs, targets = data.train.next()
        loss = nn.functional.cross_entropy(theirs(inputs), targets)
        gradients = torch.autograd.grad(loss, list(theirs.parameters()))
        lr = 0.025 * (1 + math.cos(math.pi * step / 6))
        with torch.no_grad():
            for (name, value), gradient in zip(theirs.named_parameters(), gradients, strict=True):
                gradient = gradient + 5e-4 * value
                velocity[name] = gradient if step == 0 else 0.9 * velocity[name] + gradient
                value -= lr * (gradient + 0.9 * velocity[name])
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_initial_weights_have_the_spread_of_he_et_al() -> None:
    layer = torch.nn.Linear(400, 300)
    initialised(layer, torch.Generator().manual_seed(0))
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / 400), rel=0.02)


def test_the_accuracy_is_that_of_the_trained_network_with_running_statistics() -> None:
    uneven, network, monitor = task(2 / 3), network_of(), Curve()
    fit(network, uneven, recipe(2), monitors=[monitor])
    assert network.training
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert evaluate(network, uneven) == monitor.values[-1]
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network.eval()
    correct = sum(int((network(images).argmax(1) == labels).sum()) for images, labels in uneven.evaluation_batches())
    assert monitor.values[-1] == pytest.approx(100 * correct / uneven.sizes[1])


# --- Stopped and gone on with


def noisy() -> nn.Sequential:
    """A network that draws from torch's generator at every step."""
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(192, 16), nn.BatchNorm1d(16), nn.Linear(16, 3))
    initialised(network, make_generator(0, "initial weights"))
    return network


class Killed(Exception):
    """The process is gone."""


class Saving(FitMonitor):
    """Writes the state after a step, as a file would hold it, and dies; notes losses and accuracies."""

    def __init__(self, last: int | None = None) -> None:
        self.last, self.file = last, io.BytesIO()
        self.losses: list[float] = []
        self.accuracies: list[float] = []

    def on_step(self, state: FitState, loss: Tensor) -> None:
        self.losses.append(loss.item())
        if state.step == self.last:
            torch.save(state.state_dict(), self.file)
            raise Killed

    def on_epoch(self, state: FitState) -> bool:
        self.accuracies.append(evaluate(state.network, state.task))
        return True


@pytest.mark.parametrize("make", [partial(network_of, USED), noisy], ids=["cell", "noisy"])
@pytest.mark.parametrize("last", [1, 4, 8, 11])  # inside an epoch; an epoch has three steps
def test_a_stopped_training_goes_on_bit_for_bit(make: Callable[[], nn.Module], last: int) -> None:
    """From plain values alone, with a network, a task, an optimizer and torch's generator that know nothing of it."""
    torch.manual_seed(7)
    expected = fit(network := make(), task(), recipe(4), monitors=[whole := Saving()])
    torch.manual_seed(7)
    first = Saving(last)
    with pytest.raises(Killed):
        fit(make(), task(), recipe(4), monitors=[first])

    torch.manual_seed(1234)
    state = FitState(fresh := make(), data := task(), recipe(4))
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.add_(1)
    first.file.seek(0)
    state.load_state_dict(torch.load(first.file, weights_only=True))
    assert state.step == last
    rest = Saving()
    assert fit(fresh, data, recipe(4), state, [rest]) is state
    assert first.losses + rest.losses == whole.losses
    assert len(whole.losses) == state.step == expected.step == 12
    assert rest.accuracies == whole.accuracies[last // 3 :]
    for name, value in network.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name
    momenta = [[entry["momentum_buffer"] for entry in s.optimizer.state.values()] for s in (state, expected)]
    assert all(torch.equal(a, b) for a, b in zip(*momenta, strict=True))
    assert torch.equal(data.train.next()[0], expected.task.train.next()[0]), "the batch after the last one"


def test_a_complete_training_has_nothing_left_to_do() -> None:
    state = fit(network := network_of(), task(), recipe(1))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert fit(network, state.task, recipe(1), state).step == 3
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_state_holds_plain_values_alone() -> None:
    state = fit(network_of(), task(), recipe(1))
    file = io.BytesIO()
    torch.save(state.state_dict(), file)
    file.seek(0)
    other = FitState(network_of(), task(), recipe(1))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.step == 3
