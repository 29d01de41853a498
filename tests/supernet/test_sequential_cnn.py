"""Sequential genomes: constraints under long rows of operators, closed formulas, and a network written out by hand."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from supernet.genomes import Genome, Layer
from supernet.size import Cost, NetworkSize
from supernet.spaces.sequential_cnn import SequentialCnn

FILTERS, KERNELS, ACTIVATIONS, MOST = (4, 6, 10), (1, 3, 5), ("relu", "gelu", "tanh"), 6
SPACE = SequentialCnn(FILTERS, KERNELS, ACTIVATIONS, MOST)
OPERATORS = ("swap", "invert", "filters", "layer", "add", "remove", "mutate", "crossover")
PATTERN = re.compile(r"(?:[NR](?:4|6|10)-[135]-(?:relu|gelu|tanh)(?:\+|$)){2,6}")


def fits(genome: Genome) -> bool:
    """The constraints, read from the text alone."""
    text = str(genome)
    return PATTERN.fullmatch(text) is not None and text.count("R") == 2 and not text.endswith("+")


def parts(genome: Genome) -> list[str]:
    """Texts of the layers up to the first reduction, up to the second, and behind it."""
    cut = [place + 1 for place, layer in enumerate(genome.layers) if str(layer).startswith("R")]
    ends = [0, *cut, len(genome.layers)]
    return ["+".join(map(str, genome.layers[a:b])) for a, b in itertools.pairwise(ends)]


def is_change(name: str, before: Genome, after: Genome) -> bool:
    """Whether an operator did what its name says, and nothing else."""
    old, new = before.layers, after.layers
    differing = [place for place, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]]
    one_layer = len(old) == len(new) and len(differing) <= 1 and parity(old) == parity(new)
    match name:
        case "swap":
            first, last = (differing or [0, 0])[0], (differing or [0, 0])[-1]
            return len(differing) in (0, 2) and (old[first], old[last]) == (new[last], new[first])
        case "invert":
            if not differing:
                return old == new
            first, last = differing[0], differing[-1]
            return len(old) == len(new) and old[first : last + 1] == new[first : last + 1][::-1]
        case "filters":
            return one_layer and len(differing) == 1 and old[differing[0]][2:] == new[differing[0]][2:]
        case "layer":
            return one_layer
        case "add":
            return one_layer if len(old) == MOST else any(new[:p] + new[p + 1 :] == old for p in range(len(new)))
        case "remove":
            return one_layer if len(old) == 2 else any(old[:p] + old[p + 1 :] == new for p in range(len(old)))
    return any(is_change(one, before, after) for one in OPERATORS[:6])


def parity(layers: tuple[Layer, ...]) -> str:
    return "".join(str(layer)[0] for layer in layers)


@given(st.integers(0, 2**32), st.lists(st.sampled_from(OPERATORS), min_size=20, max_size=120))
@settings(max_examples=60, deadline=None)
def test_no_row_of_operators_breaks_a_constraint(seed: int, names: list[str]) -> None:
    rng = random.Random(seed)
    genome, other = SPACE.sample(rng), SPACE.sample(rng)
    assert fits(genome)
    assert fits(other)
    for name in names:
        if name == "crossover":
            child = SPACE.crossover(genome, other, rng)
            choices = list(zip(parts(genome), parts(other), strict=True))
            if len(child.layers) < MOST:
                assert all(part in pair for part, pair in zip(parts(child), choices, strict=True))
            genome, other = child, genome
        else:
            changed = SPACE.mutations[name](genome, rng)
            assert is_change(name, genome, changed)
            genome = changed
        assert fits(genome)
        SPACE.check(genome)


def test_every_operator_is_offered_by_name() -> None:
    assert set(SPACE.mutations) == set(OPERATORS) - {"crossover"}


def test_a_child_with_too_many_layers_loses_normal_ones_from_its_end() -> None:
    """Three layers before the reductions of one parent, three behind those of the other, and at most six in all."""
    begin, middle, end = "N4-1-relu+N6-1-relu+N10-1-relu", "R4-1-tanh+R6-1-tanh", "N4-5-gelu+N6-5-gelu+N10-5-gelu"
    first, second = SPACE.parse(f"{begin}+{middle}"), SPACE.parse(f"{middle}+{end}")
    found = {str(SPACE.crossover(first, second, random.Random(seed))) for seed in range(60)}
    assert found == {f"{begin}+{middle}", f"{middle}+{end}", middle, f"{begin}+{middle}+N4-5-gelu"}


# --- Rows of decisions


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_every_walk_through_the_options_ends_in_a_genome_of_the_space(data: st.DataObject) -> None:
    row: list[int] = []
    while count := SPACE.options(row):
        row.append(data.draw(st.integers(0, count - 1)))
    genome = SPACE.decided(row)
    assert fits(genome)
    assert SPACE.decisions(genome) == tuple(row)
    assert len(row) == 4 * len(genome.layers) + (len(genome.layers) < MOST)


def test_the_walks_reach_every_genome_once() -> None:
    """Of n layers there are C(n, 2) places of the reductions and, with two filters, 2^n choices."""
    space = SequentialCnn((4, 8), (3,), ("relu",), 5)

    def complete(row: list[int]) -> list[list[int]]:
        count = space.options(row)
        return [end for choice in range(count) for end in complete([*row, choice])] if count else [row]

    texts = Counter(str(space.decided(row)) for row in complete([]))
    assert set(texts.values()) == {1}
    assert len(texts) == sum(math.comb(n, 2) * 2**n for n in range(2, 6))
    codes = {tuple(space.encode(space.parse(text))) for text in texts}
    assert len(codes) == len(texts)


# --- Texts

REFUSED = {
    "N4-3-relu+R6-3-relu+X4-3-relu": "^gene 3: got 'X4-3-relu'",
    "N4-3-relu+R6-3+R4-3-relu": "^gene 2: got 'R6-3'",
    "N4-3-relu++R4-3-relu": "^gene 2: got ''",
    "N-4-3-relu": "^gene 1: got",
    "N4-3-relu+R5-3-relu+R4-3-relu": "^gene 2, R5-3-relu: the filters 5 is not in this space; allowed are 4, 6, 10$",
    "N4-7-relu+R4-3-relu+R4-3-relu": "^gene 1, N4-7-relu: the kernel 7 .* allowed are 1, 3, 5$",
    "N4-3-relu+R4-3-relu+R4-3-swish": "^gene 3, R4-3-swish: the activation swish .* allowed are relu, gelu, tanh$",
    "N4-3-relu+R4-3-relu": "got 1 reduction layers; give exactly 2$",
    "N4-3-relu": "got 0 reduction layers; give exactly 2$",
    "R4-3-relu+R4-3-relu+R4-3-relu": "got 3 reduction layers; give exactly 2$",
    "+".join(["R4-3-relu"] * 2 + ["N4-3-relu"] * 5): "got 7 layers; give at most 6$",
    "+".join(["N4-3-relu"] * 1200): "got 11999 characters",
    "": "^gene 1: got ''",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_messages_name_the_gene(text: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[text]):
        SPACE.parse(text)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("filters", []), ("filters", [4, 4]), ("filters", [0]), ("filters", [4.0]), ("kernels", [2]), ("kernels", [13]),
        ("activations", ["elu"]), ("most_layers", 2), ("most_layers", 65),
    ],
)  # fmt: skip
def test_spaces_that_no_layer_fits_are_refused(name: str, values: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: got"):
        SequentialCnn(**{name: values})


# --- Networks

WHOLE = "N5-3-relu+R7-5-sigmoid+N4-1-tanh+R6-7-swish+N3-3-gelu"
WIDE = SequentialCnn((3, 4, 5, 6, 7), (1, 3, 5, 7))
FUNCTIONS = {
    "relu": lambda x: x.clamp(min=0),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "tanh": lambda x: 1 - 2 / ((2 * x).exp() + 1),
    "swish": lambda x: x / (1 + (-x).exp()),
    "gelu": lambda x: x / 2 * (1 + torch.erf(x / 2**0.5)),
}


def genes(text: str) -> list[tuple[int, int, int, str]]:
    """Stride, filters, kernel and activation of every layer."""
    found = re.findall(r"([NR])(\d+)-(\d+)-([a-z]+)", text)
    return [(1 + (kind == "R"), int(filters), int(kernel), name) for kind, filters, kernel, name in found]


@pytest.mark.parametrize("side", [4, 9, 32])
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(2, 12))
@settings(max_examples=15, deadline=None)
def test_costs_are_closed_formulas(side: int, seed: int, colours: int, classes: int) -> None:
    """Convolutions without bias, two numbers a filter for the normalisation, 64 hidden units."""
    genome = WIDE.sample(random.Random(seed))
    params = flops = 0
    before, pixels = colours, side
    for stride, filters, kernel, _ in genes(str(genome)):
        pixels = math.ceil(pixels / stride)
        params += before * filters * kernel**2 + 2 * filters
        flops += before * filters * kernel**2 * pixels**2
        before = filters
    hidden = 64 * before, 64 * classes
    expected = Cost(params + sum(hidden) + 64 + classes, flops + sum(hidden))
    assert WIDE.cost(genome, NetworkSize(99, 99, classes, colours, side)) == expected


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_the_network_is_the_genome_written_out(training: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    network = WIDE.network(WIDE.parse(WHOLE), NetworkSize(1, 1, 3, 2, 9)).double().train(training)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5, generator=generator)
    tensors = iter([value.clone() for value in network.state_dict().values() if value.is_floating_point()])
    x_BCHW: Tensor = torch.randn(2, 2, 9, 9, generator=generator, dtype=torch.float64) / 9
    found = network(x_BCHW)
    for stride, _, kernel, name in genes(WHOLE):
        padded = F.pad(x_BCHW, (kernel // 2,) * 4)
        x_BCHW = F.conv2d(padded, next(tensors), stride=stride)
        scale, shift, mean, variance = (next(tensors).view(1, -1, 1, 1) for _ in range(4))
        if training:
            mean = x_BCHW.mean((0, 2, 3), keepdim=True)
            variance = (x_BCHW - mean).square().mean((0, 2, 3), keepdim=True)
        x_BCHW = FUNCTIONS[name]((x_BCHW - mean) / (variance + 1e-5).sqrt() * scale + shift)
    assert x_BCHW.shape == (2, 3, 3, 3)
    hidden = (x_BCHW.mean((2, 3)) @ next(tensors).T + next(tensors)).clamp(min=0)
    torch.testing.assert_close(found, hidden @ next(tensors).T + next(tensors), rtol=1e-9, atol=1e-9)
    assert next(tensors, None) is None


@pytest.mark.parametrize("side", [1, 2, 3])
def test_images_too_small_for_two_reductions_are_refused(side: int) -> None:
    genome, size = WIDE.parse(WHOLE), NetworkSize(1, 1, 3, 2, side)
    with pytest.raises(ValueError, match=rf"^image_size: got {side}; .* give 4 or more"):
        WIDE.network(genome, size)
    with pytest.raises(ValueError, match=rf"^image_size: got {side}; .* give 4 or more"):
        WIDE.cost(genome, size)
