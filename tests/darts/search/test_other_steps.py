"""Steps beside plain SGD and plain gradients: perturbed weights, one pass for both, rewards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from searching import tiny_state
from torch import Tensor

from darts.search.arch_steps.base import ArchStep
from darts.search.arch_steps.first_order import FirstOrder
from darts.search.arch_steps.reinforce import Reinforce
from darts.search.phases import SingleLevel, Steps
from darts.search.state import SearchState
from darts.search.weight_steps.base import WeightStep
from darts.search.weight_steps.perturbed import PerturbedSGD
from darts.search.weight_steps.sgd import SGDStep
from supernet.norm import held_statistics
from supernet.relaxations.base import EdgeWeights
from supernet.relaxations.fair_paths import FairPaths
from supernet.relaxations.softmax import Softmax
from supernet.spaces.cells import CellSpace

BATCH = 8


def tiny(weights: WeightStep, arch: ArchStep | None = None, nodes: int = 3, mode: str = "batch") -> SearchState:
    state = tiny_state(weights, arch, nodes=nodes, batch_norm=mode)
    state.planned_steps = 10
    return state


def bits(state: SearchState) -> dict[str, Tensor]:
    """All but the number of passes, which nothing reads."""
    both = [*state.network.state_dict().items(), *state.params.items()]
    return {name: value.detach().clone() for name, value in both if not name.endswith("num_batches_tracked")}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


# --- Perturbed weights


@pytest.mark.parametrize(("step", "radius"), [(0, 0.1), (5, 0.2), (10, 0.3)])
@pytest.mark.parametrize("attack_steps", [0, 3])
def test_perturbations_fill_a_radius_that_grows(attack_steps: int, step: int, radius: float) -> None:
    weight_step = PerturbedSGD(0.1, 0.3, attack_steps)
    state = tiny(weight_step)
    state.step = step
    batch = state.task.train.next()
    plain = state.expected_weights().weights
    moved = torch.stack([weight_step.edge_weights(state, batch)[0].weights - plain for _ in range(20)]).abs()
    assert moved.max() <= radius * (1 + 1e-12)
    assert moved.max() > 0.9 * radius
    assert moved.std() > 0


def test_an_attack_finds_larger_losses_and_leaves_everything_as_it_was() -> None:
    """Also running statistics; against the loss at the random start of the same draw."""
    state = tiny(SGDStep(), mode="running")
    state.params["alpha_EO"].data.zero_()
    batch, before, noise = state.task.train.next(), bits(state), state.sampling.get_state()
    losses = {}
    for attack_steps in (0, 7):
        state.sampling.set_state(noise)
        [path] = PerturbedSGD(0.2, 0.2, attack_steps).edge_weights(state, batch)
        assert same(bits(state), before)
        assert not path.weights.requires_grad
        with torch.no_grad(), held_statistics(state.network):
            losses[attack_steps] = state.task.loss(state.network(batch[0], path), batch[1]).item()
    assert losses[7] > losses[0]


def test_without_a_radius_it_is_plain_sgd_and_alphas_are_never_touched() -> None:
    ends = []
    for weight_step in (SGDStep(), PerturbedSGD(0.0, 0.0), PerturbedSGD(0.3, 0.3, 2)):
        state = tiny(weight_step)
        alpha = state.params["alpha_EO"].detach().clone()
        for _ in range(3):
            weight_step(state, state.task.train.next(), None)
        assert torch.equal(state.params["alpha_EO"], alpha)
        assert state.images == 3 * BATCH * weight_step.passes(state.relaxation)
        ends.append(bits(state))
    assert same(ends[0], ends[1])
    assert not same(ends[0], ends[2])
    assert PerturbedSGD(attack_steps=7).passes(Softmax()) == 8
    assert PerturbedSGD(attack_steps=7).passes(FairPaths(CellSpace())) == 40


@pytest.mark.parametrize("option", ["epsilon", "epsilon_end", "attack_steps"])
def test_negative_radii_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option}: got -1"):
        PerturbedSGD(**{option: -1})  # type: ignore[arg-type]


# --- One pass for both


@pytest.mark.parametrize("clip", [None, 0.01])
def test_a_single_level_step_moves_both_by_the_gradients_of_one_training_batch(clip: float | None) -> None:
    weights, arch = SGDStep(grad_clip=clip), FirstOrder(lr=0.01, weight_decay=0.0)
    state, other = tiny(weights, arch), tiny(weights, arch)
    for one in (state, other):
        weights.schedule(one)
    numbers = SingleLevel().step(state, Steps(weights, arch))
    batch = other.task.train.next()
    [path] = other.edge_weights("architecture")
    loss = other.task.loss(other.network(batch[0], path), batch[1])
    [slope] = torch.autograd.grad(loss, other.params["alpha_EO"])
    expected = other.params["alpha_EO"].detach() - 0.01 * slope / (slope.abs() + 1e-8)  # Adam's first step
    torch.testing.assert_close(state.params["alpha_EO"].detach(), expected)
    weights(other, batch, None)
    for mine, theirs in zip(state.network.parameters(), other.network.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert numbers["train_loss"] == pytest.approx(loss.item())
    assert state.images == BATCH == SingleLevel().passes(Steps(weights, arch), state.relaxation) * BATCH
    assert state.task.valid.state_dict()["position"] == 0, "the architecture's images are not used"


# --- Rewards


def rewarded(samples: int, entropy: float, rewards: Tensor) -> tuple[SearchState, Reinforce, Any]:
    """A cell of one edge; each operation's outputs classify a share of the batch right."""
    step = Reinforce(samples, entropy)
    state = tiny(SGDStep(), step, nodes=2)
    batch = state.task.valid.next()

    def logits(inputs: Tensor, path: EdgeWeights, **_: Any) -> Tensor:
        right = torch.arange(BATCH) < rewards[path.weights[0].argmax()] * BATCH
        found = torch.zeros(BATCH, 3)
        found[torch.arange(BATCH), torch.where(right, batch[1], (batch[1] + 1) % 3)] = 1.0
        return found

    state.compute.logits = logits  # type: ignore[method-assign]
    return state, step, batch


def test_the_estimate_is_the_gradient_of_the_expected_reward() -> None:
    """Closed form: d/dalpha of sum_o p_o R_o, within four standard errors of 1,500 estimates."""
    rewards = torch.tensor([0.25, 1.0, 0.5, 0.0, 0.75])
    state, step, batch = rewarded(4, 0.0, rewards)
    found = torch.stack([step.gradient(state, batch, batch)[0][0] for _ in range(1500)])[:, 0]
    alpha = state.params["alpha_EO"].detach().clone().requires_grad_()
    [exact] = torch.autograd.grad(-(alpha[0].softmax(-1) * rewards).sum(), alpha)
    error = found.std(dim=0) / 1500**0.5
    assert ((found.mean(dim=0) - exact[0]).abs() <= 4 * error).all()
    assert (exact[0].abs() > 4 * error).sum() >= 3, "the test can tell"
    assert state.images == 1500 * 4 * BATCH == 1500 * BATCH * step.passes(state.relaxation)


def test_with_equal_rewards_only_the_entropy_pulls() -> None:
    state, step, batch = rewarded(3, 0.5, torch.full((5,), 0.5))
    state.params["alpha_EO"].data.copy_(torch.tensor([[1.0, 0.0, -1.0, 2.0, 0.5]]))
    [found], _ = step.gradient(state, batch, batch)
    alpha = state.params["alpha_EO"].detach().clone().requires_grad_()
    [exact] = torch.autograd.grad(-0.5 * torch.distributions.Categorical(logits=alpha).entropy().sum(), alpha)
    torch.testing.assert_close(found, exact)


def test_closed_operations_are_neither_drawn_nor_moved() -> None:
    state, step, batch = rewarded(4, 0.5, torch.tensor([0.25, 1.0, 0.5, 0.0, 0.75]))
    state.allow([[True, False, True, False, True]])
    for _ in range(30):
        [found], _ = step.gradient(state, batch, batch)
        assert found.isfinite().all()
        assert found[0, [1, 3]].tolist() == [0, 0]


def test_a_policy_finds_the_best_operation() -> None:
    rewards = torch.tensor([0.25, 0.5, 0.5, 1.0, 0.75])
    state, _, batch = rewarded(6, 0.0, rewards)
    step = Reinforce(6, 0.0, lr=0.05)
    state.arch_optimizer = step.make_optimizer(state.params)
    for _ in range(150):
        step(state, batch, batch)
    assert state.params["alpha_EO"].argmax().item() == 3
    assert state.params["alpha_EO"].softmax(-1).max() > 0.9


@pytest.mark.parametrize("options", [{"samples": 1}, {"entropy": -0.1}])
def test_impossible_policies_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Reinforce(**options)
