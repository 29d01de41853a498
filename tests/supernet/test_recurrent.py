"""Recurrent cells and networks against loops over single numbers, PyTorch's own layers, and finite differences.

Shape suffixes: B batch, L steps, C columns, H numbers of the state, K targets, E edges, O operations.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from supernet.recurrent_layers import masked
from supernet.relaxations.base import EdgeWeights
from supernet.size import Cost, NetworkSize
from supernet.spaces.recurrent_cell import RecurrentCell
from supernet.spaces.recurrent_network import RecurrentNetworks

LAYERS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
SIZE = NetworkSize(3, 1, 2, 2, 4)  # H = 3, K = 2, C = 2, L = 4
PUBLISHED = {  # Liu et al. 2019: found by first and by second order
    "V1": "relu 0 relu 1 tanh 2 relu 3 relu 4 identity 1 relu 5 relu 1",
    "V2": "sigmoid 0 relu 1 relu 1 identity 1 tanh 2 sigmoid 5 tanh 3 relu 5",
}


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def shaken(network: nn.Module, seed: int = 0) -> Any:
    """The network with weights of some size, biases too."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.7, generator=generator)
    return network.eval()


# --- The cell

FUNCTIONS: dict[str, Callable[[float], float]] = {
    "tanh": math.tanh,
    "relu": lambda x: max(0.0, x),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "identity": lambda x: x,
}


def dot(row: list[float], values: list[float]) -> float:
    return sum(a * b for a, b in zip(row, values, strict=True))


def gated(state: list[float], both: list[float], name: str) -> list[float]:
    """state + c (f(h) - state), where the first half of `both` is c before its sigmoid, and the second is h."""
    half = len(state)
    gates = [FUNCTIONS["sigmoid"](value) for value in both[:half]]
    values = [FUNCTIONS[name](value) for value in both[half:]]
    return [s + c * (h - s) for s, c, h in zip(state, gates, values, strict=True)]


def answer(network: Any, series: list[list[float]], nodes: list[tuple[str, int]]) -> list[float]:
    """The answer for one series, number by number."""
    weights = {name: value.tolist() for name, value in network.named_parameters()}
    state = [0.0] * SIZE.channels
    for inputs in series:
        both = [
            dot(row, inputs) + bias + dot(own, state)
            for row, bias, own in zip(
                weights["inputs.weight"], weights["inputs.bias"], weights["state.weight"], strict=True
            )
        ]
        states = [gated(state, both, "tanh")]
        for place, (name, source) in enumerate(nodes):
            both = [dot(row, states[source]) for row in weights[f"nodes.{place}.weight"]]
            states.append(gated(states[source], both, name))
        state = [sum(values) / len(nodes) for values in zip(*states[1:], strict=True)]
    rows = zip(weights["classifier.weight"], weights["classifier.bias"], strict=True)
    return [dot(row, state) + bias for row, bias in rows]


def nodes_of(text: str) -> list[tuple[str, int]]:
    words = text.split()
    return [(name, int(source)) for name, source in zip(words[::2], words[1::2], strict=True)]


@pytest.mark.parametrize(
    "text", [*PUBLISHED.values(), "identity 0 tanh 0", "sigmoid 0"], ids=[*PUBLISHED, "two", "one"]
)
def test_a_cell_is_its_steps_written_out_number_by_number(text: str) -> None:
    nodes = nodes_of(text)
    space = RecurrentCell(len(nodes))
    genotype = space.parse("|" + "".join(f"{name}~{source}|" for name, source in nodes))
    assert space.parse(f"Genotype(recurrent={nodes}, concat=range(1, {len(nodes) + 1}))") == genotype
    network, x_BLC = shaken(space.network(genotype, SIZE)), drawn(2, 4, 2)
    expected = [answer(network, series, nodes) for series in x_BLC.tolist()]
    torch.testing.assert_close(network(x_BLC), torch.tensor(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=[2])",
        "Genotype(recurrent=[('tanh', 0), ('relu', 0.9)])",
        "Genotypes(recurrent=[('tanh', 0), ('relu', 1)])",
        "Genotype(recurrent=__import__('os').system('true'))",
        "Genotype(recurrent=[('tanh', 0), ('relu', 2)])",
        "Genotype(recurrent=[('tanh', 0)])",
        "Genotype(recurrent=[('tanh', 0), ('none', 1)])",
    ],
    ids=["concat", "fraction", "name", "call", "later", "short", "none"],
)
def test_a_literal_that_says_something_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(cell|node [12]|concat|recurrent)\b"):
        RecurrentCell(2).parse(text)


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_the_mixture_is_the_mean_over_edges_of_the_weighted_sum_over_activations(share: float) -> None:
    """A node is the mean over edges in use of the weighted sum of s + c (f(h) - s) over activations f, none aside."""
    space = RecurrentCell(3)
    network, x_BLC = shaken(space.supernet(SIZE)), drawn(2, 4, 2)
    weights_EO = drawn(6, 5, seed=2).abs()
    active_EO = torch.rand(6, 5, generator=torch.Generator().manual_seed(3)) <= share
    functions: list[Callable[[Tensor], Tensor]] = [torch.zeros_like, torch.tanh, torch.relu, torch.sigmoid, lambda h: h]
    state = torch.zeros(2, 3)
    for inputs in x_BLC.unbind(1):
        gate, h = (network.inputs(inputs) + network.state(state)).split(3, dim=1)
        states = [state + gate.sigmoid() * (h.tanh() - state)]
        edge = 0
        for target in range(1, 4):
            total, whole = torch.zeros(2, 3), 0
            for source in range(target):
                whole += int(active_EO[edge].any())
                gate, h = network.nodes[target - 1](states[source]).split(3, dim=1)
                for place in range(1, 5):
                    if active_EO[edge, place]:
                        after = states[source] + gate.sigmoid() * (functions[place](h) - states[source])
                        total = total + weights_EO[edge, place] * after
                edge += 1
            states.append(total / max(1, whole))
        state = (states[1] + states[2] + states[3]) / 3
    found = network(x_BLC, EdgeWeights(weights_EO, tuple(map(tuple, active_EO.tolist()))))
    torch.testing.assert_close(found, network.classifier(state), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "space", [RecurrentCell(3), RecurrentNetworks(widths=(1, 2, 4), layers=(1, 2))], ids=["cell", "networks"]
)
def test_the_gradient_by_alphas_agrees_with_finite_differences(space: Any) -> None:
    """Central differences of a loss, one architecture parameter after the other."""
    network, x_BLC = shaken(space.supernet(SIZE)), drawn(2, 4, 2)
    alpha_EO = drawn(len(space.edge_names), len(space.candidates), seed=4)
    direction = drawn(2, 2, seed=5)

    def loss(alpha_EO: Tensor) -> Tensor:
        weights = EdgeWeights.dense(alpha_EO.softmax(dim=-1))
        if space.allowed_EO is not None:
            weights = weights.allowed(space.allowed_EO)
        return (network(x_BLC, weights) * direction).sum()

    leaf = alpha_EO.clone().requires_grad_()
    loss(leaf).backward()
    step, expected = 1e-5, torch.zeros_like(alpha_EO)
    with torch.no_grad():
        for place in range(alpha_EO.numel()):
            change = torch.zeros(alpha_EO.numel())
            change[place] = step
            change = change.view_as(alpha_EO)
            expected.view(-1)[place] = (loss(alpha_EO + change) - loss(alpha_EO - change)) / (2 * step)
    assert expected.count_nonzero() > expected.numel() / 2
    torch.testing.assert_close(leaf.grad, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("choice", ["tanh", "none"])
def test_where_one_operation_has_all_weight_every_edge_still_learns_within_bounds(choice: str) -> None:
    """Weights of one with the gradients of soft ones, as relaxations that sample have them, on none too."""
    space = RecurrentCell(2)
    network, x_BLC = shaken(space.supernet(SIZE)), drawn(2, 4, 2)
    place = space.candidates.index(choice)
    soft_EO = drawn(3, 5, seed=6).softmax(dim=-1).requires_grad_()
    hard_EO = torch.zeros(3, 5)
    hard_EO[:, place] = 1
    active = ((True,) * 5,) * 3 if choice == "none" else (tuple(o == place for o in range(5)),) * 3
    answers = network(x_BLC, EdgeWeights(hard_EO, active).backwards(soft_EO))
    (answers * drawn(2, 2, seed=5)).sum().backward()
    assert soft_EO.grad is not None
    assert bool(soft_EO.grad.isfinite().all())
    assert float(soft_EO.grad.abs().max()) < 1e3
    if choice != "none":
        assert all(row.count_nonzero() for row in soft_EO.grad)


# --- Networks of layers


@pytest.mark.parametrize("activation", ["identity", "tanh", "relu"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", LAYERS)
def test_networks_of_layers_are_the_stacked_ones_of_another_library_call(
    kind: str, layers: int, activation: str
) -> None:
    """Numbers, multiply-adds and answers of one call of PyTorch's layer with a depth, and a linear layer behind it."""
    space = RecurrentNetworks(widths=(5,), dropouts=(0.2,))
    genome = space.parse(f"{kind}/layers={layers}/width=5/dropout=0.2/{activation}")
    network = shaken(space.network(genome, SIZE))
    whole, linear = LAYERS[kind](2, 5, layers, batch_first=True), nn.Linear(5, 2)
    numbers = sum(parameter.numel() for module in (whole, linear) for parameter in module.parameters())
    per_step = GATES[kind] * 5 * (2 + 5 + (layers - 1) * (5 + 5))
    assert space.cost(genome, SIZE) == Cost(numbers, 4 * per_step + 5 * 2)
    assert sum(parameter.numel() for parameter in network.parameters()) == numbers
    tensors = dict(network.named_parameters())
    for place in range(layers):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(whole, f"{name}_l{place}").data.copy_(tensors.pop(f"layers.{kind}{place}.{name}_l0").data)
    linear.load_state_dict({name.removeprefix("classifier."): value for name, value in tensors.items()})
    x_BLC = drawn(2, 4, 2)
    last_BH = whole(x_BLC)[0][:, -1]
    last_BH = {"identity": last_BH, "tanh": last_BH.tanh(), "relu": last_BH.clamp(min=0)}[activation]
    torch.testing.assert_close(network(x_BLC), linear(last_BH), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", LAYERS)
@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_a_mask_of_ones_changes_nothing(kind: str, width: int, columns: int, batch: int, steps: int, seed: int) -> None:
    layer = shaken(LAYERS[kind](columns, width), seed)
    x_LBC = drawn(steps, batch, columns, seed=seed)
    found = masked(layer, x_LBC, torch.ones(width), kind)
    torch.testing.assert_close(found, layer(x_LBC)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("width", [1, 3, 5])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_narrow_mask_is_a_narrow_layer(kind: str, width: int) -> None:
    """Values, and gradients too: rows of the others get none."""
    layer, narrow = shaken(LAYERS[kind](2, 5)), LAYERS[kind](2, width)
    rows = [gate * 5 + number for gate in range(GATES[kind]) for number in range(width)]
    for name, own in narrow.named_parameters():
        value = getattr(layer, name).data[rows]
        own.data.copy_(value[:, : own.shape[1]] if own.dim() == 2 else value)
    x_LBC, direction = drawn(6, 3, 2), drawn(6, 3, width, seed=2)
    found_LBH = masked(layer, x_LBC, torch.tensor([1.0] * width + [0.0] * (5 - width)), kind)
    expected_LBH = narrow(x_LBC)[0]
    torch.testing.assert_close(found_LBH[..., :width], expected_LBH, rtol=1e-12, atol=1e-12)
    assert found_LBH[..., width:].count_nonzero() == 0
    (found_LBH[..., :width] * direction).sum().backward()
    (expected_LBH * direction).sum().backward()
    for name, own in narrow.named_parameters():
        gradient = getattr(layer, name).grad
        mine = gradient[rows][:, : own.shape[1]] if own.dim() == 2 else gradient[rows]
        torch.testing.assert_close(mine, own.grad, rtol=1e-10, atol=1e-12)
        assert gradient.count_nonzero() == mine.count_nonzero()


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_narrow_network_computes_what_the_mixture_computes_at_its_genome(training: bool) -> None:
    """Every width, depth, kind and activation, and gradients of what both have."""
    space = RecurrentNetworks(widths=(2, 3, 5), dropouts=(0.0,))
    supernet, x_BLC = shaken(space.supernet(SIZE)).train(training), drawn(2, 4, 2)
    rng = random.Random(0)
    for genome in {space.sample(rng) for _ in range(25)}:
        supernet.zero_grad(set_to_none=True)
        network = supernet.inherit(genome)
        assert network.training == training
        path = EdgeWeights.one_hot(list(space.path(genome)), len(space.candidates))
        found, expected = supernet(x_BLC, path), network(x_BLC)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        for answers in (found, expected):
            answers.square().sum().backward()
        norms = [
            sum(float(p.grad.square().sum()) for p in module.parameters() if p.grad is not None)
            for module in (supernet, network)
        ]
        assert norms[0] == pytest.approx(norms[1], rel=1e-9)
