"""Pictures of genotypes of any space: several kinds of cell, and none."""

from __future__ import annotations

import random
from typing import Any

import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch

from darts.report import palette
from darts.report.cell import draw_cell
from darts.report.svg import cell_svg
from supernet.size import Cost, NetworkSize
from supernet.spaces.base import Space
from supernet.spaces.cells import CellSpace
from supernet.wiring import Cell


class Words(Space):
    """Genotypes are words; they are no graphs."""

    def parse(self, text: str) -> str:
        return text

    def sample(self, rng: random.Random) -> str:
        return rng.choice(["left", "right"])

    def describe(self) -> dict[str, Any]:
        return {}

    def cost(self, genotype: str, size: NetworkSize) -> Cost:
        raise NotImplementedError

    def network(self, genotype: str, size: NetworkSize, batch_norm: str = "running") -> Any:
        raise NotImplementedError


class Graphs(Words):
    """As in DARTS: normal and reduction cells of two inputs, in a space without a supernet."""

    connected = {
        "normal": ((0, 2, "sep"), (1, 2, "dil"), (0, 3, "none"), (2, 3, "sep")),
        "reduction": ((0, 2, "pool"), (1, 2, "pool"), (1, 3, "dil"), (2, 3, "skip")),
    }

    def connections(self, genotype: str) -> dict[str, tuple[tuple[int, int, str], ...]]:
        return self.connected


class TwoKinds(Graphs):
    """The same with one."""

    output = "last"

    @property
    def cells(self) -> dict[str, Cell]:
        edges = ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
        cell = Cell(("none", "sep", "dil", "pool", "skip"), edges, inputs=2, output=self.output)
        return dict.fromkeys(self.connected, cell)

    def supernet(self, size: NetworkSize, batch_norm: str = "batch", generator: Any = None) -> Any:
        raise NotImplementedError


def arrows_of(panel: Any) -> list[FancyArrowPatch]:
    return [patch for patch in panel.patches if isinstance(patch, FancyArrowPatch)]


def test_every_kind_of_cell_is_drawn() -> None:
    figure = draw_cell("any", TwoKinds())
    assert [panel.get_title() for panel in figure.axes] == ["normal", "reduction"]
    for panel, connections in zip(figure.axes, TwoKinds.connected.values(), strict=True):
        texts = [text.get_text() for text in panel.texts]
        assert texts == [*(name for *_, name in connections), "in 0", "in 1", "2", "out"]
        arrows = arrows_of(panel)
        operations = TwoKinds().candidates
        assert [to_hex(arrow.get_edgecolor()) for arrow in arrows] == [
            palette.of_operation(operations.index(name)) for *_, name in connections
        ]
        assert [arrow.get_linestyle() == ":" for arrow in arrows] == [name == "none" for *_, name in connections]
        places = [text.get_position()[0] for text in panel.texts[: len(connections)]]
        assert places == [(source + target) / 2 for source, target, _ in connections]
    assert figure.axes[0].get_position().x1 <= figure.axes[1].get_position().x0


def test_one_kind_of_cell_needs_no_heading() -> None:
    space = CellSpace()
    (panel,) = draw_cell(space.genotype(11_791), space).axes
    assert panel.get_title() == ""
    assert [text.get_text() for text in panel.texts][-4:] == ["in", "1", "2", "out"]


def test_frames_take_the_given_colours() -> None:
    space = CellSpace()
    for colours, (ink, paper) in (({}, ("#333333", "#ffffff")), ({"ink": "#010203", "paper": "#aabbcc"},) * 2):
        ink, paper = (colours or {"ink": ink, "paper": paper}).values()
        (panel,) = draw_cell(space.genotype(11_791), space, **colours).axes
        frames = [text.get_bbox_patch() for text in panel.texts]
        assert {to_hex(frame.get_facecolor()) for frame in frames} == {paper}
        assert [to_hex(frame.get_edgecolor()) for frame in frames[-4:]] == [ink] * 4


def test_both_kinds_stand_in_the_picture_of_a_page() -> None:
    svg = cell_svg("any", TwoKinds(), "cell-7")
    for text in ("normal", "reduction", "in 0", "in 1", "pool"):
        assert f">{text}</text>" in svg
    assert svg.count(">out</text>") == 2
    assert 'id="cell-7-axes_1"' in svg
    assert 'id="cell-7-axes_2"' in svg


def test_a_space_without_a_supernet_has_pictures_too() -> None:
    """`connections` says what can be drawn; candidate operations are of supernets alone."""
    space = Graphs()
    assert "supernet" not in space.abilities
    figure, colours = draw_cell("any", space), {}
    for panel, connections in zip(figure.axes, Graphs.connected.values(), strict=True):
        for arrow, (*_, name) in zip(arrows_of(panel), connections, strict=True):
            colours.setdefault(name, set()).add(to_hex(arrow.get_edgecolor()))
    assert all(len(found) == 1 for found in colours.values()), "one colour an operation, in all kinds of cell"
    assert len(set.union(*colours.values())) == len(colours) == 5


@pytest.mark.parametrize(("output", "shown"), [("concat", "out: 2, 3"), ("sum", "out: 2 + 3")])
def test_an_output_that_is_no_node_is_written_below(output: str, shown: str) -> None:
    space = TwoKinds()
    space.output = output
    for panel in draw_cell("any", space).axes:
        texts = {text.get_text(): text.get_position()[1] for text in panel.texts}
        assert "out" not in texts
        assert {"in 0", "in 1", "2", "3"} <= texts.keys()
        assert texts[shown] == min(texts.values())


def test_what_is_no_graph_is_its_text_alone() -> None:
    figure = draw_cell("left", Words())
    assert [text.get_text() for panel in figure.axes for text in panel.texts] == ["left"]
    assert ">left</text>" in cell_svg("left", Words(), "cell-0")
