from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from supernet.genotype import Genotype
from supernet.relaxations.base import EdgeWeights
from supernet.size import Cost, NetworkSize
from supernet.spaces.base import ABILITIES, Space, require
from supernet.spaces.cells import CellSpace
from supernet.wiring import Cell

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines are noisy

BENCHMARK = CellSpace()
MANY = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3", "max_pool_3x3", "dil_conv_5x5"]

spaces = st.builds(CellSpace, st.integers(2, 6), st.lists(st.sampled_from(MANY), min_size=2, max_size=7, unique=True))
randoms = st.integers(0, 2**32).map(random.Random)


@st.composite
def spaces_and_cells(draw: st.DrawFn, cells: int = 1) -> tuple[CellSpace, list[Genotype]]:
    space = draw(st.one_of(st.just(BENCHMARK), spaces))
    indices = [draw(st.integers(0, len(space.operations) ** len(space.edges) - 1)) for _ in range(cells)]
    return space, [Genotype.from_index(index, space.operations, space.num_nodes) for index in indices]


def distance(first: Genotype, second: Genotype) -> int:
    assert len(first.operations) == len(second.operations)
    return sum(mine != theirs for mine, theirs in zip(first.operations, second.operations, strict=True))


def test_the_default_is_the_benchmark(table_rows: list[dict[str, str]]) -> None:
    assert BENCHMARK.num_nodes == 4
    assert BENCHMARK.operations == ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    assert BENCHMARK.edges == ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    assert BENCHMARK.size == 15625
    cells = list(BENCHMARK)
    assert {str(cell) for cell in cells} == {row["cell"] for row in table_rows}
    assert [BENCHMARK.index(cell) for cell in cells] == list(range(15625))


@pytest.mark.parametrize(
    ("num_nodes", "operations", "size"), [(2, "ab", 2), (3, "abc", 27), (3, "ab", 8), (4, "ab", 64)]
)
def test_size_counts_all_cells(num_nodes: int, operations: str, size: int) -> None:
    space = CellSpace(num_nodes, list(operations))
    assert space.size == size == len({str(cell) for cell in space})
    assert all(cell.num_nodes == num_nodes for cell in space)


def test_spaces_compare_by_nodes_and_operations() -> None:
    assert CellSpace() == BENCHMARK
    assert len({CellSpace(), BENCHMARK}) == 1
    assert CellSpace(3) != BENCHMARK
    assert CellSpace(4, ["skip_connect", "none"]) != CellSpace(4, ["none", "skip_connect"])
    assert BENCHMARK.describe() == {"num_nodes": 4, "operations": list(BENCHMARK.operations)}


# --- Canonical form


def test_canonical_forms_are_exactly_the_tables_classes(table_rows: list[dict[str, str]]) -> None:
    classes_of_form, forms_of_class = defaultdict(set), defaultdict(set)
    for row in table_rows:
        form = BENCHMARK.canonical_form(BENCHMARK.parse(row["cell"]))
        classes_of_form[form].add(row["topology"])
        forms_of_class[row["topology"]].add(form)
    assert all(len(classes) == 1 for classes in classes_of_form.values())
    assert all(len(forms) == 1 for forms in forms_of_class.values())
    assert len(classes_of_form) == 6466


@pytest.mark.parametrize(
    ("cell", "form"),
    [
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", "#+#+#"),
        ("|nor_conv_3x3~0|", "(0)@nor_conv_3x3"),
        ("|skip_connect~0|", "0"),
        ("|skip_connect~0|+|skip_connect~0|skip_connect~1|", "0+0"),
        ("|none~0|+|nor_conv_1x1~0|nor_conv_1x1~1|", "#+(0)@nor_conv_1x1"),  # node 1 reads exactly #: a zero term
        ("|none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|", "#+#+#+#"),  # node 2 reads #+#, taken over whole
        ("|none~0|+|none~0|none~1|+|none~0|none~1|avg_pool_3x3~2|", "#+#+(#+#)@avg_pool_3x3"),  # #+# is not #
        (
            "|avg_pool_3x3~0|+|skip_connect~0|nor_conv_1x1~1|",
            "((0)@avg_pool_3x3)@nor_conv_1x1+0",  # sorted as text: "(" before "0"
        ),
    ],
)
def test_canonical_form_by_hand(cell: str, form: str) -> None:
    genotype = Genotype.parse(cell)
    assert CellSpace(genotype.num_nodes).canonical_form(genotype) == form


# --- Moves


@unhurried
@given(spaces_and_cells())
def test_neighbours_are_all_cells_at_distance_one(case: tuple[CellSpace, list[Genotype]]) -> None:
    space, [cell] = case
    neighbours = space.neighbours(cell)
    edges = space.num_nodes * (space.num_nodes - 1) // 2
    assert len(neighbours) == len(set(neighbours)) == edges * (len(space.operations) - 1)
    assert cell not in neighbours
    assert all(distance(cell, other) == 1 and set(other.operations) <= set(space.operations) for other in neighbours)
    assert all(cell in space.neighbours(other) for other in neighbours[::7])


def test_every_benchmark_cell_has_24_neighbours() -> None:
    for index in range(0, 15625, 97):
        cell = BENCHMARK.genotype(index)
        assert len({*BENCHMARK.neighbours(cell)} - {cell}) == len(BENCHMARK.neighbours(cell)) == 24


def test_neighbours_equal_a_brute_force_search() -> None:
    space = CellSpace(3, ["none", "skip_connect", "avg_pool_3x3"])
    for cell in space:
        expected = {other for other in space if distance(cell, other) == 1}
        assert set(space.neighbours(cell)) == expected


@unhurried
@given(spaces_and_cells(), randoms)
def test_a_mutation_changes_exactly_one_edge(case: tuple[CellSpace, list[Genotype]], rng: random.Random) -> None:
    space, [cell] = case
    before = cell.operations
    child = space.mutate(cell, rng)
    assert distance(cell, child) == 1
    assert set(child.operations) <= set(space.operations)
    assert cell.operations == before


@unhurried
@given(spaces_and_cells(cells=2), randoms)
def test_a_crossover_takes_each_edge_from_a_parent(case: tuple[CellSpace, list[Genotype]], rng: random.Random) -> None:
    space, [first, second] = case
    child = space.crossover(first, second, rng)
    assert distance(first, child) + distance(child, second) == distance(first, second)
    assert space.crossover(first, first, rng) == first


@unhurried
@given(st.one_of(st.just(BENCHMARK), spaces), st.integers(0, 2**32))
def test_a_sample_is_a_cell_of_the_space_and_repeats_with_its_seed(space: CellSpace, seed: int) -> None:
    cells = [space.sample(random.Random(seed)) for _ in range(2)]
    assert cells[0] == cells[1]
    assert cells[0].num_nodes == space.num_nodes
    assert space.parse(str(cells[0])) == cells[0]
    assert space.genotype(space.index(cells[0])) == cells[0]


@pytest.mark.parametrize("move", ["sample", "mutate", "crossover"])
def test_moves_use_the_given_generator_alone(move: str) -> None:
    parents = (BENCHMARK.genotype(0), BENCHMARK.genotype(15624))
    arguments = {"sample": (), "mutate": parents[:1], "crossover": parents}[move]
    state = random.getstate()
    draws = [
        [str(getattr(BENCHMARK, move)(*arguments, rng)) for _ in range(20)] for rng in map(random.Random, (3, 3, 4))
    ]
    assert random.getstate() == state
    assert draws[0] == draws[1] != draws[2]
    assert len(set(draws[0])) > 5


def assert_uniform(draws: Counter[Genotype], outcomes: int) -> None:
    """Every outcome occurs, within five standard deviations of its expected count."""
    total = sum(draws.values())
    expected = total / outcomes
    deviation = math.sqrt(expected * (1 - 1 / outcomes))
    assert len(draws) == outcomes
    assert max(abs(count - expected) for count in draws.values()) < 5 * deviation


def test_moves_are_uniform() -> None:
    rng, space = random.Random(0), CellSpace(3, ["none", "skip_connect", "avg_pool_3x3"])
    first, second = (space.parse(f"|{name}~0|+|{name}~0|{name}~1|") for name in ("none", "skip_connect"))
    assert_uniform(Counter(space.sample(rng) for _ in range(5400)), 27)
    assert_uniform(Counter(space.mutate(first, rng) for _ in range(3000)), 6)
    assert_uniform(Counter(space.crossover(first, second, rng) for _ in range(3200)), 8)


@unhurried
@given(spaces_and_cells(), randoms)
def test_a_swap_exchanges_two_edges(case: tuple[CellSpace, list[Genotype]], rng: random.Random) -> None:
    space, (genotype,) = case
    swapped = space.swap(genotype, rng)
    assert sorted(swapped.operations) == sorted(genotype.operations)
    assert sum(a != b for a, b in zip(swapped.operations, genotype.operations, strict=True)) in (0, 2)


@unhurried
@given(spaces_and_cells(), randoms)
def test_an_inversion_turns_one_row_of_edges_round(case: tuple[CellSpace, list[Genotype]], rng: random.Random) -> None:
    space, (genotype,) = case
    chosen, size = genotype.operations, len(genotype.operations)
    turned = {
        (*chosen[:first], *reversed(chosen[first:last]), *chosen[last:])
        for first in range(size)
        for last in range(first, size + 1)
    }
    assert space.invert(genotype, rng).operations in turned


@unhurried
@given(spaces_and_cells())
def test_decisions_are_digits_of_the_index(case: tuple[CellSpace, list[Genotype]]) -> None:
    space, (genotype,) = case
    decisions, index = space.decisions(genotype), 0
    for choice, count in zip(decisions, space.choices, strict=True):
        index = index * count + choice
    assert index == space.index(genotype)
    assert space.decided(decisions) == genotype


def test_a_path_code_has_the_paths_of_the_cell() -> None:
    """In the benchmark's cell 3<-0, 3<-1<-0, 3<-2<-0 and 3<-2<-1<-0, by brute force over all sequences."""
    space = CellSpace()
    sequences = [s for length in (1, 2, 3) for s in product(space.operations, repeat=length)]
    rng = random.Random(0)
    for genotype in [space.sample(rng) for _ in range(50)]:
        e10, e20, e21, e30, e31, e32 = genotype.operations
        paths = {(e30,), (e10, e31), (e20, e32), (e10, e21, e32)}
        assert space.encode_paths(genotype) == [int(sequence in paths) for sequence in sequences]


@unhurried
@given(spaces_and_cells(cells=2))
def test_the_code_is_one_hot_and_keeps_distances(case: tuple[CellSpace, list[Genotype]]) -> None:
    space, cells = case
    width = len(space.operations)
    codes = [space.encode_edges(cell) for cell in cells]
    for cell, code in zip(cells, codes, strict=True):
        rows = [code[start : start + width] for start in range(0, len(code), width)]
        assert [row.count(1) for row in rows] == [1] * len(cell.operations)
        assert [row.count(0) for row in rows] == [width - 1] * len(cell.operations)
        assert tuple(space.operations[row.index(1)] for row in rows) == cell.operations
    assert sum(a != b for a, b in zip(*codes, strict=True)) == 2 * distance(*cells)


@unhurried
@given(spaces_and_cells(cells=2))
def test_the_whole_code_is_that_of_edges_then_that_of_paths(case: tuple[CellSpace, list[Genotype]]) -> None:
    space, cells = case
    lengths = set()
    for cell in cells:
        code = space.encode(cell)
        assert code == [*space.encode_edges(cell), *space.encode_paths(cell)]
        lengths.add(len(code))
    count, nodes = len(space.operations), space.num_nodes
    assert lengths == {count * nodes * (nodes - 1) // 2 + sum(count**length for length in range(1, nodes))}


# --- As a space


class Coins(Space):
    """Rows of heads and tails; it can do what every space must, and no more."""

    def parse(self, text: str) -> str:
        if set(text) - set("HT"):
            raise ValueError(f"coins {text!r}: give H and T")
        return text

    def sample(self, rng: random.Random) -> str:
        return rng.choice(["H", "TT", "HTH"])

    def describe(self) -> dict[str, Any]:
        return {"sides": 2}

    def cost(self, genotype: str, size: NetworkSize) -> Cost:
        return Cost(len(genotype))

    def network(self, genotype: str, size: NetworkSize, batch_norm: str = "running") -> nn.Module:
        return nn.Flatten()


class Rows(Coins):
    """Rows that end with the first head, or at the third throw: decisions, yet not always as many."""

    def options(self, decisions: Sequence[int]) -> int:
        return 0 if 0 in decisions or len(decisions) == 3 else 2

    def decisions(self, genotype: str) -> tuple[int, ...]:
        return tuple("HT".index(side) for side in genotype)

    def decided(self, decisions: Sequence[int]) -> str:
        return "".join("HT"[choice] for choice in decisions)


class TwoKinds(Coins):
    """A supernet of two kinds of cells."""

    @property
    def cells(self) -> dict[str, Cell]:
        return {"normal": Cell(("a", "b"), ((0, 2), (1, 2)), 2), "reduce": Cell(("a", "b"), ((1, 2),), 2, stride=2)}


def test_a_cell_space_has_every_ability() -> None:
    assert set(BENCHMARK.abilities) == set(ABILITIES)
    assert {"supernet", "neighbours", "mutate", "crossover", "decided", "choices", "encode", "size"} == set(ABILITIES)
    require(BENCHMARK, list(ABILITIES), "nobody")


def test_abilities_are_no_empty_promises() -> None:
    """Each of them is used on a small space."""
    space, rng = CellSpace(3, ["none", "skip_connect"]), random.Random(0)
    first, second = space.parse("|none~0|+|none~0|none~1|"), space.parse("|none~0|+|none~0|skip_connect~1|")
    assert space.size == 8
    assert second in space.neighbours(first)
    assert space.mutate(first, rng) in space.neighbours(first)
    assert space.crossover(first, second, rng) in (first, second)
    assert space.choices == (2, 2, 2)
    assert space.decided((0, 0, 1)) == second
    assert len(space.encode(first)) == 3 * 2 + 2 + 4
    network = space.supernet(NetworkSize(2, 1, 4, 1, 8))
    logits_BK = network(torch.ones(2, 1, 8, 8), EdgeWeights.one_hot(list(space.path(second)), 2))
    assert logits_BK.shape == (2, 4)


@unhurried
@given(spaces_and_cells())
def test_the_text_of_a_cell_is_read_back(case: tuple[CellSpace, list[Genotype]]) -> None:
    space, (cell,) = case
    assert space.parse(str(cell)) == cell
    assert str(space.parse(str(cell))) == str(cell)
    assert hash(space.parse(str(cell))) == hash(cell)
    space.check(cell)


@unhurried
@given(st.one_of(st.just(BENCHMARK), spaces), randoms)
def test_rows_of_decisions_are_cells(space: CellSpace, rng: random.Random) -> None:
    """Options are followed until there are none; every decision stands for one edge's operation."""
    row: list[int] = []
    while count := space.options(row):
        assert count == len(space.operations)
        row.append(rng.randrange(count))
    assert len(row) == len(space.choices) == space.num_nodes * (space.num_nodes - 1) // 2
    cell = space.decided(row)
    assert cell.operations == tuple(space.operations[choice] for choice in row)
    assert space.decisions(cell) == tuple(row)
    space.check(cell)


@unhurried
@given(spaces_and_cells(cells=2))
def test_different_cells_have_different_rows(case: tuple[CellSpace, list[Genotype]]) -> None:
    space, (first, second) = case
    assert (space.decisions(first) == space.decisions(second)) == (first == second)


@unhurried
@given(spaces_and_cells())
def test_a_path_is_the_operation_of_every_edge(case: tuple[CellSpace, list[Genotype]]) -> None:
    """In the order of the supernet's edges and candidates; `relaxed` takes it back."""
    space, (cell,) = case
    path = space.path(cell)
    assert space.relaxed(path) == cell
    assert space.path(space.relaxed(path)) == path
    (wiring,) = space.cells.values()
    found = [(*edge, wiring.candidates[choice]) for edge, choice in zip(wiring.edges, path, strict=True)]
    assert found == list(cell.connections) == list(space.connections(cell)["cell"])


@pytest.mark.parametrize("space", [BENCHMARK, CellSpace(2), CellSpace(5, ["skip_connect", "none"])])
def test_a_cell_space_names_its_edges_and_parameters(space: CellSpace) -> None:
    (wiring,) = space.cells.values()
    assert (wiring.inputs, wiring.output, wiring.stride) == (1, "last", 1)
    assert wiring.num_nodes == space.num_nodes
    assert wiring.edges == space.edges
    assert space.candidates == wiring.candidates == space.operations
    assert space.edge_names == tuple(f"{t}<-{s}" for t in range(1, space.num_nodes) for s in range(t))
    assert space.architecture_shapes == {"alpha_EO": (len(space.edges), len(space.operations))}


def test_edges_of_several_kinds_of_cells_say_their_kind() -> None:
    space = TwoKinds()
    assert space.edge_names == ("normal 2<-0", "normal 2<-1", "reduce 2<-1")
    assert space.candidates == ("a", "b")
    assert space.architecture_shapes == {"alpha_EO": (3, 2)}


def test_what_a_space_lacks_is_known_from_its_class() -> None:
    assert Coins().abilities == frozenset()
    assert Rows().abilities == {"decided"}


@pytest.mark.parametrize(
    ("space", "abilities", "instead", "message"),
    [
        (Coins(), ["mutate"], "", "evolution needs mutations, which the space Coins lacks"),
        (Coins(), ["supernet"], "; do without", "evolution needs a supernet, which the space Coins lacks; do without"),
        (
            Coins(),
            ["mutate", "crossover", "size"],
            "",
            "evolution needs mutations and crossover and a known size, which the space Coins lacks",
        ),
        (
            Rows(),
            ["decided", "choices", "encode"],
            "",
            "evolution needs rows of fixed length and an encoding of fixed length, which the space Rows lacks",
        ),
        (
            Coins(),
            ["neighbours", "decided"],
            "",
            "evolution needs neighbours and rows of decisions, which the space Coins lacks",
        ),
    ],
)
def test_who_needs_more_than_a_space_can_do_is_told(
    space: Space, abilities: list[str], instead: str, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        require(space, abilities, "evolution", instead)


def test_who_needs_no_more_is_let_through() -> None:
    require(Coins(), [], "random_search")
    require(Rows(), ["decided"], "rollouts")


def test_what_a_plain_space_answers() -> None:
    space = Coins()
    assert space.canonical_form("HT") == "HT"
    assert space.connections("HT") == {}
    assert space.size is None
    assert list(space) == []
    space.check("HTH")
    with pytest.raises(ValueError, match="give H and T"):
        space.check("HXH")
    for name in ("neighbours", "encode", "decisions", "genotype", "index", "supernet"):
        with pytest.raises(NotImplementedError):
            getattr(space, name)("H")
    assert set(space.mutations) == {"mutate"}


def test_rows_of_different_lengths_are_followed_to_their_end() -> None:
    space, found = Rows(), []
    rows: list[tuple[int, ...]] = [()]
    while rows:
        row = rows.pop()
        rows += [(*row, choice) for choice in range(space.options(row))]
        if not space.options(row):
            found.append(space.decided(row))
    assert sorted(found) == ["H", "TH", "TTH", "TTT"]
    assert [space.decided(space.decisions(genotype)) for genotype in found] == found


def test_spaces_of_another_class_or_description_differ() -> None:
    assert Coins() == Coins()
    assert len({Coins(), Coins(), Rows()}) == 2
    assert Coins() != Rows()
    assert Coins() != BENCHMARK
    assert Coins() != "Coins"


# --- Bad input


@pytest.mark.parametrize(
    ("edges", "options", "message"),
    [
        ((), {}, "edges: got"),
        (((1, 0),), {}, "edges: got"),
        (((1, 1),), {}, "edges: got"),
        (((-1, 1),), {}, "edges: got"),
        (((0, 1),), {"inputs": 2}, "edges: got"),
        (((0, 2), (0, 1)), {}, "edges: got"),
        (((0, 1),), {"output": "mean"}, "output: got 'mean'; allowed are last, sum, concat"),
    ],
)
def test_impossible_wirings_are_refused(
    edges: tuple[tuple[int, int], ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Cell(("none",), edges, **options)


@pytest.mark.parametrize(
    ("num_nodes", "operations", "message"),
    [
        (1, ["a", "b"], "num_nodes: got 1"),
        (0, ["a", "b"], "num_nodes: got 0"),
        (-4, ["a", "b"], "num_nodes: got -4"),
        (4, [], "operations: got"),
        (4, ["a"], r"operations: got \['a'\]"),
        (4, ["a", "b", "a"], "operations: got"),
        (4, ["a", "b|c"], r"operations: 'b\|c'"),
        (4, ["a", "b~1"], "operations: 'b~1'"),
        (4, ["a", "b+"], r"operations: 'b\+'"),
        (4, ["a", ""], "operations: ''"),
    ],
)
def test_impossible_spaces_are_refused(num_nodes: int, operations: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CellSpace(num_nodes, operations)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("|none~0|", "got 2 nodes, the space has 4"),
        ("|none~0|+|none~0|none~1|", "got 3 nodes, the space has 4"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|+|none~0|none~1|none~2|none~3|", "got 5 nodes"),
        ("|none~0|+|none~0|sep_conv~1|+|none~0|none~1|none~2|", "'sep_conv' on edge 2<-1"),
        ("all of them", "node 1"),
    ],
)
def test_cells_of_another_space_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BENCHMARK.parse(text)
