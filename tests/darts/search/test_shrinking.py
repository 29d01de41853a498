"""Phases that take operations away: what they measure, what they keep, and how they resume."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from searching import After, gone_on, made, plain

from darts.run.errors import UserError
from darts.search import shrinking
from darts.search.shrinking import InformationPruning, Projection, Pruning, emptiness, left
from supernet.cell import SearchCell
from supernet.relaxations.base import EdgeWeights
from tests.quickly import slow_but

four_channels = partial(made, "network.channels=4")
PLANTED = (3, 1, 2)  # an operation an edge


def test_an_evaluation_without_an_operation_leaves_the_other_weights_alone() -> None:
    """Against the network under edge weights with a zero, nothing renormalised."""
    search = four_channels("budget.steps=1")
    state = search.state
    state.params["alpha_EO"].data = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    weights_EO = state.params["alpha_EO"].detach().softmax(dim=-1)
    marks = left(state)
    assert marks == [[True] * 5] * 3
    marks[1][3] = False
    weights_EO[1, 3] = 0.0
    batches = list(state.task.evaluation_batches())[:2]
    state.network.eval()
    outputs = [(state.network(x, EdgeWeights.dense(weights_EO)), y) for x, y in batches]
    expected = sum(torch.nn.functional.cross_entropy(out, y, reduction="sum").item() for out, y in outputs) / 16
    loss, value = state.evaluate(2, marks)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert value == pytest.approx(100 * sum(int((out.argmax(1) == y).sum()) for out, y in outputs) / 16)
    assert state.evaluation_images == 16


def test_projection_keeps_the_planted_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracy is the number of planted operations that are open; the moments are spread over the phase."""
    search = four_channels("budget.steps=12", "phases.bilevel.share=0", "phases.projection.share=1")
    state = search.state
    open_after: list[int] = []

    def accuracy(batches: int | None = None, allowed_EO: Any = None) -> tuple[float, float]:
        marks = allowed_EO or left(state)
        return 0.0, float(sum(row[choice] for row, choice in zip(marks, PLANTED, strict=True)))

    monkeypatch.setattr(state, "evaluate", accuracy)
    search.monitors = [After(lambda search: open_after.append(sum(map(sum, left(search.state)))))]
    result = search.run()
    assert state.space.path(state.space.parse(result.cell)) == PLANTED
    assert open_after == [11] * 4 + [7] * 4 + [3] * 4


def test_pruning_drops_the_smallest_weights() -> None:
    search = four_channels("budget.steps=1")
    state = search.state
    phase = Pruning()
    phase.enter(state)
    state.params["alpha_EO"].data = torch.tensor([[5.0, 4, 3, 2, 1], [1, 2, 3, 4, 5], [2, 5, 1, 4, 3]])
    for expected in (
        [[0, 1, 2, 3], [1, 2, 3, 4], [0, 1, 3, 4]], [[0, 1, 2], [2, 3, 4], [1, 3, 4]], [[0, 1], [3, 4], [1, 3]],
        [[0], [4], [1]],
    ):  # fmt: skip
        marks = left(state)
        phase.shrink(state, marks)
        state.allow(marks)
        assert [[place for place, mark in enumerate(row) if mark] for row in marks] == expected
    assert state.space.path(phase.exit(state)) == (0, 4, 1)


def test_emptiness_is_the_mean_of_the_fisher_information_of_the_mean() -> None:
    """As the paper has it, 3 (x - mean)^2 / deviation^6, of every operation on every edge, by a loop over modules."""
    search = four_channels("budget.steps=1")
    state = search.state
    state.params["alpha_EO"].data = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    found = emptiness(state, batches=1)
    inputs, _ = next(iter(state.task.evaluation_batches()))
    weights, expected = state.expected_weights(), torch.zeros(3, 5, dtype=torch.float64)
    value = state.network.train().stem(inputs)
    cells = 0
    for layer in state.network.layers:
        if isinstance(layer, SearchCell):
            cells += 1
            reference, nodes = layer.reference(), [value]
            for edge, (source, target) in enumerate(layer.cell.edges):
                if target == len(nodes):
                    nodes.append(torch.zeros_like(value))
                for place, operation in enumerate(reference.edges[edge].candidates):
                    out = operation(nodes[source]).detach().double()
                    nodes[target] = nodes[target] + weights.weights[edge, place] * out.float()
                    away = out - out.mean(dim=1, keepdim=True)
                    expected[edge, place] += (3 * away**2 / out.std(dim=1, keepdim=True) ** 6).mean()
            value = nodes[-1]
        else:
            value = layer(value)
    none = state.space.candidates.index("none")
    assert found[:, none].isinf().all()
    others = [place for place in range(5) if place != none]
    assert torch.allclose(found[:, others], expected[:, others].detach() / cells, rtol=1e-3)


def test_information_pruning_drops_what_says_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the planted one is measured anew each time, so what is left at the end is what said most."""
    search = four_channels("budget.steps=10", "phases.bilevel.share=0", "phases.information_pruning.share=1")
    state, seen = search.state, []

    def planted(state: Any, batches: int | None) -> torch.Tensor:
        seen.append(sum(map(sum, left(state))))
        values_EO = torch.rand(3, 5, generator=torch.Generator().manual_seed(len(seen))) + 1
        for edge, choice in enumerate(PLANTED):
            values_EO[edge, choice] = 0.5
        return values_EO

    monkeypatch.setattr(shrinking, "emptiness", planted)
    result = search.run()
    assert state.space.path(state.space.parse(result.cell)) == PLANTED
    assert seen == [15, 12, 9, 6]
    assert isinstance(search.schedule.phases["information_pruning"], InformationPruning)


@pytest.mark.parametrize("name", slow_but(["pruning"], ["projection", "pruning", "information_pruning"]))
def test_a_search_stopped_while_it_shrinks_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    words = ("phases.bilevel.share=2", f"phases.{name}.share=10", "budget.steps=12")
    expected = plain(four_channels(*words).run())
    assert gone_on(partial(four_channels, *words), tmp_path, 7) == expected
    assert json.loads(expected)["allowed"] is not None
    assert all(len(names) == 1 for names in json.loads(expected)["allowed"].values())


STAGES = (
    "relaxation=partial_channels", "relaxation.k=4", "network.channels=8", "phases.bilevel.share=4",
    "phases.widening.share=4", "phases.widening.operations=2", "phases.widening.k=2",
    "+phases.second={_target_: darts.search.phases.Bilevel, share: 4}", "budget.steps=12",
)  # fmt: skip


def test_the_second_stage_has_fewer_operations_and_more_channels() -> None:
    search = made(*STAGES)
    state, seen = search.state, []

    def look(search: Any) -> None:
        weights = state.expected_weights()
        assert weights.partial == state.edge_weights("weights")[0].partial
        trained = state.history[-1]["alphas"]["alpha_EO"] if state.history else None
        seen.append((weights.partial, sum(map(sum, weights.active_EO)), trained))

    search.monitors = [After(look)]
    result = search.run()
    assert [one[:2] for one in seen] == [(4, 15)] * 4 + [(2, 6)] * 8
    strongest = torch.tensor(result.history[0]["alphas"]["alpha_EO"]).argsort(dim=-1, descending=True)[:, :2]
    kept = [[place for place, mark in enumerate(row) if mark] for row in left(state)]
    assert kept == [sorted(row) for row in strongest.tolist()]


def test_a_search_stopped_in_its_second_stage_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    assert gone_on(partial(made, *STAGES), tmp_path, 7) == plain(made(*STAGES).run())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["relaxation=partial_channels", "relaxation.k=2", "phases.widening.k=4"], "phases.widening: k: got 4"),
        (["phases.widening.k=2"], "phases.widening: k: got 2"),
        (["phases.widening.operations=0"], "phases.widening.operations: got 0"),
    ],
)
def test_a_second_stage_that_cannot_be_is_refused(words: list[str], told: str) -> None:
    with pytest.raises(UserError) as caught:
        made("network.channels=8", "budget.steps=4", "phases.widening.share=1", *words)
    assert told.replace(": k", ".k") in str(caught.value).replace(": k", ".k")


def test_a_budget_of_two_steps_still_leaves_one_operation_an_edge() -> None:
    result = four_channels("budget.steps=2", "phases.bilevel.share=0", "phases.projection.share=1").run()
    assert all(len(names) == 1 for names in (result.allowed or {}).values())


@pytest.mark.parametrize("name", ["projection", "information_pruning"])
def test_no_batches_are_refused(name: str) -> None:
    with pytest.raises(UserError) as caught:
        four_channels("budget.steps=1", f"phases.{name}.batches=0")
    assert f"phases.{name}.batches: got 0" in str(caught.value)
    assert Projection(batches=3).batches == 3
