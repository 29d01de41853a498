"""What recipes add to plain SGD, each against its definition; and how answers are judged."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from darts.tasks.classification import Classification
from darts.tasks.datasets.fake import Fake
from darts.training.fit import FitMonitor, FitState, Mixing, fit, fit_step
from darts.training.judging import BINS, calibration, confusion
from darts.training.recipe import Recipe

DATA = Fake(images=64, num_classes=4, crop_padding=0, flip=False)


def task(**options: float) -> Classification:
    return Classification(DATA, 0.5, 8, **options)  # type: ignore[arg-type]


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))


def test_the_rate_rises_in_the_warm_up_and_falls_along_a_whole_cosine() -> None:
    recipe = Recipe(epochs=10, lr=0.4, lr_min=0.1, warm_up=2)
    assert [recipe.learning_rate(at) for at in (0, 0.1, 0.2)] == pytest.approx([0, 0.2, 0.4])
    assert recipe.learning_rate(0.6) == pytest.approx(0.25)
    assert recipe.learning_rate(0.4) == pytest.approx(0.1 + 0.15 * (1 + math.cos(math.pi / 4)))
    assert recipe.learning_rate(1.0) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warm_up": 3}, "warm_up: got 3; give 0 or more epochs, fewer than epochs=3"),
        ({"mixup": -1.0}, "mixup: got -1.0"),
        ({"average": 1.0}, "average: got 1.0"),
    ],
)
def test_recipes_refuse_what_means_nothing(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(epochs=3, **options)  # type: ignore[arg-type]


def test_mixup_mixes_inputs_and_losses() -> None:
    mine, network = task(), linear()
    inputs, targets = batch = mine.train.next()
    order = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])
    mixed = 0.3 * inputs + 0.7 * inputs[order]
    outputs = network(mixed)
    expected = 0.3 * F.cross_entropy(outputs, targets) + 0.7 * F.cross_entropy(outputs, targets[order])
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    assert fit_step(network, optimizer, mine, batch, 0.1, Mixing(0.3, order)).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_shares_of_mixup_follow_their_distribution() -> None:
    """Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1)); within 4 standard errors."""
    recipe, mine = Recipe(epochs=1, mixup=0.5), task()
    state = FitState(linear(), mine, recipe)
    shares = torch.tensor([state.mixing(recipe, 2).share for _ in range(4000)])  # type: ignore[union-attr]
    deviation = (1 / (4 * (2 * 0.5 + 1))) ** 0.5
    assert abs(shares.mean() - 0.5) < 4 * deviation / 4000**0.5
    assert shares.std() == pytest.approx(deviation, rel=0.03)
    assert FitState(linear(), mine, Recipe(epochs=1)).mixing(Recipe(epochs=1), 2) is None


def test_averaged_weights_are_the_moving_average_of_all_steps() -> None:
    class Weights(FitMonitor):
        def __init__(self) -> None:
            self.seen: list[Tensor] = []

        def on_step(self, state: FitState, loss: Tensor) -> None:
            self.seen.append(state.network[1].weight.detach().double().clone())  # type: ignore[index]

    network, weights = linear(), Weights()
    state = fit(network, task(), Recipe(epochs=4, lr=0.05, average=0.7), monitors=[weights])
    mean = weights.seen[0]  # the first of all averages is what it averages
    for count, new in enumerate(weights.seen[1:], start=1):
        kept = min(0.7, (1 + count) / (10 + count))
        mean = kept * mean + (1 - kept) * new
    torch.testing.assert_close(state.judged[1].weight.double(), mean, rtol=1e-4, atol=1e-6)  # type: ignore[index]
    assert state.judged is not network
    assert not torch.equal(state.judged[1].weight, network[1].weight)  # type: ignore[index]


def test_cutout_blanks_a_square_in_every_image_and_nothing_else() -> None:
    plain, cut = task(), task(cutout=4)
    for _ in range(10):
        whole_BCHW, labels = plain.train.next()
        holes_BCHW, same = cut.train.next()
        if torch.equal(labels, same):  # the streams draw alike until the first square is drawn
            break
    blank_BHW = (holes_BCHW == 0).all(dim=1)
    sides = [(int(blank.any(dim=0).sum()), int(blank.any(dim=1).sum())) for blank in blank_BHW]
    assert all(2 <= side <= 4 for pair in sides for side in pair), "at an edge half of it or more"
    assert all(int(blank.sum()) == width * height for blank, (width, height) in zip(blank_BHW, sides, strict=True))
    kept = ~blank_BHW[:, None].expand_as(whole_BCHW)
    assert torch.equal(whole_BCHW[kept], holes_BCHW[kept])


def test_label_smoothing_spreads_its_share_over_all_classes() -> None:
    outputs, targets = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0])
    logs = outputs.log_softmax(dim=1)
    expected = -(0.8 * logs[range(5), targets] + 0.2 * logs.mean(dim=1)).mean()
    assert task(label_smoothing=0.2).loss(outputs, targets) == pytest.approx(expected.item(), rel=1e-5)


# Judging


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 2)), min_size=1))
def test_calibration_and_confusion_by_brute_force(rows: list[tuple[float, float, float, int]]) -> None:
    raw = torch.tensor([row[:3] for row in rows], dtype=torch.float64)
    probabilities, labels = raw / raw.sum(dim=1, keepdim=True), torch.tensor([row[3] for row in rows])
    bins: dict[int, list[tuple[float, bool]]] = {}
    table = [[0] * 3 for _ in range(3)]
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        answer = max(range(3), key=row.__getitem__)
        table[label][answer] += 1
        bins.setdefault(max(1, math.ceil(row[answer] * BINS)), []).append((row[answer], answer == label))
    gaps = [abs(sum(c for c, _ in found) - sum(r for _, r in found)) for found in bins.values()]
    found = calibration(probabilities, labels)
    assert found.error == pytest.approx(100 * sum(gaps) / len(rows), abs=1e-9)
    assert [count for count, *_ in found.bins] == [len(bins[place]) for place in sorted(bins)]
    assert confusion(probabilities, labels).tolist() == table


def test_a_network_that_is_as_right_as_it_is_sure_has_no_calibration_error() -> None:
    probabilities = torch.tensor([[0.75, 0.25]] * 4)
    assert calibration(probabilities, torch.tensor([0, 0, 0, 1])).error == pytest.approx(0, abs=1e-9)
    assert calibration(probabilities, torch.tensor([1, 1, 1, 1])).error == pytest.approx(75)
