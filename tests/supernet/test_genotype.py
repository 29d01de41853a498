from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supernet.genotype import Genotype, edges_of

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines are noisy

NAMES = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")  # design.md, "Space"
SKIPS = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"


def test_edges_stand_in_the_order_of_the_design() -> None:
    assert edges_of(4) == ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    assert edges_of(2) == ((0, 1),)


@pytest.mark.parametrize("num_nodes", range(2, 8))
def test_every_pair_of_nodes_is_an_edge_once(num_nodes: int) -> None:
    edges = edges_of(num_nodes)
    assert len(edges) == len(set(edges)) == num_nodes * (num_nodes - 1) // 2
    assert all(0 <= source < target < num_nodes for source, target in edges)
    assert list(edges) == sorted(edges, key=lambda pair: (pair[1], pair[0]))


def test_text_puts_each_operation_on_its_edge() -> None:
    cell = Genotype(("a", "b", "c", "d", "e", "f"))
    assert str(cell) == "|a~0|+|b~0|c~1|+|d~0|e~1|f~2|"
    assert cell.num_nodes == 4
    assert str(Genotype(("a",))) == "|a~0|"


def test_all_published_cells_round_trip(table_rows: list[dict[str, str]]) -> None:
    """Text, parsed cell and computed index determine each other; the index is the names read as base-5 digits."""
    digit = {name: str(position) for position, name in enumerate(NAMES)}
    seen = set()
    for row in table_rows:
        text = row["cell"]
        cell = Genotype.parse(text, NAMES)
        names = re.findall(r"\|?([a-z0-9_]+)~\d\|", text)
        index = int("".join(digit[name] for name in names), 5)
        assert cell.operations == tuple(names)
        assert str(cell) == text
        assert cell.index(NAMES) == index
        assert Genotype.from_index(index, NAMES) == cell
        seen.add(index)
    assert seen == set(range(5**6))


@pytest.mark.parametrize(
    ("chosen", "index"),
    [
        ((0, 0, 0, 0, 0, 0), 0),
        ((1, 0, 0, 0, 0, 0), 5**5),  # the first edge is the most significant digit
        ((0, 0, 0, 0, 0, 1), 1),
        ((0, 0, 2, 0, 0, 0), 2 * 5**3),
        ((4, 4, 4, 4, 4, 4), 15624),
    ],
)
def test_index_by_hand(chosen: tuple[int, ...], index: int) -> None:
    cell = Genotype(tuple(NAMES[digit] for digit in chosen))
    assert cell.index(NAMES) == index
    assert Genotype.from_index(index, NAMES) == cell


names = st.text("abcXYZ019_-.é :", min_size=1, max_size=8)


@st.composite
def spaces_and_choices(draw: st.DrawFn) -> tuple[int, list[str], list[int]]:
    num_nodes = draw(st.integers(2, 6))
    operations = draw(st.lists(names, min_size=2, max_size=7, unique=True))
    edges = num_nodes * (num_nodes - 1) // 2
    digits = draw(st.lists(st.integers(0, len(operations) - 1), min_size=edges, max_size=edges))
    return num_nodes, operations, digits


@unhurried
@given(spaces_and_choices())
def test_round_trip_for_other_node_counts_and_operations(case: tuple[int, list[str], list[int]]) -> None:
    num_nodes, operations, digits = case
    cell = Genotype(tuple(operations[digit] for digit in digits))
    assert cell.num_nodes == num_nodes
    assert Genotype.parse(str(cell)) == Genotype.parse(str(cell), operations) == cell
    index = sum(digit * len(operations) ** place for place, digit in enumerate(reversed(digits)))
    assert cell.index(operations) == index
    assert Genotype.from_index(index, operations, num_nodes) == cell


def test_equal_cells_are_one_key() -> None:
    assert len({Genotype.parse(SKIPS), Genotype(("skip_connect",) * 6)}) == 1
    assert Genotype.parse(SKIPS) != Genotype(("none",) * 6)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "node 1"),
        ("|", "node 1"),
        ("skip_connect", "node 1"),
        ("skip_connect~0|", "node 1"),
        ("|skip_connect~0", "node 1"),
        ("+" + SKIPS, "node 1"),
        (SKIPS + "+", "node 4"),
        (SKIPS[:-1], "node 3"),
        (SKIPS.replace("+|", "|", 1), "node 1"),  # a plus is missing: three edges into node 1
        (SKIPS.replace("+", "++", 1), "node 2"),
        ("|skip_connect~0|+|skip_connect~0|", "node 2.* 2 .*1"),
        ("|skip_connect~0|skip_connect~1|", "node 1.* 1 .*2"),
        ("|skip_connect~0|+|skip_connect~0|skip_connect~1|skip_connect~2|", "node 2"),
        ("||", "node 1"),
        ("|skip_connect|", "node 1.*'skip_connect'"),
        ("|skip_connect~|", "node 1"),
        ("|skip_connect~1|", "node 1.*skip_connect~1"),
        ("|skip_connect~00|", "node 1.*skip_connect~00"),
        ("|skip_connect~0 |", "node 1"),
        ("|~0|", "1<-0"),
        ("|conv_5x5~0|", "'conv_5x5' on edge 1<-0"),
        ("|NONE~0|", "'NONE' on edge 1<-0"),
        ("| none~0|", "' none' on edge 1<-0"),
        ("|none~0~0|", "1<-0"),
        ("|none~0|+|none~0|max_pool~1|", "'max_pool' on edge 2<-1"),
        ("|none~0|+|none~1|none~0|", "node 2.*none~1"),
        (SKIPS.replace("skip_connect~2", "skip_connect~3"), "node 3.*skip_connect~3"),
        (SKIPS.replace("skip_connect~2", "swish~2"), "'swish' on edge 3<-2"),
        ("|none~0|\n+|none~0|none~1|", "node 1"),
        ("[none~0]", "node 1"),
    ],
)
def test_malformed_text_names_the_place(text: str, place: str) -> None:
    with pytest.raises(ValueError, match=place) as caught:
        Genotype.parse(text, NAMES)
    assert repr(text) in str(caught.value)


def test_a_wrong_operation_is_answered_with_the_allowed_ones() -> None:
    with pytest.raises(ValueError, match="none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3"):
        Genotype.parse("|conv~0|", NAMES)


@unhurried
@given(st.text("|~+012none_skip ", max_size=40))
def test_any_text_either_round_trips_or_raises_value_error(text: str) -> None:
    try:
        cell = Genotype.parse(text)
    except ValueError:
        return
    assert str(cell) == text.strip()


@pytest.mark.parametrize("length", [0, 2, 4, 5, 7, 8, 9])
def test_incomplete_cells_cannot_be_built(length: int) -> None:
    with pytest.raises(ValueError, match=f"1, 3, 6, 10.*got {length}"):
        Genotype(("none",) * length)


@pytest.mark.parametrize("index", [-1, 15625])
def test_positions_outside_the_space_raise(index: int) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{index} is outside [0, 15625)")):
        Genotype.from_index(index, NAMES)


def test_index_over_a_list_that_lacks_an_operation_raises() -> None:
    with pytest.raises(ValueError, match="'skip_connect' is not one of none, avg_pool_3x3"):
        Genotype.parse(SKIPS).index(("none", "avg_pool_3x3"))
