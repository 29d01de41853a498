"""Pictures of a search: how the edge weights moved, how it learned, and the cell it found.

Shape suffixes: K epochs, E edges, O operations.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from darts.paths import replacing
from darts.results import SearchResult
from supernet.genotype import edges_of
from supernet.search_space import SearchSpace

if TYPE_CHECKING:
    from supernet.relaxations.base import Relaxation

COLOURS = ("#9e9e9e", "#e69f00", "#56b4e9", "#0072b2", "#009e73", "#cc79a7", "#d55e00", "#f0e442")  # Okabe & Ito's


def draw_all(result: SearchResult, relaxation: Relaxation, space: SearchSpace, folder: Path) -> list[Path]:
    """Write alphas.png, progress.png and cell.png; returns their paths."""
    import matplotlib

    with matplotlib.rc_context(
        {"backend": "agg", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figures = {
            "alphas.png": _alphas(result, relaxation, space),
            "progress.png": _progress(result),
            "cell.png": draw_cell(result.cell, space),
        }
        for name, figure in figures.items():
            with replacing(folder / name) as temporary:
                figure.savefig(temporary, format="png", dpi=150)
    return [folder / name for name in figures]


def _alphas(result: SearchResult, relaxation: Relaxation, space: SearchSpace):  # type: ignore[no-untyped-def]
    """One panel an edge: the expected weight of each operation over the epochs."""
    import torch
    from matplotlib.figure import Figure

    weights_KEO = torch.stack(
        [
            relaxation.expected({name: torch.tensor(value) for name, value in record["alphas"].items()})
            for record in result.history
        ]
    )
    steps = [record["step"] for record in result.history]
    columns = min(3, len(space.edges))
    rows = -(-len(space.edges) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.3 * rows + 0.7), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    marker = "o" if len(steps) < 3 else None
    for edge, (source, target) in enumerate(space.edges):
        panel = panels[edge // columns][edge % columns]
        for position, name in enumerate(space.operations):
            colour = COLOURS[position % len(COLOURS)]
            panel.plot(steps, weights_KEO[:, edge, position], color=colour, label=name, marker=marker)
        chosen = space.parse(result.cell).operations[edge]
        panel.set_title(f"edge {target}<-{source}: {chosen}", fontsize=9)
        panel.grid(alpha=0.25)
    for panel in panels.flat[len(space.edges) :]:
        panel.set_visible(False)
    figure.supxlabel("step")
    figure.supylabel("edge weight")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(5, len(labels)), frameon=False)
    return figure


def _progress(result: SearchResult):  # type: ignore[no-untyped-def]
    """Losses and supernet accuracy over the steps."""
    from matplotlib.figure import Figure

    steps = [record["step"] for record in result.history]
    marker = "o" if len(steps) < 3 else None
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for key, label, colour in (
        ("train_loss", "weight half", "#0072b2"),
        ("valid_loss", "architecture half", "#e69f00"),
    ):
        left.plot(steps, [record[key] for record in result.history], label=label, color=colour, marker=marker)
    left.set(xlabel="step", ylabel="loss (nats)", ylim=(0, None))
    left.legend(frameon=False)
    right.plot(steps, [record["valid_accuracy"] for record in result.history], color="#e69f00", marker=marker)
    right.set(xlabel="step", ylabel="supernet accuracy (%)", ylim=(0, 100))
    for panel in (left, right):
        panel.grid(alpha=0.25)
    figure.suptitle(f"searched on {result.searched_on}, seed {result.seed}")
    return figure


def draw_cell(cell: str, space: SearchSpace):  # type: ignore[no-untyped-def]
    """The cell as a graph, left to right; connections of operation none are thin and dotted."""
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch

    genotype = space.parse(cell)
    last = genotype.num_nodes - 1
    figure = Figure(figsize=(2.6 * last + 1.2, 1.2 * last + 1.2), layout="constrained")
    axes = figure.subplots()
    for (source, target), name in zip(edges_of(genotype.num_nodes), genotype.operations, strict=True):
        colour = COLOURS[space.operations.index(name) % len(COLOURS)]
        span = target - source
        # neighbours are joined straight; longer edges bend, from even nodes above, from odd ones below
        bend = 0.0 if span == 1 else (0.35 + 0.06 * span) * (1 if source % 2 == 0 else -1)
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
        box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": colour, "linewidth": 0.8}
        axes.text((source + target) / 2, bend * span / 2, name, ha="center", va="center", fontsize=8, bbox=box)
    for node in range(genotype.num_nodes):
        label = "in" if node == 0 else "out" if node == last else str(node)
        axes.text(
            node, 0, label, ha="center", va="center", fontsize=10, zorder=3,
            bbox={"boxstyle": "circle,pad=0.45", "facecolor": "#f4f4f4", "edgecolor": "#333333"},
        )  # fmt: skip
    top, bottom = (0.35 + 0.06 * last) * last / 2, (0.35 + 0.06 * (last - 1)) * (last - 1) / 2
    axes.set(xlim=(-0.3, last + 0.3), ylim=(-bottom - 0.15, top + 0.15), aspect="equal")
    axes.set_axis_off()
    axes.set_title(cell, fontsize=8)
    return figure
