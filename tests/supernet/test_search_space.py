from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supernet.genotype import Genotype
from supernet.search_space import SearchSpace

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines are noisy

BENCHMARK = SearchSpace()
MANY = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3", "max_pool_3x3", "dil_conv_5x5"]

spaces = st.builds(SearchSpace, st.integers(2, 6), st.lists(st.sampled_from(MANY), min_size=2, max_size=7, unique=True))
randoms = st.integers(0, 2**32).map(random.Random)


@st.composite
def spaces_and_cells(draw: st.DrawFn, cells: int = 1) -> tuple[SearchSpace, list[Genotype]]:
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
    space = SearchSpace(num_nodes, list(operations))
    assert space.size == size == len({str(cell) for cell in space})
    assert all(cell.num_nodes == num_nodes for cell in space)


def test_spaces_compare_by_nodes_and_operations() -> None:
    assert SearchSpace() == BENCHMARK
    assert len({SearchSpace(), BENCHMARK}) == 1
    assert SearchSpace(3) != BENCHMARK
    assert SearchSpace(4, ["skip_connect", "none"]) != SearchSpace(4, ["none", "skip_connect"])
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
    assert SearchSpace(genotype.num_nodes).canonical_form(genotype) == form


# --- Moves


@unhurried
@given(spaces_and_cells())
def test_neighbours_are_all_cells_at_distance_one(case: tuple[SearchSpace, list[Genotype]]) -> None:
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
    space = SearchSpace(3, ["none", "skip_connect", "avg_pool_3x3"])
    for cell in space:
        expected = {other for other in space if distance(cell, other) == 1}
        assert set(space.neighbours(cell)) == expected


@unhurried
@given(spaces_and_cells(), randoms)
def test_a_mutation_changes_exactly_one_edge(case: tuple[SearchSpace, list[Genotype]], rng: random.Random) -> None:
    space, [cell] = case
    before = cell.operations
    child = space.mutate(cell, rng)
    assert distance(cell, child) == 1
    assert set(child.operations) <= set(space.operations)
    assert cell.operations == before


@unhurried
@given(spaces_and_cells(cells=2), randoms)
def test_a_crossover_takes_each_edge_from_a_parent(
    case: tuple[SearchSpace, list[Genotype]], rng: random.Random
) -> None:
    space, [first, second] = case
    child = space.crossover(first, second, rng)
    assert distance(first, child) + distance(child, second) == distance(first, second)
    assert space.crossover(first, first, rng) == first


@unhurried
@given(st.one_of(st.just(BENCHMARK), spaces), st.integers(0, 2**32))
def test_a_sample_is_a_cell_of_the_space_and_repeats_with_its_seed(space: SearchSpace, seed: int) -> None:
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
    rng, space = random.Random(0), SearchSpace(3, ["none", "skip_connect", "avg_pool_3x3"])
    first, second = (space.parse(f"|{name}~0|+|{name}~0|{name}~1|") for name in ("none", "skip_connect"))
    assert_uniform(Counter(space.sample(rng) for _ in range(5400)), 27)
    assert_uniform(Counter(space.mutate(first, rng) for _ in range(3000)), 6)
    assert_uniform(Counter(space.crossover(first, second, rng) for _ in range(3200)), 8)


@unhurried
@given(spaces_and_cells(), randoms)
def test_a_swap_exchanges_two_edges(case: tuple[SearchSpace, list[Genotype]], rng: random.Random) -> None:
    space, (genotype,) = case
    swapped = space.swap(genotype, rng)
    assert sorted(swapped.operations) == sorted(genotype.operations)
    assert sum(a != b for a, b in zip(swapped.operations, genotype.operations, strict=True)) in (0, 2)


@unhurried
@given(spaces_and_cells(), randoms)
def test_an_inversion_turns_one_row_of_edges_round(
    case: tuple[SearchSpace, list[Genotype]], rng: random.Random
) -> None:
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
def test_decisions_are_digits_of_the_index(case: tuple[SearchSpace, list[Genotype]]) -> None:
    space, (genotype,) = case
    decisions, index = space.decisions(genotype), 0
    for choice, count in zip(decisions, space.choices, strict=True):
        index = index * count + choice
    assert index == space.index(genotype)
    assert space.decided(decisions) == genotype


def test_a_path_code_has_the_paths_of_the_cell() -> None:
    """In the benchmark's cell 3<-0, 3<-1<-0, 3<-2<-0 and 3<-2<-1<-0, by brute force over all sequences."""
    space = SearchSpace()
    sequences = [s for length in (1, 2, 3) for s in product(space.operations, repeat=length)]
    rng = random.Random(0)
    for genotype in [space.sample(rng) for _ in range(50)]:
        e10, e20, e21, e30, e31, e32 = genotype.operations
        paths = {(e30,), (e10, e31), (e20, e32), (e10, e21, e32)}
        assert space.encode_paths(genotype) == [int(sequence in paths) for sequence in sequences]


@unhurried
@given(spaces_and_cells(cells=2))
def test_the_code_is_one_hot_and_keeps_distances(case: tuple[SearchSpace, list[Genotype]]) -> None:
    space, cells = case
    width = len(space.operations)
    codes = [space.encode(cell) for cell in cells]
    for cell, code in zip(cells, codes, strict=True):
        rows = [code[start : start + width] for start in range(0, len(code), width)]
        assert [row.count(1) for row in rows] == [1] * len(cell.operations)
        assert [row.count(0) for row in rows] == [width - 1] * len(cell.operations)
        assert tuple(space.operations[row.index(1)] for row in rows) == cell.operations
    assert sum(a != b for a, b in zip(*codes, strict=True)) == 2 * distance(*cells)


# --- Bad input


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
        SearchSpace(num_nodes, operations)


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
