from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest

from darts.arch_steps.first_order import FirstOrder
from darts.arch_steps.unrolled import Unrolled
from darts.phases import Bilevel, Phase, Schedule, Steps, WarmUp
from darts.weight_steps.sgd import SGDStep


def lengths(shares: dict[str, float], planned: int) -> list[tuple[str, int]]:
    schedule = Schedule({name: Bilevel(share) for name, share in shares.items()})
    names = [schedule.at(step, planned) for step in range(planned)]
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


def test_passes_and_their_mean_over_the_schedule() -> None:
    """A weight step passes a batch once; an architecture step once, or four times if it is unrolled."""
    first, second = Steps(SGDStep(), FirstOrder()), Steps(SGDStep(), Unrolled())
    assert [WarmUp().passes(first), Bilevel().passes(first), WarmUp().passes(second), Bilevel().passes(second)] == [
        1, 2, 1, 5,
    ]  # fmt: skip
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
        passes = 1

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
