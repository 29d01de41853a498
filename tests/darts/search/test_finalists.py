"""Short trainings of a cell and its neighbours: what is trained, on what, who wins, and how it resumes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from darts.command.config import compose_config
from darts.run.errors import UserError
from darts.run.seeding import make_generator
from darts.search.build import build_search
from darts.search.finalists import Finalists
from darts.search.loop import Interrupted, Search
from darts.search.monitors.base import Monitor
from darts.search.result import SearchResult
from darts.training.fit import Recipe, initialised

# two nodes, one edge: a cell has four neighbours, a round trains five
WORDS = (
    "dataset=fake", "dataset.images=64", "dataset.image_size=4", "data.batch_size=8", "network.channels=2",
    "network.cells=1", "monitor=[]", "oracle=none", "space.num_nodes=2", "phases.bilevel.share=2",
    "phases.finalists.channels=2", "phases.finalists.cells=1", "phases.finalists.rungs=[2,6]",
    "phases.finalists.keep=2",
)  # fmt: skip
ROUND = 3 * 2 + 1 * 4  # steps: three groups of two, then the best two go on


def settings(*words: str) -> dict[str, Any]:
    return compose_config("search", [*WORDS, *words])


def made(words: tuple[str, ...], folder: Path | None = None) -> Search:
    torch.manual_seed(3)
    if folder is not None:
        (folder / "checkpoints").mkdir(exist_ok=True)
    return build_search(settings(*words), folder)


def plain(result: SearchResult) -> str:
    return json.dumps({key: value for key, value in asdict(result).items() if key not in ("seconds", "timing")})


class After(Monitor):
    def __init__(self, action: Callable[[Search], None]) -> None:
        self.action = action

    def on_step(self, search: Search, numbers: dict[str, float]) -> None:  # type: ignore[override]
        self.action(search)


def phase_of(search: Search) -> Finalists:
    phase = search.schedule.phases["finalists"]
    assert isinstance(phase, Finalists)
    return phase


def entered(*words: str) -> tuple[Search, Finalists]:
    search = made(("phases.bilevel.share=0", "phases.finalists.share=1", "budget.steps=1000", *words))
    search.state.planned_steps, search.state.phase = 1000, "finalists"
    phase = phase_of(search)
    phase.enter(search.state)
    return search, phase


def test_a_round_trains_the_cell_and_its_neighbours_as_one_would_by_hand() -> None:
    """Losses of every cell against a plain loop over the same batches; the winner has the lowest at the end."""
    search, phase = entered("phases.finalists.lr=0.05")
    state, space = search.state, search.state.space
    batches = copy.deepcopy(state.task.train)
    first = phase.incumbent
    assert first == str(space.relaxed(state.params["alpha_EO"].argmax(-1).tolist()))
    kept: dict[str, list[float]] = {}
    for _ in range(ROUND):
        before = {cell: len(values) for cell, values in phase.losses.items()}
        phase.step(state, search.steps)
        kept |= {cell: list(values) for cell, values in phase.losses.items() if len(values) != before.get(cell)}
    drawn = [batches.next() for _ in range(6)]
    cells = [str(cell) for cell in [space.parse(first), *space.neighbours(space.parse(first))]]
    assert sorted(kept) == sorted(cells)
    recipe = Recipe(1, 0.05)
    for cell, found in kept.items():
        network = space.network(space.parse(cell), state.task.network_size(2, 1), "batch")
        initialised(network, make_generator(state.seed, "finalists of round 1"))
        optimizer, expected = recipe.optimizer(network), []
        for place, (inputs, targets) in enumerate(drawn[: len(found)]):
            optimizer.param_groups[0]["lr"] = recipe.learning_rate(place / 6)
            loss = nn.functional.cross_entropy(network(inputs), targets)
            expected.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert found == pytest.approx(expected, rel=1e-4)
    ranked = sorted(cells, key=lambda cell: kept[cell][1])
    assert {cell for cell, losses in kept.items() if len(losses) == 6} == set(ranked[:2])
    assert state.found == phase.incumbent == min(ranked[:2], key=lambda cell: sum(kept[cell][-2:]))
    assert state.images == 8 * (5 * 2 + 2 * 4)


def test_the_next_round_draws_other_batches_and_other_weights() -> None:
    search, phase = entered()
    firsts = []
    for _ in range(2):
        phase.step(search.state, search.steps)
        assert phase.incumbent is not None
        firsts.append((phase.mark["order"].clone(), phase.mark["position"], phase.trained[phase.incumbent][0]))
        for _ in range(ROUND - 1):
            phase.step(search.state, search.steps)
    assert phase.round == 2
    assert (firsts[0][1], firsts[1][1]) == (0, 6 * 8 - 32) or not torch.equal(firsts[0][0], firsts[1][0])
    for one, other in zip(firsts[0][2].parameters(), firsts[1][2].parameters(), strict=False):
        if one.shape == other.shape and one.dim() > 1:
            assert not torch.equal(one, other)


def test_a_planted_best_operation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses depend on the cell alone: fewer differences from the planted one, less; each round goes one step."""
    search, phase = entered("space.num_nodes=3", "phases.finalists.together=1")
    space = search.state.space
    goal = space.parse("|nor_conv_1x1~0|+|none~0|avg_pool_3x3~1|")

    def distance(state: Any, batch: Any, rate: float, network: Any, optimizer: Any) -> float:
        return 1.0 + sum(a != b for a, b in zip(network.genotype.operations, goal.operations, strict=True))

    monkeypatch.setattr(Finalists, "_train", staticmethod(distance))
    search.state.params["alpha_EO"].data[:, space.candidates.index("skip_connect")] = 1.0
    phase.enter(search.state)
    differing = []
    for _ in range(3):
        for _ in range(13 * 2 + 2 * 4):
            phase.step(search.state, search.steps)
        found = space.parse(phase.incumbent)
        differing.append(sum(a != b for a, b in zip(found.operations, goal.operations, strict=True)))
    assert differing == [2, 1, 0]
    assert phase.exit(search.state) == goal


def test_an_unfinished_round_gives_the_best_of_its_last_rung_or_else_the_cell_before() -> None:
    search, phase = entered()
    first = phase.incumbent
    for _ in range(5):
        phase.step(search.state, search.steps)
    copied = copy.deepcopy(phase.state_dict())
    assert str(phase.exit(search.state)) == first
    phase.load_state_dict(copied)
    phase.step(search.state, search.steps)
    best = min(phase.losses, key=lambda cell: phase.losses[cell][-1])
    copied = copy.deepcopy(phase.state_dict())
    assert str(phase.exit(search.state)) == best
    phase.load_state_dict(copied)
    for _ in range(ROUND):
        phase.step(search.state, search.steps)
    assert (phase.round, phase.rung) == (2, 1)
    winner = phase.incumbent
    phase.alive.sort(key=lambda cell: cell == winner)  # another one is ahead in the unfinished round
    assert str(phase.exit(search.state)) == winner


@pytest.mark.parametrize("stop", [9, 13, 17, 20, 24])
def test_a_search_stopped_within_a_round_goes_on_to_the_same_bits(stop: int, tmp_path: Path) -> None:
    """8 bilevel steps, then a round and a half: stopped within a group, between groups and between rungs."""
    words = ("phases.bilevel.share=8", "phases.finalists.share=16", "budget.steps=24")
    expected = plain(made(words).run())
    stopped = made(words, tmp_path)
    stopped.monitors = [After(lambda search: setattr(search.stop, "made", search.state.step >= stop))]
    if stop < 24:
        with pytest.raises(Interrupted):
            stopped.run()
        stopped = made(words, tmp_path)
        stopped.resume()
        assert stopped.state.step == stop
    result = stopped.run()
    assert plain(result) == expected
    assert result.cell == result.history[-1]["cell"]


def test_the_supernet_rests_and_is_not_evaluated_again() -> None:
    words = ("phases.bilevel.share=4", "phases.finalists.share=20", "budget.steps=24")
    search = made(words)
    ends: list[dict[str, Tensor]] = []

    def note(search: Search) -> None:
        if search.state.step in (4, 24):
            ends.append({name: value.clone() for name, value in search.state.network.state_dict().items()})

    search.monitors = [After(note)]
    result = search.run()
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert result.evaluation_images == 32
    assert len({(record["valid_loss"], record["train_loss"]) for record in result.history}) == 1
    assert len(result.history) == 6
    assert result.images == 4 * 2 * 8 + 8 * (2 * (5 * 2 + 2 * 4))


def test_diverged_trainings_lose() -> None:
    search, phase = entered("phases.finalists.lr=1e30")
    for _ in range(ROUND):
        numbers = phase.step(search.state, search.steps)
        assert all(value < float("inf") for value in numbers.values())
    assert phase.incumbent is not None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("phases.finalists.rungs=[]", "phases.finalists.rungs: got []"),
        ("phases.finalists.rungs=[9,3]", "phases.finalists.rungs: got [9, 3]"),
        ("phases.finalists.keep=0", "phases.finalists.keep: got 0"),
        ("phases.finalists.together=0", "phases.finalists.together: got 0"),
    ],
)
def test_impossible_options_are_refused(words: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        build_search(settings("phases.finalists.share=1", words), None)
    assert message in str(caught.value)
