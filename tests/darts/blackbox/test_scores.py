"""Training-free scores against closed forms on linear networks, brute force, and the conformance of the evaluator."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from darts.blackbox.evaluators.base import Context
from darts.blackbox.evaluators.zero_cost import ZeroCostEvaluator
from darts.blackbox.scores import PROXIES, Probe, grasp_plainly
from darts.tasks.classification import Classification
from darts.tasks.datasets.fake import Fake
from supernet.cost import genotype_cost
from supernet.discrete_network import DiscreteNetwork
from supernet.size import NetworkSize
from supernet.spaces.cells import CellSpace

B, D, K = 6, 5, 3


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear(*sizes: int) -> nn.Sequential:
    layers = [nn.Linear(a, b, bias=False) for a, b in pairwise(sizes)]
    for place, layer in enumerate(layers):
        layer.weight.data = drawn(*layer.weight.shape, seed=10 + place)
    return nn.Sequential(*layers)


def opened(evaluator: ZeroCostEvaluator, device: str = "cpu") -> ZeroCostEvaluator:
    task = partial(Classification, Fake(num_classes=3, image_size=8))
    evaluator.open(Context(CellSpace(), None, task, torch.device(device)))
    return evaluator


def probe(network: nn.Module) -> Probe:
    return Probe(network, drawn(B, D, seed=1), torch.arange(B) % K)


def softmax_errors(network: nn.Sequential) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Images, and the gradient of the mean cross entropy with respect to the logits."""
    x = drawn(B, D, seed=1).numpy()
    logits = x
    for layer in network:
        logits = logits @ layer.weight.detach().numpy().T
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return x, (exponentials / exponentials.sum(1, keepdims=True) - np.eye(K)[np.arange(B) % K]) / B


def gradients(network: nn.Sequential) -> list[NDArray[np.float64]]:
    """Of two linear layers, by hand."""
    x, error = softmax_errors(network)
    first, second = (layer.weight.detach().numpy() for layer in network)
    return [second.T @ error.T @ x, error.T @ (x @ first.T)]


def test_snip_and_gradient_norm_of_two_linear_layers() -> None:
    network = linear(D, 4, K)
    by_hand = gradients(network)
    weights = [layer.weight.detach().numpy() for layer in network]
    snip = sum(np.abs(w * g).sum() for w, g in zip(weights, by_hand, strict=True))
    assert PROXIES["snip"](probe(network)) == pytest.approx(snip, rel=1e-12)
    norm = sum(np.linalg.norm(g) for g in by_hand)
    assert PROXIES["gradient_norm"](probe(network)) == pytest.approx(norm, rel=1e-12)


def test_grasp_of_softmax_regression_has_its_explicit_hessian() -> None:
    network = linear(D, K)
    x, error = softmax_errors(network)
    probabilities = error * B + np.eye(K)[np.arange(B) % K]
    hessian = (
        sum(
            np.kron(np.diag(p) - np.outer(p, p), np.outer(image, image))
            for p, image in zip(probabilities, x, strict=True)
        )
        / B
    )
    weight = network[0].weight.detach().numpy().flatten()
    assert PROXIES["grasp"](probe(network)) == pytest.approx(-weight @ hessian @ (error.T @ x).flatten(), rel=1e-10)


@pytest.mark.parametrize("index", [0, 12_345, 9_371, 4_444])  # the first has no path to the output
def test_grasp_is_that_of_the_plain_double_backward(index: int) -> None:
    network = DiscreteNetwork(CellSpace().genotype(index), 4, 2, K, 2, batch_norm="batch").train()
    images, labels = drawn(6, 2, 8, 8), torch.arange(6) % K
    score = PROXIES["grasp"](Probe(network, images, labels))
    assert score == pytest.approx(grasp_plainly(Probe(network, images, labels)), rel=1e-10)


def test_grasp_of_operations_without_tangents_is_the_plain_one() -> None:
    network = nn.Sequential(linear(D, 4), nn.Softmax(1), linear(4, K))
    assert PROXIES["grasp"](probe(network)) == grasp_plainly(probe(network))


def test_synflow_of_linear_layers_is_their_number_times_the_flow() -> None:
    network = linear(D, 4, 6, K)
    flow = np.ones(K)
    for layer in reversed(network):
        flow = flow @ np.abs(layer.weight.detach().numpy())
    assert PROXIES["synflow"](probe(network)) == pytest.approx(math.log1p(3 * flow.sum()), rel=1e-12)
    assert (network[0].weight < 0).any(), "the network itself is left alone"


def test_synflow_ignores_normalisation() -> None:
    plain, normed = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten()), None
    normed = nn.Sequential(plain[0], nn.BatchNorm2d(3), nn.Flatten())
    images, labels = drawn(4, 2, 3, 3), torch.arange(4) % 3
    scores = [PROXIES["synflow"](Probe(network, images, labels)) for network in (plain, normed)]
    assert scores[0] == scores[1]


def test_the_jacobian_of_a_linear_network_is_the_same_for_every_image() -> None:
    """All correlations are 1: one eigenvalue B, the others 0."""
    values = np.array([B] + [0.0] * (B - 1)) + 1e-5
    expected = -(np.log(values) + 1 / values).sum()
    assert PROXIES["jacobian_covariance"](probe(linear(D, 4, K))) == pytest.approx(expected, rel=1e-6)


def test_naswot_counts_agreeing_rectifiers() -> None:
    network = nn.Sequential(linear(D, 9), nn.ReLU(), linear(9, 7), nn.ReLU(), linear(7, K))
    with torch.no_grad():
        first = network[0](drawn(B, D, seed=1))
        second = network[2](first.relu())
    on = torch.cat([first, second], dim=1) > 0
    kernel = np.array([[float((a == b).sum()) for b in on] for a in on])
    assert PROXIES["naswot"](probe(network)) == pytest.approx(np.log(abs(np.linalg.det(kernel))), rel=1e-9)


def test_zico_of_two_halves() -> None:
    network = linear(D, 4, K)
    whole, halves = probe(network), []
    for part in (slice(0, 3), slice(3, 6)):
        loss = nn.functional.cross_entropy(network(whole.images_BCHW[part]), whole.labels_B[part])
        halves.append([g.numpy() for g in torch.autograd.grad(loss, list(network.parameters()))])
    expected = sum(
        np.log((np.abs(np.stack(pair)).mean(0) / np.stack(pair).std(0)).sum()) for pair in zip(*halves, strict=True)
    )
    assert PROXIES["zico"](whole) == pytest.approx(expected, rel=1e-10)


def test_params_and_flops_are_those_of_the_cost_model() -> None:
    cell = CellSpace().genotype(12_345)
    network = DiscreteNetwork(cell, 4, 1, 3, 2, batch_norm="batch")
    cost = genotype_cost(cell, NetworkSize(4, 1, 3, 2, 8))
    found = Probe(network, drawn(4, 2, 8, 8), torch.zeros(4, dtype=torch.long))
    assert (PROXIES["params"](found), PROXIES["flops"](found)) == (cost.params, cost.flops)


@pytest.mark.parametrize("proxy", PROXIES)
def test_every_score_repeats_tells_cells_apart_and_leaves_the_network_alone(proxy: str) -> None:
    torch.set_default_dtype(torch.float32)
    space = CellSpace()
    evaluator = opened(ZeroCostEvaluator(proxy, channels=4, cells=1, batch_size=8))
    cells = [space.genotype(index) for index in (15_624, 12_345, 9_371)]
    state = torch.get_rng_state()
    scores = [evaluator.value(cell, 1) for cell in cells]
    assert torch.equal(torch.get_rng_state(), state)
    assert [evaluator.value(cell, 1) for cell in reversed(cells)] == scores[::-1]
    assert len(set(scores)) == 3
    probe = evaluator.probe(cells[1])
    before = [parameter.clone() for parameter in probe.network.parameters()]
    first = PROXIES[proxy](probe)
    for other in PROXIES.values():
        other(probe)
    assert PROXIES[proxy](probe) == first == scores[1], "scores that share passes are those of their own"
    assert all(torch.equal(a, b) for a, b in zip(before, probe.network.parameters(), strict=True))


def test_a_cell_that_nothing_passes_through_is_scored_or_failed_but_never_an_error() -> None:
    torch.set_default_dtype(torch.float32)
    for proxy in PROXIES:
        evaluator = opened(ZeroCostEvaluator(proxy, channels=2, cells=1, batch_size=4))
        value = evaluator.value(CellSpace().genotype(0), 1)
        assert value is None or math.isfinite(value)


def test_a_score_that_is_no_number_is_a_failed_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_default_dtype(torch.float32)
    evaluator = opened(ZeroCostEvaluator("snip", channels=2, cells=1, batch_size=4))
    monkeypatch.setitem(PROXIES, "snip", lambda probe: float("nan"))
    assert evaluator.value(CellSpace().genotype(3), 1) is None


def test_network_batch_and_what_is_made_of_them_are_on_the_device_that_was_chosen() -> None:
    """The device `meta` holds shapes without values, and refuses tensors of any other."""
    torch.set_default_dtype(torch.float32)
    evaluator = opened(ZeroCostEvaluator("flops", channels=4, cells=1, batch_size=8), "meta")
    probe = evaluator.probe(CellSpace().genotype(12_345))
    tensors = [*probe.network.parameters(), *probe.network.buffers(), probe.images_BCHW, probe.labels_B]
    tensors += [*probe.gradients, probe.agreeing]
    assert {tensor.device for tensor in (*tensors, *evaluator.batch)} == {torch.device("meta")}
    assert evaluator.value(CellSpace().genotype(12_345), 1) == PROXIES["flops"](probe) > 0


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="proxy: got 'magic'; allowed are naswot"):
        ZeroCostEvaluator("magic")
    with pytest.raises(ValueError, match="batch_size: got 2; give 4 or more"):
        ZeroCostEvaluator(batch_size=2)
    with pytest.raises(ValueError, match="batch_size: got 100000"):
        opened(ZeroCostEvaluator(batch_size=100_000))
