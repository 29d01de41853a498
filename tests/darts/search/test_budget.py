from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from darts.command.config import compose_config
from darts.run.errors import UserError
from darts.search.budget import Budget
from darts.search.build import build_search
from supernet.relaxations.base import EdgeWeights, Parameters
from supernet.relaxations.softmax import Softmax

COMMON = (
    "dataset=fake", "dataset.images=64", "dataset.image_size=4", "data.batch_size=8", "network.channels=2",
    "method=plain", "monitor=[]", "oracle=none", "space.num_nodes=2",
)  # fmt: skip


def test_each_limit_as_steps() -> None:
    """10 steps an epoch, 128 images a step."""
    assert Budget(steps=7).steps_for(10, lambda steps: 128 * steps) == 7
    assert Budget(epochs=3).steps_for(10, lambda steps: 128 * steps) == 30
    assert Budget(images=1000).steps_for(10, lambda steps: 128 * steps) == 7  # 896 images
    assert Budget(images=1024).steps_for(10, lambda steps: 128 * steps) == 8


def test_images_must_suffice_for_a_step() -> None:
    assert Budget(images=128).steps_for(10, lambda steps: 128 * steps) == 1
    with pytest.raises(ValueError, match=r"^images: got 127; one step passes 128 images"):
        Budget(images=127).steps_for(10, lambda steps: 128 * steps)


@pytest.mark.parametrize("limits", [{}, {"epochs": 1, "steps": 1}, {"seconds": 1.0, "images": 10, "epochs": 2}])
def test_exactly_one_limit(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exactly one of epochs, steps, images, seconds") as caught:
        Budget(**limits)
    assert all(f"{name}={value}" in str(caught.value) for name, value in limits.items())


@pytest.mark.parametrize("name", ["epochs", "steps", "images", "seconds"])
@pytest.mark.parametrize("value", [0, -3])
def test_limits_are_positive(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: got {value}"):
        Budget(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_seconds_are_finite(value: float) -> None:
    """An infinite time cannot be turned into steps."""
    with pytest.raises(ValueError, match=r"^seconds: got"):
        Budget(seconds=value)


def planned(*words: str) -> int:
    return max(build_search(compose_config("search", [*COMMON, *words]), None).plan().values())


def test_plan_of_a_search() -> None:
    """32 images train the weights: four batches of 8 an epoch."""
    assert planned("budget.epochs=3") == 12
    assert planned("budget.images=100") == 6  # 16 a first-order step
    assert planned("budget.images=100", "arch_step=unrolled") == 2  # 40 an unrolled one
    warm = ["phases.warm_up.share=1", "phases.bilevel.share=3"]
    assert planned("budget.images=280", *warm) == 20  # 5 steps of 8 images, 15 of 16


def test_budget_of_images_is_never_exceeded() -> None:
    """Also where phases do not divide the steps evenly."""
    settings = compose_config("search", [*COMMON, "budget.images=1", "phases.warm_up.share=1"])
    for limit in (16, 24, 40, 60):
        settings["budget"]["images"] = limit
        assert build_search(settings, None).run().images <= limit


class Several(Softmax):
    """Two paths in the weight step, three in the architecture step."""

    def paths(self, half: str) -> int:
        return {"weights": 2, "architecture": 3}[half]

    def __call__(self, params: Parameters, progress: float, generator: torch.Generator, half: str) -> list[EdgeWeights]:
        return super().__call__(params, progress, generator, half) * self.paths(half)


@pytest.mark.parametrize(("arch_step", "passes"), [("first_order", 2 + 3), ("unrolled", 2 + 4 * 3)])
def test_a_budget_of_images_counts_every_path(arch_step: str, passes: int) -> None:
    """What is planned, what is counted, and what really goes through the network while it trains."""
    for limit, steps in ((3 * passes * 8, 3), (4 * passes * 8 - 1, 3)):
        search = build_search(compose_config("search", [*COMMON, f"arch_step={arch_step}", "budget.steps=1"]), None)
        search.budget, search.state.relaxation = Budget(images=limit), Several()
        seen: list[int] = []
        search.state.network.register_forward_pre_hook(
            lambda network, inputs, seen=seen: seen.append(len(inputs[0]) * network.training)
        )
        assert search.plan() == {"bilevel": steps}
        result = search.run()
        assert (result.steps, result.images) == (steps, sum(seen)) == (3, 3 * passes * 8)
    search.budget = Budget(images=passes * 8 - 1)
    with pytest.raises(ValueError, match=rf"^images: got {passes * 8 - 1}; one step passes {passes * 8} images"):
        search.plan()


def test_a_budget_of_images_counts_the_paths_of_each_phase() -> None:
    """Five warm-up steps of 2 x 8 images, fifteen bilevel steps of 5 x 8."""
    words = ["budget.steps=1", "phases.warm_up.share=1", "phases.bilevel.share=3"]
    search = build_search(compose_config("search", [*COMMON, *words]), None)
    search.budget, search.state.relaxation = Budget(images=5 * 16 + 15 * 40), Several()
    assert search.plan() == {"warm_up": 5, "bilevel": 20}
    assert search.run().images == 5 * 16 + 15 * 40


def test_budget_on_the_command_line_takes_the_place_of_the_config_s() -> None:
    assert compose_config("search", ["budget.steps=5"])["budget"] == {
        "epochs": None,
        "steps": 5,
        "images": None,
        "seconds": None,
    }


@pytest.mark.parametrize("words", [["budget.steps=5", "budget.images=100"], ["budget.seconds=0"], ["budget.images=15"]])
def test_a_wrong_budget_ends_with_a_message(words: list[str]) -> None:
    with pytest.raises(UserError, match=r"budget.*(got).*;"):
        planned(*words)
