"""Short trainings of a cell and its neighbours: what is trained, on what, who wins, and how it resumes."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from searching import After, plain
from torch import Tensor, nn

from darts.command.config import compose_config
from darts.run.errors import UserError
from darts.run.seeding import make_generator
from darts.run.signals import Interrupted
from darts.search.build import build_search
from darts.search.finalists import Finalists
from darts.search.loop import Search
from darts.search.paths import living
from darts.training.fit import initialised
from darts.training.short import ShortTraining
from supernet.spaces.cells import CellSpace
from tests.quickly import slow_but

# two nodes, one edge: a cell has four neighbours, a round trains five
WORDS = (
    "dataset=fake", "dataset.images=64", "dataset.image_size=4", "data.batch_size=8", "network.channels=2",
    "network.cells=1", "method=plain", "monitor=[]", "oracle=none", "space.num_nodes=2", "phases.bilevel.share=2",
    "phases.finalists.channels=2", "phases.finalists.cells=1", "phases.finalists.rungs=[2,6]",
    "phases.finalists.eta=3",
)  # fmt: skip


def settings(*words: str) -> dict[str, Any]:
    return compose_config("search", [*WORDS, *words])


def made(words: tuple[str, ...], folder: Path | None = None) -> Search:
    torch.manual_seed(3)
    if folder is not None:
        (folder / "checkpoints").mkdir(exist_ok=True)
    return build_search(settings(*words), folder)


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


def play_round(search: Search, phase: Finalists) -> int:
    """To the end of the round under way or, between two, of the next one; returns its steps."""
    steps = 0
    while not steps or phase.alive:
        phase.step(search.state, search.steps)
        steps += 1
    return steps


def test_a_round_trains_the_cell_and_its_neighbours_as_one_would_by_hand() -> None:
    """Losses of every cell against a plain loop over the same batches; the winner has the lowest at the end."""
    search, phase = entered(*(f"phases.finalists.{word}" for word in ("lr=0.05", "weight_decay=0.1", "warm_up=3")))
    state, space = search.state, search.state.space
    batches = copy.deepcopy(state.task.train)
    first = phase.incumbent
    assert first == str(space.relaxed(state.params["alpha_EO"].argmax(-1).tolist()))
    kept: dict[str, list[float]] = {}
    while not kept or phase.alive:
        before = {cell: len(values) for cell, values in phase.losses.items()}
        phase.step(state, search.steps)
        kept |= {cell: list(values) for cell, values in phase.losses.items() if len(values) != before.get(cell)}
    drawn = [batches.next() for _ in range(6)]
    cells = [str(cell) for cell in [space.parse(first), *space.neighbours(space.parse(first))]]
    assert sorted(kept) == sorted(cells)
    for cell, found in kept.items():
        network = space.network(space.parse(cell), state.task.network_size(2, 1), "batch")
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                initialised(module, make_generator(state.seed, f"finalists of round 1: {name}"))
        optimizer, expected = torch.optim.AdamW(network.parameters(), weight_decay=0.1), []
        for place, (inputs, targets) in enumerate(drawn[: len(found)]):
            rising = [1 / 4, 2 / 4, 3 / 4, 1, 1, 1][place]
            optimizer.param_groups[0]["lr"] = rising * 0.05 * (1 + math.cos(math.pi * place / 6)) / 2
            loss = nn.functional.cross_entropy(network(inputs), targets)
            expected.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert found == pytest.approx(expected, rel=1e-4)
    going_on = sorted(cells, key=lambda cell: sum(kept[cell][:2]))[:2]
    assert {cell for cell, losses in kept.items() if len(losses) == 6} == set(going_on)
    observed = {cell: (1, pytest.approx(sum(kept[cell][-3:]) / 3)) for cell in going_on}
    observed |= {cell: (0, pytest.approx(sum(kept[cell]) / 2)) for cell in cells if cell not in going_on}
    assert phase.rounds == [observed]
    assert state.found == phase.incumbent
    assert state.images == 8 * (5 * 2 + 2 * 4)


def test_the_next_round_draws_other_batches_and_other_weights() -> None:
    search, phase = entered()
    firsts = []
    for _ in range(2):
        phase.step(search.state, search.steps)
        network = phase.trainings.workers[0].made.network
        firsts.append((phase.mark["order"].clone(), phase.mark["position"], network))
        play_round(search, phase)
    assert len(phase.rounds) == 2
    assert (firsts[0][1], firsts[1][1]) == (0, 6 * 8 - 32) or not torch.equal(firsts[0][0], firsts[1][0])
    for one, other in zip(firsts[0][2].parameters(), firsts[1][2].parameters(), strict=False):
        if one.shape == other.shape and one.dim() > 1:
            assert not torch.equal(one, other)


def test_a_planted_best_cell_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses depend on the cell alone: fewer differences from the planted one, less. The first round goes one edge, the
    others two."""
    words = ("together=1", "candidates=6", "rungs=[2]", "trust=0")
    search, phase = entered("space.num_nodes=3", *(f"phases.finalists.{word}" for word in words))
    space = search.state.space
    goal = space.parse("|nor_conv_1x1~0|+|none~0|avg_pool_3x3~1|")

    def distance(self: Any, batch: Any, rate: float) -> float:
        return 1.0 + 0.02 * sum(a != b for a, b in zip(self.network.genotype.operations, goal.operations, strict=True))

    monkeypatch.setattr(ShortTraining, "step", distance)
    search.state.params["alpha_EO"].data[:, space.candidates.index("skip_connect")] = 1.0
    phase.enter(search.state)
    differing = []
    for _ in range(4):
        play_round(search, phase)
        found = space.parse(phase.incumbent)
        differing.append(sum(a != b for a, b in zip(found.operations, goal.operations, strict=True)))
    assert differing[0] == 2
    assert differing[-1] == 0
    assert {len(observed) for observed in phase.rounds[1:]} == {6}
    assert phase.exit(search.state) == goal


@pytest.mark.parametrize("trust", [0.0, 1.0])
def test_edge_weights_are_trusted_as_much_as_one_says(trust: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings that tell cells apart by little, against the weights that the phase begins with."""
    search, phase = entered(f"phases.finalists.trust={trust}", "phases.finalists.rungs=[2]")
    state = search.state
    state.params["alpha_EO"].data.copy_(torch.tensor([[0.0, 0.3, 0.5, 0.2, 0.1]]))
    phase.enter(state)
    favourite = phase.incumbent
    assert favourite == "|nor_conv_1x1~0|"
    losses = {"|nor_conv_3x3~0|": 1.0, "|nor_conv_1x1~0|": 1.01}

    def known(self: Any, batch: Any, rate: float) -> float:
        return losses.get(str(self.network.genotype), 1.02)

    monkeypatch.setattr(ShortTraining, "step", known)
    play_round(search, phase)
    assert phase.incumbent == (favourite if trust else "|nor_conv_3x3~0|")
    copied = copy.deepcopy(phase.state_dict())
    state.params["alpha_EO"].data.zero_()
    phase.load_state_dict(copied)
    assert phase.exit(state) == state.space.parse(favourite if trust else "|nor_conv_3x3~0|"), "those of the beginning"


def test_of_cells_that_compute_the_same_one_is_trained() -> None:
    """With nothing on 2<-1 it does not matter what stands on 1<-0, and the other way round: of twelve neighbours four
    are other functions."""
    search, phase = entered("space.num_nodes=3")
    phase.incumbent = "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|"
    phase.step(search.state, search.steps)
    names = ("nor_conv_1x1", "none", "skip_connect", "nor_conv_3x3", "avg_pool_3x3")
    assert phase.alive == [f"|none~0|+|{name}~0|none~1|" for name in names]


def test_paths_without_edges_that_lead_nowhere() -> None:
    space = CellSpace()
    none, conv = space.candidates.index("none"), space.candidates.index("nor_conv_3x3")
    assert living(space, [conv] * 6) == (conv,) * 6
    dead_end = [conv, conv, conv, conv, conv, none]  # nothing leaves node 2
    assert living(space, dead_end) == (conv, none, none, conv, conv, none)
    no_entry = [none, conv, conv, conv, conv, conv]  # nothing reaches node 1
    assert living(space, no_entry) == (none, conv, none, conv, none, conv)
    assert living(space, [none] * 6) == (none,) * 6


def test_what_two_cells_have_in_common_begins_alike() -> None:
    search, phase = entered("space.num_nodes=3")
    one, other = "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|", "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|"
    phase.rounds.append({})
    training, found = phase.trainings.open(search.state).make(), []
    for cell in (one, other):
        training.begin(cell, 0, "finalists of round 1")
        found.append(dict(training.network.named_parameters()))
    ours, theirs = found
    common = [name for name in ours if name in theirs and ours[name].dim() > 1]
    assert len(common) >= 10
    assert all(torch.equal(ours[name], theirs[name]) for name in common)
    assert not torch.equal(ours[common[1]], ours[common[2]][: len(ours[common[1]])])


def test_a_run_of_seconds_uses_them_up_and_repeats_by_the_steps_of_its_phases() -> None:
    words = ("phases.bilevel.share=1", "phases.finalists.share=3")
    result = made((*words, "budget.seconds=2")).run()
    assert result.stopped_by == "steps"
    assert result.planned_steps == result.steps == sum(result.phase_steps.values())
    assert result.seconds["total"] >= 2
    shares = tuple(f"phases.{name}.share={steps}" for name, steps in result.phase_steps.items())
    assert plain(made((*shares, f"budget.steps={result.steps}")).run()) == plain(result)


def test_later_rounds_draw_from_what_is_believed() -> None:
    """The first of a round is the best of the first draw of the model, the second of the next draw with another, and so
    on; only what is near the incumbent or was trained is drawn."""
    search, phase = entered("space.num_nodes=3", "phases.finalists.candidates=5", "phases.finalists.rungs=[2]")
    space = search.state.space
    play_round(search, phase)
    now = space.path(space.parse(phase.incumbent))
    phase.step(search.state, search.steps)
    assert len(phase.alive) == 5
    assert len({space.canonical_form(space.parse(cell)) for cell in phase.alive}) == 5
    near = {
        living(space, path)
        for path in itertools.product(range(5), repeat=3)
        if sum(a != b for a, b in zip(path, now, strict=True)) <= 2
    }
    trained = {living(space, space.path(space.parse(cell))) for cell in phase.rounds[0]}
    drawn = [living(space, space.path(space.parse(cell))) for cell in phase.alive]
    assert set(drawn) <= near | trained
    mean = dict(zip(drawn, phase._model(search.state, drawn).mean_A.tolist(), strict=True))
    others = phase._model(search.state, sorted(near)).mean_A
    assert sum(mean.values()) / 5 < float(others.mean()), "what is drawn promises more than what lies around"


def test_an_unfinished_round_counts_with_its_last_rung() -> None:
    """Before any group has ended a rung it is the cell that was the most probable; then the best of those that have."""
    search, phase = entered()
    first, seen = phase.incumbent, []
    for step in range(1, 7):
        phase.step(search.state, search.steps)
        copied = copy.deepcopy(phase.state_dict())
        ended = {cell: losses[-1] for cell, losses in phase.losses.items() if len(losses) == 2}
        assert str(phase.exit(search.state)) == min(ended, key=ended.__getitem__, default=first)
        phase.load_state_dict(copied)
        seen.append((step, len(ended)))
    assert seen == [(1, 0), (2, 2), (3, 2), (4, 4), (5, 4), (6, 5)]
    best = min(phase.losses, key=lambda cell: phase.losses[cell][-1])
    assert [set(observed) for observed in phase.rounds] == [set(phase.losses)]
    assert str(phase.exit(search.state)) == best


@pytest.mark.parametrize("stop", slow_but([13, 20], [9, 13, 17, 20, 24]))
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
    assert result.phase_steps == {"bilevel": 4, "finalists": 20}
    assert 4 * 2 * 8 + 20 * 8 < result.images <= 4 * 2 * 8 + 20 * 2 * 8


def test_diverged_trainings_lose() -> None:
    search, phase = entered("phases.finalists.lr=1e30")
    while not phase.rounds or phase.alive:
        numbers = phase.step(search.state, search.steps)
        assert all(value < float("inf") for value in numbers.values())
    assert phase.incumbent is not None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("phases.finalists.rungs=[]", "phases.finalists.rungs: got []"),
        ("phases.finalists.rungs=[9,3]", "phases.finalists.rungs: got [9, 3]"),
        ("phases.finalists.candidates=1", "phases.finalists.candidates: got 1"),
        ("phases.finalists.trust=-1", "phases.finalists.trust: got -1"),
        ("phases.finalists.eta=1", "phases.finalists.eta: got 1"),
        ("phases.finalists.lr=0", "phases.finalists.lr, weight_decay: got 0"),
        ("phases.finalists.warm_up=-1", "phases.finalists.warm_up: got -1"),
        ("phases.finalists.together=0", "phases.finalists.together: got 0"),
    ],
)
def test_impossible_options_are_refused(words: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        build_search(settings("phases.finalists.share=1", words), None)
    assert message in str(caught.value)


def test_the_candidates_stand_as_the_model_sees_them() -> None:
    """Deviations of differences against those of many draws from the model; counts against the rounds."""
    search, phase = entered("space.num_nodes=3", "phases.finalists.candidates=4")
    for _ in range(3):
        play_round(search, phase)
    rounds, state = copy.deepcopy(phase.rounds), search.state
    cells = list(dict.fromkeys(cell for observed in rounds for cell in observed))
    model = phase._model(state, [living(state.space, state.space.path(state.space.parse(cell))) for cell in cells])
    found = str(phase.exit(state))
    standing = state.standing
    assert standing is not None
    assert (standing["judged"], standing["times"]) == (len(cells), sum(map(len, rounds)))
    first, *others = standing["cells"]
    assert standing["undecided"] == sum(one["value"] < 2 * one["deviation"] for one in others) > 0
    assert len(others) + 1 == standing["judged"], "few enough to be all here"
    assert first | {"times": 0} == {"cell": found, "value": 0.0, "deviation": 0.0, "times": 0}
    values = [one["value"] for one in standing["cells"]]
    assert values == sorted(values)
    draws_DA = model.draws(100_000, torch.Generator().manual_seed(0))
    worse_DA = draws_DA - draws_DA[:, [cells.index(found)]]
    for one in others:
        assert one["times"] == sum(one["cell"] in observed for observed in rounds)
        drawn_D = worse_DA[:, cells.index(one["cell"])]
        assert one["value"] == pytest.approx(drawn_D.mean().item(), abs=0.02 * drawn_D.std().item())
        assert one["deviation"] == pytest.approx(drawn_D.std().item(), rel=0.02)
