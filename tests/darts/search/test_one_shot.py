"""Phases that choose cells by inherited weights: what is judged, on what, who wins, and how they resume."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from searching import gone_on, made, plain

from darts.report.text import search_lines
from darts.run.errors import UserError
from darts.search import one_shot
from darts.search.inherited import inherited
from darts.search.one_shot import BestOfK, Evolution
from darts.search.result import SearchResult
from supernet.relaxations.base import EdgeWeights


@pytest.mark.parametrize("batches", [1, 3, None])
@pytest.mark.parametrize("batch_norm", ["batch", "running"])
def test_a_cell_is_judged_by_its_path_on_the_first_batches(batches: int | None, batch_norm: str) -> None:
    search = made("budget.steps=1", f"network.batch_norm={batch_norm}")
    state = search.state
    genotype = state.space.parse("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|")
    path = EdgeWeights.one_hot(list(state.space.path(genotype)), 5)
    before = {name: value.clone() for name, value in state.network.state_dict().items()}
    found = inherited(state.compute, state.space, state.task, genotype, batches)
    right = items = 0
    state.network.train()
    for inputs, targets in itertools.islice(state.task.evaluation_batches(), batches):
        right += int((state.network(inputs, path).argmax(dim=1) == targets).sum())
        items += len(targets)
    assert found == pytest.approx(100 * right / items)
    state.network.load_state_dict(before)
    inherited(state.compute, state.space, state.task, genotype, batches)
    after = state.network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if not name.endswith("num_batches_tracked"))


def test_best_of_k_draws_by_the_weights_and_keeps_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws against softmax(alpha), edge by edge, by chi-square; a value that grows with the first edge's operation."""
    search = made("budget.steps=40", "phases.bilevel.share=0", "phases.best_of_k.share=1")
    state, space = search.state, search.state.space
    state.params["alpha_EO"].data = torch.tensor([[0.0, 1, 0, -1, 0], [2, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    phase, rng = BestOfK(), random.Random(0)
    drawn = [space.path(phase.propose(state, rng)) for _ in range(2000)]
    for edge, weights_O in enumerate(state.params["alpha_EO"].detach().softmax(dim=-1).double()):
        counts = Counter(path[edge] for path in drawn)
        observed = [counts[choice] for choice in range(5)]
        assert stats.chisquare(observed, (weights_O / weights_O.sum() * 2000).numpy()).pvalue > 1e-3
    monkeypatch.setattr(one_shot, "inherited", lambda _, space, __, genotype, ___: space.path(genotype)[0])
    result = search.run()
    assert space.path(space.parse(result.cell))[0] == 4
    assert result.images == 0
    assert result.evaluation_images == 40 * 32 + 32, "every cell on all 32 images, and the supernet at the end"


def test_evolution_breeds_the_best_and_finds_a_planted_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    search = made("budget.steps=1")
    state, space = search.state, search.state.space
    goal = space.path(space.parse("|nor_conv_1x1~0|+|none~0|avg_pool_3x3~1|"))

    def distance(genotype: Any) -> int:
        return sum(a != b for a, b in zip(space.path(genotype), goal, strict=True))

    monkeypatch.setattr(one_shot, "inherited", lambda _, __, ___, genotype, ____: -float(distance(genotype)))
    phase = Evolution(population=8, parents=3)
    phase.enter(state)
    for _ in range(8):
        phase.step(state, search.steps)
    first = dict(phase.worth)
    best = [space.path(space.parse(cell)) for cell in sorted(first, key=lambda cell: -first[cell])[:3]]
    for _ in range(8):
        phase.step(state, search.steps)
    children = [space.path(space.parse(cell)) for cell in list(phase.worth)[8:]]
    bred = [all(any(parent[edge] == choice for parent in best) for edge, choice in enumerate(c)) for c in children]
    mutated = [any(sum(a != b for a, b in zip(c, parent, strict=True)) == 1 for parent in best) for c in children]
    assert any(bred[:4])
    assert all(one or other for one, other in zip(bred[:4], mutated[:4], strict=True))
    assert all(mutated[4:])
    assert len(phase.worth) == 16, "none twice"
    for _ in range(24):
        phase.step(state, search.steps)
    found = phase.exit(state)
    assert space.path(found) == goal, "40 of 125 cells"


@pytest.mark.parametrize("name", ["best_of_k", "evolution"])
def test_a_search_stopped_among_the_candidates_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    words = (
        "relaxation=single_path", "phases.warm_up.share=4", "phases.bilevel.share=0", f"phases.{name}.share=12",
        "phases.evolution.population=4", "phases.evolution.parents=2", "budget.steps=16",
    )  # fmt: skip
    assert gone_on(partial(made, *words), tmp_path, 11) == plain(made(*words).run())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("relaxation=single_path",), "phases: nothing would choose a cell, SinglePath trains weights alone; give"),
        (("relaxation=fair_paths",), "phases: nothing would choose a cell, FairPaths trains weights alone"),
        (("phases.bilevel.share=0", "phases.warm_up.share=1"), "no phase trains the architecture; give phases.evol"),
        (("phases.evolution.share=1", "phases.evolution.parents=1"), "phases.evolution.parents: got 1 of a population"),
        (("phases.best_of_k.share=1", "phases.best_of_k.batches=0"), "phases.best_of_k.batches: got 0"),
    ],
)
def test_a_cell_that_nothing_would_choose_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError) as caught:
        made("budget.steps=1", *words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_cells_judged_stand_in_the_result_best_first(tmp_path: Path) -> None:
    search = made("budget.steps=20", "phases.bilevel.share=0", "phases.best_of_k.share=1")
    result = search.run()
    state, standing = search.state, result.standing
    assert standing is not None
    assert (standing["unit"], standing["higher_is_better"]) == ("%", True)
    assert standing["cells"][0]["cell"] == result.cell
    values = [one["value"] for one in standing["cells"]]
    assert values == sorted(values, reverse=True)
    for one in standing["cells"]:
        genotype = state.space.parse(one["cell"])
        assert one["value"] == inherited(state.compute, state.space, state.task, genotype, 16)
        assert (one["deviation"], one["times"]) == (None, 1)
    result.write(tmp_path / "result.json")
    assert SearchResult.read(tmp_path / "result.json") == result
    lines = dict(search_lines(result, tmp_path))
    assert lines["judged"] == f"{standing['judged']} cells, by accuracy with shared weights"
    assert "standing.png" in lines["  pictures"]
