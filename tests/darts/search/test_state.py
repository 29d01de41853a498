from __future__ import annotations

import copy
import functools
import io
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from darts.command.config import compose_config
from darts.run.schema import upgraded
from darts.search.build import build_search
from darts.search.diverging import NonFiniteLoss
from darts.search.loop import Search
from darts.search.saved import UPGRADES
from supernet.cell import SearchCell
from supernet.relaxations.base import EdgeWeights, Parameters
from supernet.relaxations.softmax import Softmax

WORDS = (
    "dataset=fake", "dataset.images=64", "dataset.image_size=4", "data.batch_size=8", "network.channels=2",
    "method=plain", "monitor=[]", "oracle=none", "budget.steps=12", "space.num_nodes=3",
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
    assert_same_bits(search.state.state_dict(), other.state.state_dict())


def test_a_state_of_version_0_1_goes_on() -> None:
    """It knew neither phases' progress, nor narrowed spaces, nor generators of devices, nor whose state it was."""
    search, other = make(), make()
    search.state.planned_steps = 12
    advance(search, 3)
    old = copy.deepcopy(search.state.state_dict())
    for name in ("phase_progress", "allowed_EO", "found"):
        del old[name]
    old["torch_rng"] = old.pop("noise")[0]
    advance(search, 2)
    noise = torch.rand(3)
    other.state.allow([[True] * 4 + [False]] * 3)
    torch.manual_seed(1234)
    content = upgraded({"schema_version": 1, "state": old}, Path("last.pt"), "resume", UPGRADES)
    assert content["identity"] == {}
    other.state.load_state_dict(content["state"])
    assert other.state.allowed_EO is None
    advance(other, 2)
    assert torch.equal(torch.rand(3), noise)
    assert_same_bits(search.state.state_dict(), other.state.state_dict())


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

    copied, mixture = copy.deepcopy(state.network), EdgeWeights.dense(state.params["alpha_EO"].detach().softmax(dim=-1))
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


class Rich(Softmax):
    """All that a pass can have beside the weights: three cells with weights of their own, half of the channels, an
    extra skip that fades, a bypass an edge."""

    def expected(self, params: Parameters, progress: float) -> EdgeWeights:
        alpha_EO = params["alpha_EO"]
        sharpness_L = torch.tensor([1.0, 500.0, 2000.0])
        return replace(
            EdgeWeights.dense(torch.softmax(sharpness_L[:, None, None] * alpha_EO, dim=-1)),
            extra_skip=(1 - progress) * torch.arange(9.0).reshape(3, 3) / 9,
            partial=2,
            bypass=torch.tensor([0.5, 1.5, -0.3]),
        )


def cell_by_hand(cell: SearchCell, x: Tensor, weights_EO: Tensor, extra_E: Tensor, bypass_E: Tensor) -> Tensor:
    """Three nodes, edge by edge and operation by operation; the second half of the channels passes by."""
    channels = x.shape[1]
    half, nodes, edge = channels // 2, [x], 0
    for target in (1, 2):
        total = torch.zeros_like(x)
        for source in range(target):
            head, tail = nodes[source].chunk(2, dim=1)
            rows = slice((target - source - 1) * channels, (target - source - 1) * channels + half)
            convolved = [
                nn.functional.batch_norm(
                    nn.functional.conv2d(
                        head.relu(), cell.stacked[f"{source}:{position}"].weight[rows, :half], padding=padding
                    ),
                    None, None, training=True,
                )
                for position, padding in ((2, 0), (3, 1))
            ]  # fmt: skip
            pooled = nn.functional.avg_pool2d(head, 3, 1, 1, count_include_pad=False)
            values = [torch.zeros_like(head), head, *convolved, pooled]
            mixed = sum(weight * value for weight, value in zip(weights_EO[edge], values, strict=True))
            both = torch.stack(
                [mixed + extra_E[edge] * head, bypass_E[edge] * tail], dim=2
            )  # a channel of each in turn
            total = total + both.flatten(1, 2)
            edge += 1
        nodes.append(total)
    return nodes[-1]


def test_what_is_evaluated_is_the_network_that_is_trained() -> None:
    """Partial channels, extra skip, bypass and weights a cell, at the progress of the search; not their mean."""
    search = make("weight_step.lr=0.1", "relaxation.init_scale=0.001")
    state = search.state
    state.planned_steps = 12
    advance(search, 6)
    state.relaxation = Rich()
    loss, accuracy = state.evaluate()

    alpha_EO, network = state.params["alpha_EO"].detach(), state.network
    cells = [
        (torch.softmax(sharpness * alpha_EO, dim=-1), 0.5 * torch.tensor(extra) / 9)
        for sharpness, extra in ((1, [0.0, 1, 2]), (500, [3.0, 4, 5]), (2000, [6.0, 7, 8]))
    ]
    outputs, plain = [], []
    labels = torch.cat([labels for _, labels in state.task.evaluation_batches()])
    with torch.no_grad():
        for pixels, _ in state.task.evaluation_batches():
            value, waiting = network.stem(pixels), iter(cells)
            for layer in network.layers:
                if isinstance(layer, SearchCell):
                    value = cell_by_hand(layer, value, *next(waiting), torch.tensor([0.5, 1.5, -0.3]))
                else:
                    value = layer(value)
            outputs.append(network.classifier(network.last_norm(value).relu().mean(dim=(2, 3))))
            plain.append(network(pixels, EdgeWeights.dense(sum(weights for weights, _ in cells) / 3)))
    by_hand, of_means = torch.cat(outputs), torch.cat(plain)
    assert loss == pytest.approx(float(nn.functional.cross_entropy(by_hand, labels)), rel=1e-5)
    assert accuracy == pytest.approx(100 * float((by_hand.argmax(dim=1) == labels).double().mean()))
    assert abs(loss - float(nn.functional.cross_entropy(of_means, labels))) > 0.01
    torch.testing.assert_close(state.expected_weights().mean_EO, sum(weights for weights, _ in cells) / 3)


def test_expected_weights_are_plain_numbers_on_the_cpu() -> None:
    state = make().state
    weights = state.expected_weights().weights
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
    (path,) = state.edge_weights("weights")
    with pytest.raises(NonFiniteLoss, match="the loss of this test is"):
        state.loss(state.task.train.next(), path, "loss of this test")


def test_weights_that_train_alone_are_evaluated_along_paths_the_same_every_time() -> None:
    state = make("relaxation=single_path", "phases.bilevel.share=0", "phases.evolution.share=1").state
    paths, logits, before = [], state.compute.logits, state.sampling.get_state()

    def watched(inputs: Tensor, path: EdgeWeights, alone: bool = True) -> Tensor:
        paths.append(path)
        return logits(inputs, path, alone)

    state.compute.logits = watched  # type: ignore[method-assign]
    value = state.evaluate()
    assert all(sum(row) == 1 for path in paths for row in path.active_EO)
    assert len({path.active_EO for path in paths}) > 1
    drawn = [path.active_EO for path in paths]
    assert state.evaluate() == value
    assert [path.active_EO for path in paths] == drawn * 2
    assert torch.equal(state.sampling.get_state(), before)
    batches = list(state.task.evaluation_batches())
    losses = [
        nn.functional.cross_entropy(logits(inputs, path), targets, reduction="sum").item()
        for (inputs, targets), path in zip(batches, paths, strict=False)
    ]
    assert math.isclose(value[0], sum(losses) / sum(len(targets) for _, targets in batches), rel_tol=1e-6)

    state.evaluate(allowed_EO=(marks := [[True, False, False, True, False]] * 3))
    last = paths[2 * len(batches) :]
    assert all(
        not on or mark
        for path in last
        for row, ok in zip(path.active_EO, marks, strict=True)
        for on, mark in zip(row, ok, strict=True)
    )
