"""What monitors measure, against closed forms, explicit Hessians and networks evaluated by hand; early stopping."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from searching import made
from torch import Tensor

from darts.run.errors import UserError
from darts.run.signals import Interrupted
from darts.search.early_stopping import EarlyStopping
from darts.search.inherited import inherited
from darts.search.loop import Search
from darts.search.monitors.architecture import ArchitectureMonitor
from darts.search.monitors.base import Monitor, Watched
from darts.search.monitors.derived_gap import DerivedGapMonitor
from darts.search.monitors.eigenvalue import EigenvalueMonitor
from darts.search.monitors.gradient_matching import GradientMatchingMonitor
from supernet.relaxations.base import EdgeWeights


def doubled(search: Search) -> Search:
    """Network and architecture parameters in float64."""
    state = search.state
    state.network.double()
    for value in state.params.values():
        value.data = value.data.double()
    stream = state.task.evaluation_batches
    state.task.evaluation_batches = lambda: ((x.double(), y) for x, y in stream())  # type: ignore[method-assign]
    return search


def test_entropy_and_shares_of_known_weights() -> None:
    """Edges with weights (0, 1/2, 1/2, 0, 0), uniform, and all on skip: entropies ln 2, ln 5 and 0."""
    search = made("budget.steps=1")
    names = search.state.space.candidates
    alpha_EO = torch.zeros(3, 5)
    alpha_EO[0, [names.index(n) for n in names if n not in ("none", "skip_connect")]] = -1e9
    alpha_EO[2] = -1e9
    alpha_EO[2, names.index("skip_connect")] = 0.0
    search.state.params["alpha_EO"].data = alpha_EO
    found = ArchitectureMonitor().measure(search)
    assert found == pytest.approx(
        {
            "alpha_entropy": (math.log(2) + math.log(5)) / 3,
            "skip_share": (1 / 2 + 1 / 5 + 1) / 3,
            "none_share": (1 / 2 + 1 / 5) / 3,
        }
    )


def test_the_gap_is_that_of_mixture_and_derived_path() -> None:
    search = made("budget.steps=1")
    state = search.state
    state.params["alpha_EO"].data = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    state.evaluated = state.evaluate()
    path = EdgeWeights.one_hot(state.params["alpha_EO"].argmax(dim=1).tolist(), 5)
    batches = list(state.task.evaluation_batches())
    state.network.train()
    right = sum(int((state.network(x, path).argmax(1) == y).sum()) for x, y in batches)
    found = DerivedGapMonitor().measure(search)["derived_gap"]
    assert found == pytest.approx(state.evaluated[1] - 100 * right / 32)
    first = DerivedGapMonitor(batches=1).measure(search)["derived_gap"]
    assert first == pytest.approx(
        state.evaluated[1] - inherited(state.compute, state.space, state.task, search.derived(), 1)
    )


@pytest.mark.parametrize("relaxation", ["softmax", "sigmoid"])
def test_the_eigenvalue_is_that_of_the_explicit_hessian(relaxation: str) -> None:
    """In float64, against the Hessian by central differences of exact gradients."""
    search = doubled(made("budget.steps=1", f"relaxation={relaxation}"))
    state = search.state
    state.params["alpha_EO"].data = torch.randn(3, 5, generator=torch.Generator().manual_seed(1)).double()
    found = EigenvalueMonitor().measure(search)["eigenvalue"]
    inputs, targets = next(iter(state.task.evaluation_batches()))

    def gradient(alpha_EO: Tensor) -> Tensor:
        leaf = alpha_EO.clone().requires_grad_()
        weights = state.relaxation.expected({**state.params, "alpha_EO": leaf}, state.progress)
        loss = F.cross_entropy(state.network(inputs, weights), targets)
        return torch.autograd.grad(loss, leaf)[0].flatten()

    center, step, rows = state.params["alpha_EO"].detach(), 1e-5, []
    for place in range(15):
        move = torch.zeros(15, dtype=torch.float64)
        move[place] = step
        move = move.view(3, 5)
        rows.append((gradient(center + move) - gradient(center - move)) / (2 * step))
    hessian = torch.stack(rows)
    expected = float(torch.linalg.eigvalsh((hessian + hessian.T) / 2)[-1])
    assert found == pytest.approx(expected, rel=1e-5)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in state.network.parameters())


def test_an_eigenvalue_is_measured_every_so_often_and_where_there_is_one() -> None:
    search = made("budget.epochs=4", "monitor=[eigenvalue]", "monitor.eigenvalue.every=2")
    assert ["measured" in record for record in search.run().history] == [True, False, True, False]
    words = ("relaxation=single_path", "phases.evolution.share=1", "budget.steps=1", "monitor=[eigenvalue]")
    assert "measured" not in made(*words).run().history[-1]


def test_gradients_match_where_training_and_validation_are_one() -> None:
    """1 where both draw the same images; -1 where validation counts against; the streams stay where they were."""
    search = made("budget.steps=1")
    state = search.state
    before = copy.deepcopy(state.task.state_dict())
    ordinary = GradientMatchingMonitor(batches=2).measure(search)["gradient_matching"]
    assert -1 < ordinary < 1
    after = state.task.state_dict()
    assert after["train"]["position"] == before["train"]["position"]
    assert all(torch.equal(after[part]["generator"], before[part]["generator"]) for part in ("train", "valid"))
    expected = by_hand(search, 2)
    assert ordinary == pytest.approx(expected, abs=1e-5)
    valid, state.task.valid = state.task.valid, state.task.train
    assert GradientMatchingMonitor(batches=2).measure(search)["gradient_matching"] == pytest.approx(1.0, abs=1e-5)
    state.task.valid = valid


def by_hand(search: Search, batches: int) -> float:
    state = search.state
    parameters = [value for value in state.network.parameters() if value.dim() > 1]
    sums = []
    for stream in (state.task.train, state.task.valid):
        kept = stream.state_dict()
        drawn = [stream.next() for _ in range(batches)]
        stream.load_state_dict(kept)
        loss = sum(F.cross_entropy(state.network(x, state.expected_weights()), y) for x, y in drawn)
        sums.append(torch.autograd.grad(loss, parameters, allow_unused=True))
    cosines = [
        float((a * b).sum() / (a.norm() * b.norm())) for a, b in zip(*sums, strict=True) if a is not None and a.any()
    ]
    return sum(cosines) / len(cosines)


def test_measuring_changes_nothing() -> None:
    """The same bits with and without all of them, the derived gap's running statistics included."""
    words = ("budget.epochs=3", "network.batch_norm=running")
    monitors = "monitor=[architecture,derived_gap,eigenvalue,gradient_matching]"
    plain, watched = made(*words), made(*words, monitors)
    expected, found = plain.run(), watched.run()
    assert [record["alphas"] for record in found.history] == [record["alphas"] for record in expected.history]
    names = {"alpha_entropy", "skip_share", "none_share", "derived_gap", "eigenvalue", "gradient_matching"}
    assert all(record["measured"].keys() == names for record in found.history)
    ours, theirs = plain.state.network.state_dict(), watched.state.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if not name.endswith("num_batches_tracked"))


def records(values: list[float | None], name: str = "eigenvalue") -> list[dict[str, Any]]:
    return [{"epoch": place + 1, "measured": {} if v is None else {name: v}} for place, v in enumerate(values)]


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        ({"patience": 2}, [3, 1, 2], None),
        ({"patience": 2}, [3, 1, 2, 1], (1, "has not been better than 1 for 2 epochs")),
        ({"patience": 2, "better": "high"}, [3, 1, 2], (0, "has not been better than 3 for 2 epochs")),
        ({"patience": 1}, [3, None, 4, None], (0, "not been better than 3")),
        ({"limit": 0.4}, [0.1, 0.4], None),
        ({"limit": 0.4}, [0.1, 0.3, 0.5], (1, "0.5 passed the limit 0.4")),
        ({"limit": 0.4, "better": "high"}, [0.5, 0.3], (0, "0.3 passed the limit 0.4")),
        ({"growth": 1.5, "window": 2}, [1, 1, 1, 2], None),
        ({"growth": 1.5, "window": 2}, [1, 1, 1, 2.1], (1, "grew to 1.55 times what it was 2 epochs ago")),
        ({"growth": 1.5, "window": 2}, [1, 2.1, 2.2], None),
    ],
)
def test_rules(rule: dict[str, Any], values: list[float | None], expected: tuple[int, str] | None) -> None:
    verdict = EarlyStopping("eigenvalue", **rule).verdict(records(values))
    if expected is None:
        assert verdict is None
    else:
        assert verdict is not None
        assert verdict[0] == expected[0]
        assert expected[1] in verdict[1]


class Told(Monitor):
    """Measures what it was told to, epoch by epoch."""

    def __init__(self, values: list[float], action: Callable[[Search], None] | None = None) -> None:
        self.values, self.action = values, action

    def measure(self, search: Watched) -> dict[str, float]:
        return {"told": self.values[min(len(search.state.history), len(self.values) - 1)]}

    def on_step(self, search: Search, numbers: dict[str, float]) -> None:  # type: ignore[override]
        if self.action is not None:
            self.action(search)


def stopping(*words: str, folder: Path | None = None, action: Callable[[Search], None] | None = None) -> Search:
    """Best at epoch 2, no better for two epochs at epoch 4."""
    search = made(*words, folder=folder)
    search.early_stopping = EarlyStopping("told", patience=2)
    search.monitors = [Told([3, 1, 2, 2, 0.5], action)]
    return search


def test_a_stopped_search_has_the_architecture_of_its_best_epoch_and_says_why() -> None:
    search = stopping("budget.epochs=9")
    result = search.run()
    assert result.steps == result.planned_steps == 4 * 4
    assert [record["epoch"] for record in result.history] == [1, 2, 3, 4, 4]
    assert result.alphas == result.history[1]["alphas"] != result.history[3]["alphas"]
    assert result.stopped_early == (
        "told has not been better than 1 for 2 epochs (epoch 4); the architecture is that of epoch 2"
    )
    assert result.cell == str(search.derived())
    assert result.supernet_valid == pytest.approx(search.state.evaluate()[1])


def test_the_next_phase_goes_on_from_there_with_its_own_steps(tmp_path: Path) -> None:
    words = ("budget.steps=52", "phases.bilevel.share=10", "phases.best_of_k.share=3")
    result = stopping(*words).run()
    assert result.phase_steps == {"bilevel": 16, "best_of_k": 12}
    stopped = stopping(
        *words, folder=tmp_path, action=lambda search: setattr(search.stop, "made", search.state.step >= 20)
    )
    with pytest.raises(Interrupted):
        stopped.run()
    again = stopping(*words, folder=tmp_path)
    again.resume()
    assert again.run().history == result.history


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("early_stopping=patience", "early_stopping.patience=0"), "early_stopping.patience: got 0"),
        (("early_stopping=patience", "early_stopping.patience=null"), "give at least one rule"),
        (("early_stopping=eigenvalue", "early_stopping.growth=1"), "early_stopping.growth: got 1"),
        (("early_stopping=eigenvalue", "early_stopping.better=high"), "early_stopping.growth: got one for"),
        (("early_stopping=skip_share", "early_stopping.better=up"), "early_stopping.better: got 'up'"),
    ],
)
def test_impossible_rules_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError) as caught:
        made("budget.steps=1", *words)
    assert message in str(caught.value)


def test_a_number_that_nobody_measures_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        UserError, match=r"early_stopping.watch: got 'eigenvalue'; what was recorded is .*valid_accuracy, valid_loss"
    ):
        made("budget.epochs=2", "early_stopping=eigenvalue").run()
