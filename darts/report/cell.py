"""A genotype as a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from darts.report.palette import of_operation

if TYPE_CHECKING:
    from supernet.spaces.base import Genotype, Space


def draw_cell(genotype: Genotype, space: Space, ink: str = "#333333", paper: str = "white") -> Any:
    """All kinds of cell beside each other, nodes from left to right; connections of operation none are thin and dotted.

    Args:
        genotype: of the space; one that is no graph is its text alone.
        space: knows its connections.
        ink, paper: colours of the nodes' frames and of what is behind letters.

    Returns:
        A figure of matplotlib.
    """
    from matplotlib.figure import Figure

    cells = space.connections(genotype)
    outputs = {kind: cell.output for kind, cell in space.cells.items()} if "supernet" in space.abilities else {}
    longest = max((target for connections in cells.values() for _, target, _ in connections), default=1)
    widest = max((target - source for edges in cells.values() for source, target, _ in edges), default=1)
    size = ((2.6 * longest + 1.2) * max(1, len(cells)), 1.2 * widest + 1.2)
    figure = Figure(figsize=size, layout="constrained")
    colours = {name: of_operation(place) for place, name in enumerate(names_of(genotype, space))}
    for axes, (kind, connections) in zip(
        figure.subplots(1, max(1, len(cells)), squeeze=False)[0], cells.items() or [("", ())], strict=True
    ):
        axes.set_axis_off()
        if not connections:
            axes.text(0.5, 0.5, str(genotype), ha="center", va="center", fontsize=9)
        else:
            _draw(axes, connections, colours, outputs.get(kind, "last"), ink, paper)
        if len(cells) > 1:
            axes.set_title(kind, fontsize=9)
    return figure


def titled_cell(text: str, space: Space) -> Any:
    """The graph of a genotype under its text."""
    genotype = space.parse(text)
    figure = draw_cell(genotype, space)
    if space.connections(genotype):
        figure.suptitle(text, fontsize=8)
    return figure


def names_of(genotype: Genotype, space: Space) -> Sequence[str]:
    """Operations in the order of their colours."""
    if "supernet" in space.abilities:
        return space.candidates
    found = space.connections(genotype).values()
    return sorted({name for connections in found for *_, name in connections})


def _bend(source: int, target: int) -> float:
    """Neighbours are joined straight; longer edges bend, from even nodes above, from odd ones below."""
    span = target - source
    return 0.0 if span == 1 else (0.35 + 0.06 * span) * (1 if source % 2 == 0 else -1)


def _draw(
    axes: Any,
    connections: Sequence[tuple[int, int, str]],
    colours: Mapping[str, str],
    output: str,
    ink: str,
    paper: str,
) -> None:
    from matplotlib.patches import FancyArrowPatch

    targets = {target for _, target, _ in connections}
    last = max(targets)
    inputs = [node for node in range(last) if node not in targets]
    heights = [0.0]
    for source, target, name in connections:
        colour, bend = colours[name], _bend(source, target)
        arrow = FancyArrowPatch(
            (source, 0),
            (target, 0),
            connectionstyle=f"arc3,rad={-bend}",
            arrowstyle="-|>",
            mutation_scale=16,
            linewidth=1 if name == "none" else 2.2,
            linestyle=":" if name == "none" else "-",
            color=colour,
            shrinkA=16,
            shrinkB=16,
        )
        axes.add_patch(arrow)
        heights.append(bend * (target - source) / 2)
        box = {"boxstyle": "round,pad=0.2", "facecolor": paper, "edgecolor": colour, "linewidth": 0.8}
        axes.text((source + target) / 2, heights[-1], name, ha="center", va="center", fontsize=8, bbox=box)
    for node in range(last + 1):
        label = str(node)
        if node in inputs:
            label = "in" if len(inputs) == 1 else f"in {node}"
        elif node == last and output == "last":
            label = "out"
        axes.text(
            node, 0, label, ha="center", va="center", fontsize=10, zorder=3,
            bbox={"boxstyle": "circle,pad=0.45", "facecolor": paper, "edgecolor": ink},
        )  # fmt: skip
    bottom = min(heights) - 0.3
    if output != "last":
        how = {"sum": " + ", "concat": ", "}[output].join(map(str, sorted(targets)))
        bottom -= 0.2
        axes.text(last / 2, bottom + 0.1, f"out: {how}", ha="center", va="center", fontsize=9)
    axes.set(xlim=(-0.3, last + 0.3), ylim=(bottom, max(heights) + 0.3), aspect="equal")
