"""Rates and momentum that follow the sampled cell, against formulas and velocities written by hand."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import pytest
import torch
from searching import tiny_state
from torch import Tensor

from darts.search.state import SearchState
from darts.search.weight_steps.dynas import DynasSGD
from supernet.relaxations.base import EdgeWeights
from supernet.relaxations.fair_paths import FairPaths
from supernet.relaxations.single_path import SinglePath
from supernet.size import NetworkSize
from supernet.spaces.cells import NAS_BENCH_201, CellSpace

LR, MOMENTUM, DECAY, PLANNED = 0.1, 0.9, 0.01, 12
SKIP, CONV = NAS_BENCH_201.index("skip_connect"), NAS_BENCH_201.index("nor_conv_3x3")


def tiny(step: DynasSGD, seed: int = 0) -> SearchState:
    state = tiny_state(step, relaxation=SinglePath(), seed=seed)
    state.planned_steps = PLANNED
    return state


def path(*choice_E: int) -> list[EdgeWeights]:
    return [EdgeWeights.one_hot(list(choice_E), 5, torch.float64)]


def test_the_exponent_is_linear_in_the_logarithm_of_the_networks_parameters() -> None:
    """Against networks that are built and counted."""
    space, step = CellSpace(), DynasSGD(gamma_max=4.0)

    def parameters(choice_E: Sequence[int]) -> float:
        network = space.network(space.decided(choice_E), NetworkSize())
        return math.log(sum(value.numel() for value in network.parameters()))

    smallest, largest = [SKIP] * 6, [CONV] * 6
    for choice_E in (smallest, largest, [0] * 6, [CONV, SKIP, 2, 4, 0, CONV], [SKIP, SKIP, SKIP, 2, 2, 0]):
        share = (parameters(choice_E) - parameters(smallest)) / (parameters(largest) - parameters(smallest))
        assert step.gamma(space, path(*choice_E)) == pytest.approx(4 - (4 - 1 / 4) * share)
    assert step.gamma(space, path(*largest)) == pytest.approx(1 / 4)
    both = [*path(*smallest), *path(CONV, SKIP, SKIP, SKIP, SKIP, SKIP)]
    assert step.gamma(space, both) == step.gamma(space, both[1:]), "of several operations the largest counts"
    assert DynasSGD(gamma_max=1.0).gamma(space, path(*smallest)) == 1.0
    poor = CellSpace(operations=("none", "skip_connect"))
    assert step.gamma(poor, [EdgeWeights.one_hot([1] * 6, 2)]) == 1.0


@pytest.mark.parametrize("seed", [0, 1])
def test_steps_equal_sgd_written_by_hand_with_a_velocity_for_each_operation_of_one_edge(seed: int) -> None:
    """Which edge, is found out; it must be one and the same for all operations and steps."""
    step = DynasSGD(4.0, LR, MOMENTUM, nesterov=False, weight_decay=DECAY)
    state = tiny(step, seed)
    cells = [[3, 3, 2, 3, 2, 3], [3, 2, 3, 2, 3, 2], [2, 3, 2, 3, 3, 3], [3, 3, 2, 2, 2, 3], [2, 2, 3, 3, 2, 2]] * 2
    by_hand = [{name: v.detach().clone() for name, v in state.network.named_parameters()} for _ in range(6)]
    velocities: list[dict[tuple[int, str], Tensor]] = [{} for _ in range(6)]
    possible = set(range(6))
    for number, choice_E in enumerate(cells):
        state.step = number
        batch, paths = state.task.train.next(), path(*choice_E)
        gamma = step.gamma(state.space, paths)
        rate = LR * (1 - number / PLANNED) ** gamma
        before = {name: value.detach().clone() for name, value in state.network.named_parameters()}
        loss = state.task.loss(state.network(batch[0], paths[0]), batch[1])
        names = [name for name, _ in state.network.named_parameters()]
        found = torch.autograd.grad(loss, list(state.network.parameters()), allow_unused=True)
        state.weight_optimizer.zero_grad(set_to_none=True)
        state.task.loss(state.network(batch[0], paths[0]), batch[1]).backward()
        step.update(state, paths)
        assert [group["lr"] for group in state.weight_optimizer.param_groups] == [pytest.approx(rate)]
        for candidate in sorted(possible):
            agrees = True
            for name, gradient in zip(names, found, strict=True):
                if "classifier" not in name or gradient is None:  # what every path moves
                    continue
                slope = gradient + DECAY * before[name]
                key = (choice_E[candidate], name)
                old = velocities[candidate].get(key, torch.zeros_like(slope))
                velocities[candidate][key] = MOMENTUM * old + slope
                by_hand[candidate][name] = before[name] - rate * velocities[candidate][key]
                now = dict(state.network.named_parameters())[name].detach()
                agrees &= torch.allclose(now, by_hand[candidate][name], rtol=1e-10, atol=1e-13)
            if not agrees:
                possible.discard(candidate)
    assert len(possible) == 1, f"edges whose operations explain all steps: {possible}"


def test_velocities_go_with_a_checkpoint() -> None:
    def run(state: SearchState, cells: list[list[int]]) -> None:
        for choice_E in cells:
            batch, paths = state.task.train.next(), path(*choice_E)
            state.weight_optimizer.zero_grad(set_to_none=True)
            state.task.loss(state.network(batch[0], paths[0]), batch[1]).backward()
            step.update(state, paths)
            state.step += 1

    step = DynasSGD(lr=LR)
    cells = [[3] * 6, [2] * 6, [1, 3, 1, 3, 1, 3], [3] * 6, [2] * 6]
    whole, first, second = tiny(step), tiny(step), tiny(step)
    run(whole, cells)
    run(first, cells[:3])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    run(second, cells[3:])
    for one, other in zip(whole.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_several_paths_a_step_and_impossible_options() -> None:
    state = tiny(DynasSGD())
    state.relaxation = FairPaths(CellSpace())
    step = DynasSGD()
    before = [value.detach().clone() for value in state.network.parameters()]
    step.schedule(state)
    numbers = step(state, state.task.train.next(), None)
    assert numbers["lr"] == pytest.approx(0.025)  # the first step, whatever the exponent
    assert any(not torch.equal(a, b) for a, b in zip(before, state.network.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"gamma_max: got 0\.5; give 1 or more"):
        DynasSGD(gamma_max=0.5)
