from __future__ import annotations

import copy
import functools
import io
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from darts.build import build_search
from darts.config import compose_config
from darts.search_loop import Search
from darts.state import NonFiniteLoss

WORDS = (
    "dataset=fake", "dataset.images=64", "dataset.image_size=4", "data.batch_size=8", "network.channels=2",
    "monitor=[]", "oracle=none", "budget.steps=12", "space.num_nodes=3",
)  # fmt: skip


@functools.cache
def composed(words: tuple[str, ...]) -> dict[str, Any]:
    return compose_config("search", [*WORDS, *words])


def make(*words: str) -> Search:
    return build_search(copy.deepcopy(composed(words)), None)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in nested dicts and lists, with its place."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from leaves(entry, f"{path}/{key}")
    elif isinstance(value, list | tuple):
        for place, entry in enumerate(value):
            yield from leaves(entry, f"{path}/{place}")
    else:
        yield path, value


def assert_same_bits(one: Any, other: Any) -> None:
    first, second = dict(leaves(one)), dict(leaves(other))
    assert first.keys() == second.keys()
    for path, value in first.items():
        equal = torch.equal(value, second[path]) if isinstance(value, Tensor) else value == second[path]
        assert equal, path


def advance(search: Search, steps: int) -> None:
    state = search.state
    for _ in range(steps):
        search.steps.weights.schedule(state)
        search.schedule.phases["bilevel"].step(state, search.steps)
        state.step += 1


VARIANTS = [(), ("arch_step=unrolled", "network.batch_norm=running")]


@pytest.mark.parametrize("words", VARIANTS)
def test_a_state_restored_from_a_file_goes_on_bit_for_bit(words: tuple[str, ...]) -> None:
    search, other = make(*words), make(*words)
    search.state.planned_steps = 12
    advance(search, 3)
    search.state.evaluate()
    torch.rand(7, generator=search.state.sampling)
    stream = io.BytesIO()
    torch.save(search.state.state_dict(), stream)
    advance(search, 4)
    noise = torch.rand(3)

    advance(other, 2)
    torch.manual_seed(1234)
    stream.seek(0)
    other.state.load_state_dict(torch.load(stream, weights_only=True))
    assert (other.state.step, other.state.planned_steps) == (3, 12)
    assert (other.state.images, other.state.evaluation_images) == ((120 if words else 48), 32)
    advance(other, 4)
    assert torch.equal(torch.rand(3), noise), "torch's own generator is restored too"
    assert_same_bits(search.state.state_dict() | {"torch_rng": 0}, other.state.state_dict() | {"torch_rng": 0})


def test_a_state_dict_holds_every_part_that_a_step_changes() -> None:
    search = make()
    search.state.planned_steps = 12
    before = copy.deepcopy(search.state.state_dict())
    advance(search, 1)
    after = search.state.state_dict()
    for part in ("step", "images", "network", "params", "weight_optimizer", "arch_optimizer", "train", "valid"):
        with pytest.raises(AssertionError):
            assert_same_bits({"": before[part]}, {"": after[part]})
    assert before["params"].keys() == {"alpha_EO"}
    assert before["params"]["alpha_EO"].shape == (3, 5)


def test_parameters_are_the_seed_s_alone() -> None:
    once, again, other = (make(f"seed={seed}").state for seed in (0, 0, 1))
    assert_same_bits(once.state_dict(), again.state_dict())
    assert not torch.equal(once.params["alpha_EO"], other.params["alpha_EO"])
    assert not torch.equal(once.network.stem[0].weight, other.network.stem[0].weight)  # type: ignore[arg-type]
    assert 0.3e-3 < float(once.params["alpha_EO"].detach().std()) < 3e-3, "1e-3 * N(0, 1), as published"


def test_no_tensor_belongs_to_both_optimizers() -> None:
    state = make().state
    owned = [
        {id(value) for group in optimizer.param_groups for value in group["params"]}
        for optimizer in (state.weight_optimizer, state.arch_optimizer)
    ]
    assert owned[0] == {id(value) for value in state.network.parameters()}
    assert owned[1] == {id(value) for value in state.params.values()}
    assert not owned[0] & owned[1]


def disturb(search: Search) -> None:
    advance(search, 3)
    search.state.evaluate()
    search.state.history.append({"epoch": 1})
    search.state.seconds["total"] += 5.0
    torch.rand(3)
    raise ZeroDivisionError


@pytest.mark.parametrize("words", VARIANTS)
def test_whatever_happens_inside_preserved_is_undone(words: tuple[str, ...]) -> None:
    search = make(*words)
    search.state.planned_steps = 12
    for steps in (0, 2):
        advance(search, steps)
        before = copy.deepcopy(search.state.state_dict())
        with pytest.raises(ZeroDivisionError), search.state.preserved():
            disturb(search)
        assert_same_bits(before, search.state.state_dict())
    assert all(value.requires_grad for value in search.state.params.values())


@pytest.mark.parametrize("batch_norm", ["batch", "running"])
def test_evaluation_is_loss_and_accuracy_on_the_architecture_part(batch_norm: str) -> None:
    search = make(f"network.batch_norm={batch_norm}", "weight_step.lr=0.1", "data.batch_size=7")
    state = search.state
    state.planned_steps = 12
    advance(search, 6)
    before = copy.deepcopy(state.state_dict())
    loss, accuracy = state.evaluate()

    copied, mixture = copy.deepcopy(state.network), state.relaxation(state.params, 0.0, state.sampling)[0].detach()
    if batch_norm == "running":
        copied.eval()  # then batches do not matter: all images at once
        batches = [(state.task.normalize(state.task.valid.images_NCHW), state.task.valid.labels_N)]
    else:
        batches = list(state.task.evaluation_batches())
    with torch.no_grad():
        logits = torch.cat([copied(pixels, mixture) for pixels, _ in batches])
    labels = torch.cat([labels for _, labels in batches])
    assert len(labels) == 32
    assert loss == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-5)
    assert accuracy == pytest.approx(100 * sum(map(int, logits.argmax(dim=1) == labels)) / 32)

    assert state.network.training
    assert state.evaluation_images == 32
    assert_same_bits(before, state.state_dict() | {"evaluation_images": 0})


def test_expected_weights_are_plain_numbers_on_the_cpu() -> None:
    state = make().state
    weights = state.expected_weights()
    assert not weights.requires_grad
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))
    torch.testing.assert_close(
        weights, state.params["alpha_EO"].detach().exp() / state.params["alpha_EO"].detach().exp().sum(1, True)
    )


def test_progress_is_the_share_of_steps_that_are_done() -> None:
    state = make().state
    assert state.progress == 0.0
    state.planned_steps = 8
    state.step = 2
    assert state.progress == 0.25
    state.step = 8
    assert state.progress == 1.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_values_are_noticed(value: float) -> None:
    state = make().state
    assert state.is_finite()
    with torch.no_grad():
        state.params["alpha_EO"][2, 3] = value
    assert not state.is_finite()
    with torch.no_grad():
        state.params["alpha_EO"].zero_()
        state.network.classifier.bias[1] = value
    assert not state.is_finite()
    paths = state.edge_weights()
    with pytest.raises(NonFiniteLoss, match="the loss of this test is"):
        state.loss(state.task.train.next(), paths, "loss of this test")
