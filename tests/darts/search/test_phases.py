from __future__ import annotations

import copy
import functools
import math
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from searching import plain
from torch import nn

from darts.command.config import compose_config
from darts.run.checkpoint import checkpoint_path
from darts.run.signals import Interrupted
from darts.search.arch_steps.first_order import FirstOrder
from darts.search.arch_steps.unrolled import Unrolled
from darts.search.budget import Budget
from darts.search.build import build_search
from darts.search.discretizers.argmax import Argmax
from darts.search.finalists import Finalists
from darts.search.loop import Search
from darts.search.monitors.base import Monitor
from darts.search.phases import Bilevel, Phase, Schedule, Steps, WarmUp
from darts.search.result import SearchResult
from darts.search.state import SearchState
from darts.search.weight_steps.sgd import SGDStep
from supernet.genotype import Genotype
from supernet.relaxations.base import EdgeWeights, Parameters, Relaxation
from supernet.relaxations.single_path import SinglePath
from supernet.relaxations.softmax import Softmax


def lengths(shares: dict[str, float], planned: int) -> list[tuple[str, int]]:
    schedule = Schedule({name: Bilevel(share) for name, share in shares.items()})
    names = [schedule.at(step, schedule.ends(planned)) for step in range(planned)]
    return [(name, len(list(group))) for name, group in groupby(names)]


@pytest.mark.parametrize(
    ("shares", "planned", "expected"),
    [
        ({"a": 1}, 5, [("a", 5)]),
        ({"a": 1, "b": 3}, 20, [("a", 5), ("b", 15)]),
        ({"b": 3, "a": 1}, 20, [("b", 15), ("a", 5)]),
        ({"a": 0, "b": 1}, 4, [("b", 4)]),
        ({"a": 1, "b": 0, "c": 1}, 4, [("a", 2), ("c", 2)]),
        ({"a": 0.25, "b": 0.25, "c": 0.5}, 400, [("a", 100), ("b", 100), ("c", 200)]),
        ({"a": 15, "b": 35}, 50, [("a", 15), ("b", 35)]),
        ({"a": 1000, "b": 1}, 3, [("a", 3)]),
    ],
)
def test_phases_follow_each_other_by_share(shares: dict[str, float], planned: int, expected: list[Any]) -> None:
    assert lengths(shares, planned) == expected


@pytest.mark.parametrize("planned", [1, 2, 7, 97, 1000])
def test_every_step_has_a_phase_within_one_step_of_its_share(planned: int) -> None:
    shares = {"a": 0.1, "b": 0.2, "c": 0.7, "d": 0.3}
    found = lengths(shares, planned)
    assert sum(count for _, count in found) == planned
    assert [name for name, _ in found] == [name for name in shares if name in dict(found)]
    assert all(abs(dict(found).get(name, 0) - planned * share / 1.3) <= 1 for name, share in shares.items())


def test_shares_of_time() -> None:
    """Of 100 s, 75 at half a second a step, of which a tenth is kept, and 25 at two seconds, of which nothing is."""
    schedule = Schedule({"a": Bilevel(3), "never": Bilevel(0), "b": Finalists(1)})
    ends = schedule.ends_in(100, {"a": 0.5, "b": 2.0}, reserve=0.1)
    assert ends == {"a": 135, "b": 135 + 12}
    assert schedule.ends_in(0.01, {"a": 0.5, "b": 2.0}, reserve=0.1) == {"a": 1, "b": 2}, "at least one step each"
    assert schedule.moving_steps(ends) == 135
    assert Schedule({"b": Finalists(1)}).moving_steps({"b": 9}) == 9


def test_passes_and_their_mean_over_the_schedule() -> None:
    """A weight step passes a batch once; an architecture step once, or four times if it is unrolled."""
    first, second = Steps(SGDStep(), FirstOrder()), Steps(SGDStep(), Unrolled())

    def passes(relaxation: Relaxation) -> list[int]:
        return [phase.passes(steps, relaxation) for steps in (first, second) for phase in (WarmUp(), Bilevel())]

    class Several(Softmax):
        def paths(self, half: str) -> int:
            return {"weights": 2, "architecture": 3}[half]

    assert passes(Softmax()) == [1, 2, 1, 5]
    assert passes(Several()) == [2, 2 + 3, 2, 2 + 4 * 3]
    schedule = Schedule({"warm_up": WarmUp(1), "bilevel": Bilevel(3), "never": WarmUp(0)})
    assert schedule.total({"warm_up": 1, "bilevel": 5}, 100) == pytest.approx(400.0)


def test_half_steps_run_in_the_order_that_was_asked_for() -> None:
    """Both get the same two batches; each phase draws only what it needs."""
    calls: list[tuple[Any, ...]] = []

    class Stream:
        def __init__(self, name: str) -> None:
            self.name, self.drawn = name, 0

        def next(self) -> str:
            self.drawn += 1
            return f"{self.name}{self.drawn}"

    class Half:
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, state: Any, train: Any, valid: Any) -> dict[str, float]:
            calls.append((self.name, train, valid))
            return {f"{self.name}_loss": 1.0}

    class State:
        class task:  # noqa: N801
            train, valid = Stream("train"), Stream("valid")

    def run(phase: Phase, order: str) -> dict[str, float]:
        calls.clear()
        return phase.step(State(), Steps(Half("weights"), Half("architecture"), order))  # type: ignore[arg-type]

    assert run(Bilevel(), "architecture_first").keys() == {"weights_loss", "architecture_loss"}
    assert calls == [("architecture", "train1", "valid1"), ("weights", "train1", "valid1")]
    run(Bilevel(), "weights_first")
    assert calls == [("weights", "train2", "valid2"), ("architecture", "train2", "valid2")]
    run(WarmUp(), "architecture_first")
    assert calls == [("weights", "train3", None)]
    assert State.task.valid.drawn == 2, "a warm-up draws no validation batch"


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^share: got -1"):
        WarmUp(-1)
    with pytest.raises(ValueError, match="share: all phases have 0"):
        Schedule({"a": WarmUp(0), "b": Bilevel(0)})
    with pytest.raises(ValueError, match=r"^order: got 'sideways'; allowed are architecture_first, weights_first"):
        Steps(SGDStep(), FirstOrder(), "sideways")


# --- phases in a search: 4 steps of 8 images an epoch ---

WORDS = (
    "dataset=fake", "dataset.images=64", "dataset.image_size=4", "data.batch_size=8", "network.channels=2",
    "method=plain", "monitor=[]", "oracle=none", "space.num_nodes=3", "budget.steps=10",
)  # fmt: skip


@functools.cache
def composed(words: tuple[str, ...]) -> dict[str, Any]:
    return compose_config("search", [*WORDS, *words])


def made(phases: Mapping[str, Phase], *words: str, folder: Path | None = None, budget: Budget | None = None) -> Search:
    """A search of ten steps, or of a budget, with phases of one's own."""
    if folder is not None:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    built = build_search(copy.deepcopy(composed(words)), None)
    return Search(built.state, built.steps, phases, Argmax(), budget or Budget(steps=10), run_dir=folder)


class StopAt(Monitor):
    """Asks a search to stop after a step, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, search: Search, numbers: dict[str, float]) -> None:
        search.stop.made |= search.state.step == self.step


class Noted(Bilevel):
    """Writes down what it is called for, with the number of steps that are done; remembers its own steps."""

    def __init__(self, name: str, share: float, told: list[Any]) -> None:
        super().__init__(share)
        self.name, self.told, self.steps = name, told, 0

    def enter(self, state: SearchState) -> None:
        self.told.append((self.name, "enter", state.step))
        self.steps = 0

    def step(self, state: SearchState, steps: Steps) -> dict[str, float]:
        self.told.append((self.name, state.phase_progress, state.step))
        self.steps += 1
        assert state.phase == self.name
        return super().step(state, steps) | {"own": float(self.steps)}

    def exit(self, state: SearchState) -> Genotype | None:
        self.told.append((self.name, "exit", state.step))
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]


WHOLE = [
    ("a", "enter", 0), *(("a", step / 4, step) for step in range(4)), ("a", "exit", 4),
    ("b", "enter", 4), *(("b", (step - 4) / 6, step) for step in range(4, 10)), ("b", "exit", 10),
]  # fmt: skip


def noted(told: list[Any]) -> dict[str, Phase]:
    return {"a": Noted("a", 2, told), "never": Noted("never", 0, told), "b": Noted("b", 3, told)}


def test_phases_are_entered_stepped_and_left_in_turn() -> None:
    told: list[Any] = []
    made(noted(told)).run()
    assert told == WHOLE


@pytest.mark.parametrize("step", [2, 4, 7])
def test_a_resumed_search_goes_on_inside_its_phase(step: int, tmp_path: Path) -> None:
    """Entered once; what the phase remembers is in the checkpoint; between two phases both hooks are still to come."""
    told: list[Any] = []
    expected = plain(made(noted([])).run())
    first = made(noted(told), folder=tmp_path)
    first.monitors = [StopAt(step)]
    with pytest.raises(Interrupted):
        first.run()
    stored = torch.load(checkpoint_path(tmp_path), weights_only=True)["phases"]
    assert stored == {"a": {"steps": min(step, 4)}, "b": {"steps": max(0, step - 4)}}
    again = made(noted(told), folder=tmp_path)
    again.resume()
    assert plain(again.run()) == expected
    assert told == WHOLE
    assert [phase.state_dict() for phase in again.schedule.phases.values()] == [{"steps": 4}, {"steps": 6}]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (15, [("b", "enter", 10), ("b", "exit", 15)]),
        (30, [("a", "enter", 10), ("a", "exit", 12), ("b", "enter", 12), ("b", "exit", 30)]),
    ],
)
def test_with_a_longer_budget_the_phase_that_goes_on_is_entered_anew(
    budget: int, expected: list[Any], tmp_path: Path
) -> None:
    """It was left when the run ended; nothing is left twice."""
    made(noted([]), folder=tmp_path).run()
    told: list[Any] = []
    longer = made(noted(told), folder=tmp_path, budget=Budget(steps=budget))
    longer.resume()
    longer.change_budget(extend=True)
    longer.run()
    assert [event for event in told if event[1] in ("enter", "exit")] == expected


def test_planning_by_the_clock_leaves_phases_as_they_were() -> None:
    """Steps are timed inside a phase that was entered; neither it nor the space remembers."""

    class Narrowing(Noted):
        def enter(self, state: SearchState) -> None:
            super().enter(state)
            state.allow([[True, True, False, False, False]] * 3)

    told: list[Any] = []
    search = made({"a": Narrowing("a", 1, told)}, budget=Budget(seconds=1000))
    before = copy.deepcopy(search.state.state_dict())
    assert search.plan()["a"] > 10
    assert told[0] == ("a", "enter", 0)
    assert len(told) > 1
    assert search.schedule.phases["a"].state_dict() == {"steps": 0}
    after = search.state.state_dict()
    assert (after["allowed_EO"], after["phase"], after["found"]) == (None, "", None)
    assert torch.equal(after["params"]["alpha_EO"], before["params"]["alpha_EO"])


# --- phases that narrow the space ---

MARKS = ((True, False, True, False, True), (True, True, True, True, False), (False, False, False, True, False))
LEFT = {
    "1<-0": ["none", "nor_conv_1x1", "avg_pool_3x3"],
    "2<-0": ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3"],
    "2<-1": ["nor_conv_3x3"],
}


class Narrow(Bilevel):
    """Leaves some operations from its first step on."""

    def enter(self, state: SearchState) -> None:
        state.allow(MARKS)


class Uniform(Softmax):
    """Gives every operation weight, whether it is allowed or not."""

    def __call__(self, params: Parameters, progress: float, generator: torch.Generator, half: str) -> list[EdgeWeights]:
        return [self.expected(params, progress)]

    def expected(self, params: Parameters, progress: float) -> EdgeWeights:
        return EdgeWeights.dense(
            torch.full((3, 5), 0.2) + 0 * params["alpha_EO"].masked_fill(params["alpha_EO"].isinf(), 0)
        )


@pytest.mark.parametrize("arch_step", ["first_order", "unrolled"])
@pytest.mark.parametrize(
    "relaxation", [Softmax(init_scale=1.0), SinglePath(), Uniform()], ids=lambda r: type(r).__name__
)
def test_operations_that_are_not_allowed_get_no_weight(relaxation: Relaxation, arch_step: str) -> None:
    """In both half-steps and in the evaluation, from the phase that says so on: it begins in the middle of an epoch."""
    search = made({"all": Bilevel(1), "few": Narrow(4)}, f"arch_step={arch_step}")
    state, closed_EO = search.state, ~torch.tensor(MARKS)
    state.relaxation = relaxation
    before, after = [], []

    def watch(network: nn.Module, inputs: tuple[torch.Tensor, EdgeWeights]) -> None:
        weights_EO = inputs[1].weights.detach()
        used_EO = weights_EO * torch.tensor(inputs[1].active_EO)
        (before if state.step < 2 else after).append(float(used_EO[closed_EO].max()))
        if state.step >= 2 and not isinstance(relaxation, Uniform):
            torch.testing.assert_close(used_EO.sum(dim=1), torch.ones(3))
            assert torch.equal(weights_EO, used_EO)

    state.network.register_forward_pre_hook(watch)
    search.run()
    passes = {"first_order": 2, "unrolled": 5}[arch_step]
    assert len(before) == 2 * passes
    assert max(before) > 0, "the other phase has all operations"
    assert len(after) == 8 * passes + 3 * 4, "three evaluations of four batches"
    assert set(after) == {0.0}


def test_what_is_not_allowed_is_in_no_cell_and_stands_in_result_and_checkpoint(tmp_path: Path) -> None:
    search = made({"few": Narrow()}, folder=tmp_path)
    with torch.no_grad():  # the heaviest operations are the closed ones
        search.state.params["alpha_EO"].copy_(
            10 * (~torch.tensor(MARKS)).float() + torch.arange(15).reshape(3, 5) / 100
        )
    search.monitors = [StopAt(6)]
    with pytest.raises(Interrupted):
        search.run()
    stored = torch.load(checkpoint_path(tmp_path), weights_only=True)["state"]["allowed_EO"]
    assert tuple(map(tuple, stored)) == MARKS
    again = made({"few": Narrow()}, folder=tmp_path)
    again.resume()
    result = again.run()
    assert result.allowed == LEFT
    assert {record["cell"] for record in result.history} == {"|avg_pool_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"}
    assert result.cell == result.history[-1]["cell"]
    result.write(tmp_path / "result.json")
    assert SearchResult.read(tmp_path / "result.json").allowed == LEFT
    assert made({"few": Bilevel()}).run().allowed is None


@pytest.mark.parametrize("arch_step", ["first_order", "unrolled"])
def test_a_narrowed_search_trains_what_is_left(arch_step: str) -> None:
    """Closed parameters and convolutions rest, the others move, and no number is lost; regularizers included."""
    words = [f"arch_step={arch_step}", "arch_step.weight_decay=0", "regularizer=[beta_decay,expected_flops]"]
    search = made({"few": Narrow()}, *words)
    state = search.state
    alpha_EO = state.params["alpha_EO"].detach().clone()
    weights = {name: value.detach().clone() for name, value in state.network.named_parameters()}
    search.run()
    assert state.is_finite()
    moved_EO = state.params["alpha_EO"].detach() != alpha_EO
    assert moved_EO.tolist() == [list(row) for row in MARKS]
    edges = {(0, 1): 0, (0, 2): 1, (1, 2): 2}
    for name, value in state.network.named_parameters():
        if "stacked" not in name:
            continue
        source, operation = (int(number) for number in name.split(".")[-2].split(":"))
        targets = [target for target in (1, 2) if target > source]
        moved = (value != weights[name]).reshape(len(targets), -1).any(dim=1).tolist()
        assert moved == [MARKS[edges[source, target]][operation] for target in targets], name


def test_marks_must_leave_an_operation_on_every_edge() -> None:
    state = made({"all": Bilevel()}).state
    for wrong in (MARKS[:2], [[True] * 4] * 3, [[True] * 5, [False] * 5, [True] * 5]):
        with pytest.raises(ValueError, match=r"^allowed: got .*; give \(3, 5\) marks, at least one an edge"):
            state.allow(wrong)
    assert state.allowed_EO is None
    state.allow(MARKS)
    assert state.allowed_EO == MARKS
    state.allow([[True] * 5] * 3)
    assert state.allowed_EO is None, "all of them: nothing is narrowed"


# --- phases that train nothing ---


class Settle(Phase):
    """Trains nothing, asks the supernet about cells, and ends the search with the one it likes best."""

    def __init__(self, cell: str, share: float = 1.0) -> None:
        super().__init__(share)
        self.cell, self.losses = cell, []

    def passes(self, steps: Steps, relaxation: Relaxation) -> int:
        return 0

    def step(self, state: SearchState, steps: Steps) -> dict[str, float]:
        path = EdgeWeights.one_hot([state.step % 5, 1, 3], 5)
        pixels, labels = state.task.valid.next()
        with torch.no_grad():
            self.losses.append(float(nn.functional.cross_entropy(state.compute.logits(pixels, path), labels)))
        return {"score": self.losses[-1]}

    def exit(self, state: SearchState) -> Genotype | None:
        return state.space.parse(self.cell)

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.losses = list(state["losses"])


OWN = "|avg_pool_3x3~0|+|none~0|avg_pool_3x3~1|"


def test_a_phase_that_trains_nothing_may_end_the_search_with_a_cell_of_its_own(tmp_path: Path) -> None:
    phases = {"bilevel": Bilevel(3), "settle": Settle(OWN, 2)}
    search = made(phases, folder=tmp_path)
    kept: dict[int, torch.Tensor] = {}

    class Keep(Monitor):
        def on_step(self, search: Search, numbers: dict[str, float]) -> None:
            kept[search.state.step] = search.state.network.state_dict()["classifier.weight"].clone()
            assert ("train_loss" in numbers) == (search.state.step <= 6)
            assert ("score" in numbers) == (search.state.step > 6)

    search.monitors = [Keep()]
    result = search.run()
    assert result.cell == OWN == result.history[-1]["cell"]
    assert result.history[0]["cell"] != OWN
    assert result.benchmark_cost is not None
    assert result.benchmark_cost["params"] == 73306, "the skeleton's alone, as published"
    assert result.images == 6 * 16
    assert len(phases["settle"].losses) == 4  # type: ignore[attr-defined]
    assert all(math.isfinite(record["train_loss"]) for record in result.history)
    assert result.history[-1]["train_loss"] == result.history[-2]["train_loss"] > 0
    assert not torch.equal(kept[5], kept[6])
    assert torch.equal(kept[6], kept[10])
    again = made({"bilevel": Bilevel(3), "settle": Settle(OWN, 2)}, folder=tmp_path)
    again.resume()
    assert again.run().cell == OWN, "it is in the checkpoint"


def test_a_cell_that_was_found_holds_until_the_next_phase_ends(tmp_path: Path) -> None:
    """Also where the search was stopped in between."""
    first = made({"settle": Settle(OWN), "bilevel": Bilevel()}, folder=tmp_path)
    first.monitors = [StopAt(6)]
    with pytest.raises(Interrupted):
        first.run()
    again = made({"settle": Settle(OWN), "bilevel": Bilevel()}, folder=tmp_path)
    again.resume()
    result = again.run()
    cells = {record["step"]: record["cell"] for record in result.history}
    assert list(cells) == [4, 8, 10]
    assert cells[8] == OWN, "the first phase ended after five steps"
    assert result.cell == cells[10] != OWN, "the last one leaves it to the discretizer"
    assert made({"a": Settle(OWN), "b": Settle("|none~0|+|none~0|none~1|")}).run().cell == "|none~0|+|none~0|none~1|"
