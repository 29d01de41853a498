"""DARTS cells against published numbers, brute force, and networks written out by hand.

Shape suffixes: B batch, C channels, H height, W width, L cells, E edges, O operations.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from darts.command.config import compose_config
from darts.run.parts import build_one
from supernet.cell import SearchCell
from supernet.darts_supernet import DartsSuperNet
from supernet.mixed_op import ReferenceCell
from supernet.norm import norm_factory
from supernet.operations import FactorizedReduce
from supernet.relaxations.base import EdgeWeights
from supernet.size import Cost, NetworkSize
from supernet.spaces.darts_cells import DartsCells

CIFAR, IMAGENET = NetworkSize(36, 20, 10, 3, 32), NetworkSize(48, 14, 1000, 3, 224)
SHORT = {
    "s3": "sep_conv_3x3", "s5": "sep_conv_5x5", "s7": "sep_conv_7x7", "d3": "dil_conv_3x3", "d5": "dil_conv_5x5",
    "id": "skip_connect", "max": "max_pool_3x3", "avg": "avg_pool_3x3", "x7": "conv_7x1_1x7",
}  # fmt: skip

# Name: normal cell, reduction cell, parameters and multiply-adds on CIFAR-10, parameters on ImageNet
PUBLISHED = {
    "DARTS_V1": (
        "s3 1 s3 0 id 0 s3 1 id 0 s3 1 s3 0 id 2", "max 0 max 1 id 2 max 0 max 0 id 2 id 2 avg 0",
        3_169_414, 500_987_520, 4_510_432,
    ),
    "DARTS_V2": (
        "s3 0 s3 1 s3 0 s3 1 s3 1 id 0 id 0 d3 2", "max 0 max 1 id 2 max 1 max 0 id 2 id 2 max 1",
        3_349_342, 528_359_040, 4_718_752,
    ),
    "P-DARTS": (
        "id 0 d3 1 id 0 s3 1 s3 1 s3 3 s3 0 d5 4", "avg 0 s5 1 s3 0 d5 2 max 0 d3 1 d3 1 d5 3",
        3_433_798, 532_174_464, 4_944_352,
    ),
    "PC-DARTS": (
        "s3 1 id 0 s3 0 d3 1 s5 0 s3 1 avg 0 d3 1", "s5 1 max 0 s5 1 s5 2 s3 0 s3 3 s3 1 s3 2",
        3_634_678, 556_670_592, 5_270_560,
    ),
    "DrNAS": (
        "s3 0 s5 1 s3 1 s3 2 id 0 s3 1 s3 2 d5 3", "max 0 s5 1 d5 2 s5 1 s5 1 d5 3 id 4 s5 1",
        4_099_294, 635_135_616, 5_738_464,
    ),
    "NASNet": (
        "s5 1 s3 0 s5 0 s3 0 avg 1 id 0 avg 0 avg 0 s3 1 id 1 > 2 3 4 5 6",
        "s5 1 s7 0 max 1 s7 0 avg 1 s5 0 id 3 avg 2 s3 2 max 1 > 4 5 6",
        3_830_950, 603_452_448, 5_564_320,
    ),
    "AmoebaNet": (
        "avg 0 max 1 s3 0 s5 2 s3 0 avg 3 s3 1 id 1 id 0 avg 1 > 4 5 6",
        "avg 0 s3 1 max 0 s7 2 s7 0 avg 1 max 0 max 1 x7 0 s3 5 > 3 4 6",
        3_145_078, 488_931_552, 4_627_360,
    ),
}  # fmt: skip


def space_of(name: str, *words: str) -> DartsCells:
    return build_one(compose_config("baseline", [f"space={name}", *words]), "space")  # type: ignore[no-any-return]


def literal(normal: str, reduce: str) -> str:
    """Two cells of `PUBLISHED` in the notation of the literature."""
    parts = []
    for kind, text in (("normal", normal), ("reduce", reduce)):
        edges, _, output = text.partition(" > ")
        words = edges.split()
        pairs = [(SHORT[name], int(source)) for name, source in zip(words[::2], words[1::2], strict=True)]
        concat = [int(node) for node in output.split()] if output else "range(2, 6)"
        parts.append(f"{kind}={pairs}, {kind}_concat={concat}")
    return f"Genotype({', '.join(parts)})"


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_genotypes_have_their_published_numbers(name: str) -> None:
    normal, reduce, params, flops, on_imagenet = PUBLISHED[name]
    config = "nasnet_cells" if ">" in normal else "darts_cells"
    space = space_of(config)
    genotype = space.parse(literal(normal, reduce))
    assert space.cost(genotype, CIFAR) == Cost(params, flops)
    larger = space_of(config, "+space.stem=imagenet" if config == "nasnet_cells" else "space.stem=imagenet")
    assert larger.cost(genotype, IMAGENET).params == on_imagenet
    ten = NetworkSize(48, 14, 10, 3, 224)
    assert on_imagenet - larger.cost(genotype, ten).params == 990 * (len(genotype.normal.output) * 192 + 1)


# --- Texts

FREE = DartsCells(5, list(SHORT.values()), distinct=False)
Cells = list[tuple[list[tuple[str, int]], list[int]]]


@st.composite
def cells(draw: st.DrawFn) -> Cells:
    """Two cells of five nodes: pairs of edges in any order, and the nodes that they give out."""
    name = st.sampled_from(sorted(SHORT.values()))
    found = []
    for _ in range(2):
        edges = [(draw(name), draw(st.integers(0, target - 1))) for target in range(2, 7) for _ in range(2)]
        found.append((edges, sorted(draw(st.sets(st.integers(2, 6), min_size=1)))))
    return found


@given(cells())
@settings(max_examples=60, deadline=None)
def test_both_texts_say_the_same_and_come_back(given_cells: Cells) -> None:
    words, halves = [], []
    for kind, (edges, output) in zip(("normal", "reduce"), given_cells, strict=True):
        words.append(f"{kind}={edges}, {kind}_concat={output}")
        nodes = [sorted(edges[place : place + 2], key=lambda edge: edge[::-1]) for place in range(0, 10, 2)]
        text = "+".join("|" + "|".join(f"{name}~{source}" for name, source in node) + "|" for node in nodes)
        halves.append(text + ("" if output == [2, 3, 4, 5, 6] else ">" + ".".join(map(str, output))))
    genotype = FREE.parse(f"Genotype({', '.join(words)})")
    assert str(genotype) == "/".join(halves)
    assert FREE.parse(str(genotype)) == FREE.parse(genotype.literal) == genotype
    for half, (edges, output) in zip(genotype, given_cells, strict=True):
        expected = [(source, 2 + place // 2, name) for place, (name, source) in enumerate(edges)]
        assert sorted(half.connections) == sorted(expected)
        assert list(half.output) == output


EVIL = (
    "Genotype(normal=__import__('os').system('true'), reduce=[])",
    "Genotype(normal=[('none', __import__('os').system('true'))], reduce=[])",
    "Genotype(normal=[], reduce=[], normal_concat=range(2, __import__('os').system('true')))",
    "Genotype(**__import__('os').system('true'))",
    "Genotype.__class__(normal=[], reduce=[])",
    "Genotype(normal=[('skip_connect', 0)] * 10**9, reduce=[])",
    "Genotype(" + "(" * 3000 + ")" * 3000 + ")",
)


@pytest.mark.parametrize("text", EVIL, ids=range(len(EVIL)))
def test_a_literal_is_never_evaluated(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(os, "system", called.append)
    with pytest.raises(ValueError, match=r"^(cell|normal|normal_concat|reduce)\b"):
        DartsCells().parse(text)
    assert not called


NODE = "|skip_connect~0|skip_connect~1|"
MALFORMED = {
    f"{NODE}+|skip_connect~0|/{NODE}+{NODE}": "normal cell, node 3: expected",
    f"{NODE}+{NODE}/{NODE}+skip_connect~0": "reduce cell, node 3: expected",
    f"{NODE}+{NODE}/|skip_connect~0|skip_connect~2|+{NODE}": "reduce cell, node 2: skip_connect comes from 2",
    f"|conv~0|skip_connect~1|+{NODE}/{NODE}+{NODE}": "normal cell, node 2: unknown operation 'conv' from 0",
    f"{NODE}+{NODE}/{NODE}+|none~0|skip_connect~1|": "reduce cell, node 3: unknown operation 'none' from 0",
    f"{NODE}+|skip_connect~2|avg_pool_3x3~2|/{NODE}+{NODE}": "normal cell, node 3: both edges come from 2",
    f"{NODE}+{NODE}>2/{NODE}+{NODE}": r"normal cell: it gives out \[2\]",
    f"{NODE}+{NODE}/{NODE}+{NODE}>2.9": r"reduce cell, output: got \[2, 9\]",
    f"{NODE}/{NODE}+{NODE}": "normal cell: got 1 nodes; the space has 2",
    f"{NODE}+{NODE}": "got 1 cells, joined by '/'",
    "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|avg_pool_3x3~1|none~2|": "got 1 cells, joined by '/'",
    "Genotype(normal=[('skip_connect', 0)], reduce=[])": "normal cell, a cell has two edges a node",
    "Genotype(normal=[('skip_connect', 0), ('skip_connect', 5)], reduce=[])": "normal cell, node 2: .* from 5",
    "Genotype(normal=[('skip_connect', True)], reduce=[])": "normal: expected a list of pairs",
    "Genotype(normal=[])": "look at reduce",
    "Genotype(normal=[], reduce=[], recurrent=[])": "look at recurrent",
}  # fmt: skip


@pytest.mark.parametrize("text", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_texts_name_the_kind_of_cell_and_the_node(text: str) -> None:
    with pytest.raises(ValueError, match=MALFORMED[text]):
        DartsCells(2, ("none", "skip_connect", "avg_pool_3x3")).parse(text)


# --- Derivation


@pytest.mark.parametrize("operations", [("none", "skip_connect", "avg_pool_3x3"), ("max_pool_3x3", "none")])
def test_the_strongest_genotype_is_the_heaviest_of_all(operations: Sequence[str]) -> None:
    """None is by far the heaviest operation everywhere; all genotypes of two nodes are weighed."""
    space = DartsCells(2, operations)
    everything, generator = list(space), torch.Generator().manual_seed(0)
    assert len(everything) == len(set(everything)) == (3 * (len(operations) - 1) ** 4) ** 2
    names = ["normal 2<-0", "normal 2<-1", "normal 3<-0", "normal 3<-1", "normal 3<-2"]
    assert list(space.edge_names) == names + [name.replace("normal", "reduce") for name in names]
    for _ in range(5):
        weights_EO = torch.rand(10, len(operations), generator=generator)
        weights_EO[:, operations.index("none")] += 5
        weight = {
            (*name.replace("<-", " ").split(), operation): value
            for name, row in zip(space.edge_names, weights_EO.tolist(), strict=True)
            for operation, value in zip(operations, row, strict=True)
        }
        totals = [
            sum(
                weight[kind, str(target), str(source), name]
                for kind, edges in space.connections(genotype).items()
                for source, target, name in edges
            )
            for genotype in everything
        ]
        assert space.strongest(weights_EO.tolist()) == everything[max(range(len(totals)), key=totals.__getitem__)]


S1 = (
    ("id d3", "id d5", "id d5", "id s3", "id d3", "max id", "id s3", "id s3", "id d3", "id s3", "max id", "id d3",
     "d3 d5", "d3 d5"),
    ("max avg", "max d3", "max avg", "max avg", "id d5", "max avg", "max s3", "id d3", "id d5", "max avg", "max avg",
     "id d5", "id d5", "id d5"),
)  # fmt: skip


def test_the_first_space_of_robust_darts_is_the_published_one_and_nothing_leaves_it() -> None:
    """Two operations an edge (Zela et al. 2020, arXiv:1909.09656, figures 10 and 11)."""
    space, rng = space_of("robust_darts_s1"), random.Random(0)
    assert space.allowed_EO is not None
    assert all(sum(row) == 2 for row in space.allowed_EO)
    marked = [{name for name, mark in zip(space.candidates, row, strict=True) if mark} for row in space.allowed_EO]
    assert marked == [{SHORT[word] for word in words.split()} for words in itertools.chain(*S1)]
    allowed = dict(zip(space.edge_names, marked, strict=True))
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        heavy_EO = torch.randn(28, len(space.candidates), generator=generator)
        for genotype in (space.sample(rng), space.strongest(heavy_EO.tolist())):
            for kind, edges in space.connections(genotype).items():
                assert all(name in allowed[f"{kind} {target}<-{source}"] for source, target, name in edges)


# --- The search network

ALL = DartsCells().operations
POOLS = ("none", "skip_connect", "max_pool_3x3", "avg_pool_3x3")


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shaken(module: nn.Module, training: bool, seed: int = 0) -> Any:
    """The module in float64 with drawn weights and running statistics."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.double().state_dict(keep_vars=True).items():
        if value.is_floating_point():
            value.data.normal_(generator=generator)
        if name.endswith("running_var"):
            value.abs_().add_(0.5)
    return module.train(training)


def first_of(value: Tensor, like: Tensor) -> Tensor:
    return value[tuple(slice(size) for size in like.shape)]


def assert_equal(cell: SearchCell, active_EO: Tensor, side: tuple[int, int], partial: int = 1) -> None:
    """The search cell against the plain one with C / partial channels: values, statistics, every gradient."""
    wiring, channels = cell.cell, cell.channels // partial
    plain = ReferenceCell(wiring, channels, cell.norm).double().train(cell.training)
    pairs = []
    for edge, (source, _) in enumerate(wiring.edges):
        for place in range(len(wiring.candidates)):
            theirs = plain.edges[edge].candidates[place].state_dict(keep_vars=True)  # type: ignore[index, union-attr]
            key, other = f"{edge}:{place}", f"{source}:{place}"
            mine = cell.single[key] if key in cell.single else dict(cell.shared.items()).get(other)
            assert mine is not None or not theirs
            own = {} if mine is None else mine.state_dict(keep_vars=True)
            pairs += [(own[name], value, bool(active_EO[edge, place])) for name, value in theirs.items()]
    for own_value, value, _ in pairs:
        value.data.copy_(first_of(own_value.data, value))
    weights_EO = drawn(*active_EO.shape)
    leaves = []
    for function in (cell, plain):
        inputs = [drawn(2, cell.channels, *side, seed=seed).requires_grad_() for seed in (2, 3)]
        given_EO = weights_EO.clone().requires_grad_()
        marks = (tuple(map(tuple, active_EO.tolist())),) if function is cell else ()
        out = function(inputs, given_EO if marks else given_EO * active_EO, *marks, partial=partial)
        nothing = sum(0 * leaf.sum() for leaf in (*inputs, given_EO))
        ((out * drawn(*out.shape, seed=4)).sum() + nothing).backward()
        leaves.append([out, *(leaf.grad for leaf in (*inputs, given_EO))])
    for own_value, value, used in pairs:
        if isinstance(value, nn.Parameter):
            own_gradient = torch.zeros_like(own_value) if own_value.grad is None else own_value.grad
            leaves[0].append(first_of(own_gradient, value))
            leaves[1].append(torch.zeros_like(value) if value.grad is None else value.grad)
            assert own_gradient.count_nonzero() == leaves[0][-1].count_nonzero()
        elif used:
            leaves[0].append(first_of(own_value, value))
            leaves[1].append(value)
    torch.testing.assert_close(*leaves, rtol=1e-10, atol=1e-10)


def wired(kind: str, operations: Sequence[str], nodes: int = 3) -> Any:
    return DartsCells(nodes, operations).cells[kind]


@pytest.mark.parametrize("side", [(4, 4), (5, 3)])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("mode", ["batch", "running"])
@pytest.mark.parametrize("kind", ["normal", "reduce"])
def test_search_cells_equal_the_plain_ones(kind: str, mode: str, training: bool, side: tuple[int, int]) -> None:
    cell = shaken(SearchCell(wired(kind, ALL), 3, norm_factory(mode, affine=False)), training)
    assert_equal(cell, torch.ones(9, len(ALL), dtype=torch.bool), side)


@pytest.mark.parametrize("operations", [ALL, POOLS], ids=["all", "pools"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("mode", ["batch", "running"])
@pytest.mark.parametrize("kind", ["normal", "reduce"])
def test_sparse_search_cells_equal_the_plain_ones(
    kind: str, mode: str, training: bool, operations: Sequence[str]
) -> None:
    """Two edges into every node, one operation each, then a first node that nothing reaches."""
    choice_E = [1, 2, -1, 3, 2, 2, 0, -1, 3]
    for dead in (False, True):
        active_EO = torch.tensor([[place == choice for place in range(len(operations))] for choice in choice_E])
        active_EO[:2] &= not dead
        cell = shaken(SearchCell(wired(kind, operations), 3, norm_factory(mode, affine=False)), training)
        assert_equal(cell, active_EO, (4, 4))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("mode", ["batch", "running"])
@pytest.mark.parametrize("kind", ["normal", "reduce"])
def test_search_cells_with_partial_channels_equal_plain_ones_of_half_the_channels(
    kind: str, mode: str, training: bool
) -> None:
    operations = [name for name in ALL if kind == "normal" or name != "skip_connect"]
    cell = shaken(SearchCell(wired(kind, operations), 4, norm_factory(mode, affine=False)), training)
    for side in ((4, 4), (5, 3)):
        assert_equal(cell, torch.ones(9, len(operations), dtype=torch.bool), side, partial=2)
        cell.zero_grad()


def test_skips_of_a_reduction_cell_see_even_and_odd_pixels_with_partial_channels() -> None:
    """A skip of C / k channels has half of them from even and half from odd pixels (PC-DARTS, arXiv:1907.05737)."""
    cell = shaken(SearchCell(wired("reduce", ("skip_connect",), 1), 4, norm_factory("batch", affine=False)), True)
    inputs = [drawn(2, 4, 4, 4, seed=seed).requires_grad_() for seed in (2, 3)]
    active = ((True,),) * 2
    out = cell(inputs, torch.ones(2, 1, dtype=torch.float64), active, partial=2)
    (out * drawn(*out.shape, seed=4))[:, ::2].sum().backward()  # the shuffle puts what was computed at even places
    for image in inputs:
        assert image.grad is not None
        even, odd = (int(image.grad[:, :2, first::2, first::2].count_nonzero()) for first in (0, 1))
        assert image.grad[:, 2:].count_nonzero() == 0
        assert (even > 0, odd > 0) == (True, True)


def normalised(x_BCHW: Tensor, norm: nn.Module | None = None) -> Tensor:
    """By the statistics of the batch."""
    centred = x_BCHW - x_BCHW.mean((0, 2, 3), keepdim=True)
    found = centred / (centred.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
    if norm is None:
        return found
    return found * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)  # type: ignore[operator]


def brought(module: Any, x_BCHW: Tensor) -> Tensor:
    """What stands between the cells, by slices and plain convolutions."""
    x_BCHW = x_BCHW.clamp(min=0)
    if isinstance(module, FactorizedReduce):
        even, odd = x_BCHW[:, :, ::2, ::2], x_BCHW[:, :, 1::2, 1::2]
        return normalised(torch.cat([F.conv2d(even, module.even.weight), F.conv2d(odd, module.odd.weight)], dim=1))
    return normalised(F.conv2d(x_BCHW, module[1].weight))


@pytest.mark.parametrize("each", [False, True], ids=["shared", "a-set-a-cell"])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_the_supernet_is_stem_cells_and_classifier_written_out(stem: str, each: bool) -> None:
    """Six cells, of which the third and the fifth halve the image and double the channels."""
    space = DartsCells(2, stem=stem)
    side = 8 if stem == "cifar" else 64
    network: Any = DartsSuperNet(space, NetworkSize(2, 6, 3, 3, side), stem=stem)
    shaken(network, training=True)
    x_BCHW = drawn(2, 3, side, side, seed=5)
    weights = drawn(*((6,) if each else ()), 10, 8, seed=6).softmax(dim=-1)
    if stem == "cifar":
        conv, norm = network.stem[0]
        older = newer = normalised(F.conv2d(x_BCHW, conv.weight, padding=1), norm)
    else:
        one, norm_one, _, two, norm_two = network.stem[0]
        older = normalised(F.conv2d(x_BCHW, one.weight, stride=2, padding=1), norm_one).clamp(min=0)
        older = normalised(F.conv2d(older, two.weight, stride=2, padding=1), norm_two)
        _, three, norm_three = network.stem[1]
        newer = normalised(F.conv2d(older.clamp(min=0), three.weight, stride=2, padding=1), norm_three)
    for number, layer in enumerate(network.layers):
        own_EO = weights[number] if each else weights
        own_EO = own_EO[5:] if number in (2, 4) else own_EO[:5]
        inputs = [brought(module, x) for module, x in zip(layer.preprocess, (older, newer), strict=True)]
        older, newer = newer, layer.cell.reference()(inputs, own_EO)
        scale = 1 + (number >= 2) + 2 * (number >= 4)
        assert newer.shape[1:] == (2 * 2 * scale, 8 // scale, 8 // scale)
    expected = F.linear(newer.mean((2, 3)), network.classifier.weight, network.classifier.bias)
    torch.testing.assert_close(network(x_BCHW, EdgeWeights.dense(weights)), expected, rtol=1e-9, atol=1e-9)
