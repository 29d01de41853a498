"""Layer alignment: its gradient against the explicit second derivatives of the whole objective, in float64."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from darts.command.config import compose_config
from darts.search.arch_steps.aligned import Aligned, direction
from darts.search.build import build_search
from darts.search.loop import Search
from supernet.relaxations.base import EdgeWeights

WORDS = (
    "method=plain", "dataset=fake", "dataset.images=64", "dataset.image_size=8", "data.batch_size=8",
    "network.channels=4", "monitor=[]", "oracle=none", "space.num_nodes=3", "budget.steps=10",
)  # fmt: skip


def made(*words: str) -> Search:
    search = build_search(compose_config("search", [*WORDS, *words]), None)
    search.state.network.double()
    for value in search.state.params.values():
        value.data = torch.randn(value.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return search


def alignment(gradient_LP: Tensor) -> Tensor:
    """Mean cosine over pairs, as the paper writes it."""
    pairs = itertools.combinations(gradient_LP, 2)
    return torch.stack([a @ b / (a.norm() * b.norm()) for a, b in pairs]).mean()


def test_the_direction_is_the_derivative_of_the_mean_cosine() -> None:
    gradient_LEO = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    leaf = gradient_LEO.clone().requires_grad_()
    expected = torch.autograd.grad(alignment(leaf.flatten(1)), leaf)[0]
    assert torch.allclose(direction(gradient_LEO), expected, atol=1e-14)
    gradient_LEO[1] = 0
    assert not direction(gradient_LEO)[1].any()
    assert direction(gradient_LEO).isfinite().all()
    assert not direction(gradient_LEO[:1]).any(), "one cell agrees with itself"


def test_the_gradient_is_that_of_loss_and_alignment() -> None:
    search = made()
    state = search.state
    state.planned_steps, state.step = 10, 5  # half of the search: half of the weight
    batch = (torch.randn(8, state.task.in_channels, 8, 8, dtype=torch.float64), state.task.valid.next()[1])
    alpha_EO = state.params["alpha_EO"].detach()
    leaf_LEO = alpha_EO.expand(3, -1, -1).clone().requires_grad_()
    loss = F.cross_entropy(state.network(batch[0], EdgeWeights.dense(leaf_LEO.softmax(-1))), batch[1])
    (own_LEO,) = torch.autograd.grad(loss, leaf_LEO, create_graph=True)
    (second_LEO,) = torch.autograd.grad(alignment(own_LEO.flatten(1)), leaf_LEO)
    expected = own_LEO.sum(0) - 0.5 * 0.3 * second_LEO.sum(0)
    (found,), value = Aligned(weight=0.3, epsilon=1e-3).gradient(state, batch, batch)
    assert value == pytest.approx(loss.item())
    assert torch.allclose(found, expected.detach(), rtol=1e-5, atol=1e-8)
    assert not torch.allclose(found, own_LEO.sum(0).detach(), rtol=1e-3), "the alignment counts"
    (plain,), _ = Aligned(weight=0.0).gradient(state, batch, batch)
    assert torch.allclose(plain, own_LEO.sum(0).detach(), rtol=1e-9)


def test_three_passes_that_sample_alike() -> None:
    search = made("relaxation=gumbel_softmax")
    state = search.state
    batch = (torch.randn(8, state.task.in_channels, 8, 8, dtype=torch.float64), state.task.valid.next()[1])
    step, before, images = Aligned(), state.sampling.get_state(), state.images
    first = step.gradient(state, batch, batch)[0][0]
    assert state.images - images == 8 * step.passes(state.relaxation) == 24
    after = state.sampling.get_state()
    state.sampling.set_state(before)
    state.relaxation(state.params, state.progress, state.sampling, "architecture")
    assert torch.equal(state.sampling.get_state(), after), "as one call would leave it"
    state.sampling.set_state(before)
    assert torch.equal(step.gradient(state, batch, batch)[0][0], first)
