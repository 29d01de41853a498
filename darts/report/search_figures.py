"""Pictures of a search: how the edge weights moved, how it learned, and the cell it found.

Shape suffixes: K epochs, E edges, O operations.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts.report.cell import draw_cell
from darts.report.palette import BLUE, ORANGE, of_operation, plain_style
from darts.run.files import replacing
from darts.search.result import SearchResult

if TYPE_CHECKING:
    from supernet.relaxations.base import Relaxation
    from supernet.spaces.base import Space


def draw_search(result: SearchResult, relaxation: Relaxation, space: Space, folder: Path) -> list[Path]:
    """Write alphas.png, progress.png and cell.png, and standing.png if cells were judged; returns their paths."""
    with plain_style():
        cell = draw_cell(space.parse(result.cell), space)
        cell.suptitle(result.cell, fontsize=8)
        figures = {
            "alphas.png": _alphas(result, relaxation, space),
            "progress.png": _progress(result),
            "cell.png": cell,
        }
        if result.standing is not None:
            figures["standing.png"] = _standing(result.standing)
        folder.mkdir(exist_ok=True)
        for name, figure in figures.items():
            with replacing(folder / name) as temporary:
                figure.savefig(temporary, format="png", dpi=150)
    return [folder / name for name in figures]


def _alphas(result: SearchResult, relaxation: Relaxation, space: Space):  # type: ignore[no-untyped-def]
    """One panel an edge: the expected weight of each operation over the epochs."""
    import torch
    from matplotlib.figure import Figure

    from supernet.relaxations.base import opened

    weights_KEO = torch.stack(
        [
            relaxation.expected(
                opened({name: torch.tensor(value) for name, value in record["alphas"].items()}, record.get("allowed")),
                record["step"] / result.planned_steps,
            ).mean_EO
            for record in result.history
        ]
    )
    steps = [record["step"] for record in result.history]
    edges, connections = space.edge_names, space.connections(space.parse(result.cell)).values()
    chosen = [name for connected in connections for *_, name in connected]
    columns = min(3, len(edges))
    rows = -(-len(edges) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.3 * rows + 0.7), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    marker = "o" if len(steps) < 3 else None
    for edge, edge_name in enumerate(edges):
        panel = panels[edge // columns][edge % columns]
        for position, name in enumerate(space.candidates):
            weights_K = weights_KEO[:, edge, position]
            panel.plot(steps, weights_K, color=of_operation(position), label=name, marker=marker)
        found = f": {chosen[edge]}" if len(chosen) == len(edges) else ""
        panel.set_title(f"edge {edge_name}{found}", fontsize=9)
        panel.grid(alpha=0.25)
    for panel in panels.flat[len(edges) :]:
        panel.set_visible(False)
    figure.supxlabel("step")
    figure.supylabel("edge weight")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(5, len(labels)), frameon=False)
    return figure


def _standing(standing: dict[str, Any]):  # type: ignore[no-untyped-def]
    """The best candidates, the found one on top, with the deviation of their difference from it."""
    from matplotlib.figure import Figure

    cells = standing["cells"]
    places, values = range(len(cells)), [one["value"] for one in cells]
    colours = [ORANGE, *[BLUE] * (len(cells) - 1)]
    figure = Figure(figsize=(9, 1 + 0.24 * len(cells)), layout="constrained")
    panel = figure.subplots()
    deviations = [one["deviation"] or 0.0 for one in cells]
    panel.hlines(
        places,
        [v - d for v, d in zip(values, deviations, strict=True)],
        [v + d for v, d in zip(values, deviations, strict=True)],
        colors=colours,
        linewidth=1.5,
    )
    panel.scatter(values, places, color=colours, s=16, zorder=3)
    times = [f"  x{one['times']}" if standing["times"] > standing["judged"] else "" for one in cells]
    panel.set_yticks(places, [one["cell"] + t for one, t in zip(cells, times, strict=True)], fontsize=6)
    panel.set_ylim(len(cells) - 0.4, -0.6)
    unit = f" ({standing['unit']})" if standing["unit"] else ""
    spread = ", with one standard deviation of the difference" if any(deviations) else ""
    figure.supxlabel(f"{standing['measure']}{unit}{spread}", fontsize=8)
    panel.grid(alpha=0.25)
    return figure


def _progress(result: SearchResult):  # type: ignore[no-untyped-def]
    """Losses and the supernet's metric over the steps."""
    from matplotlib.figure import Figure

    steps = [record["step"] for record in result.history]
    marker = "o" if len(steps) < 3 else None
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for key, label, colour in (
        ("train_loss", "weight half", BLUE),
        ("valid_loss", "architecture half", ORANGE),
    ):
        left.plot(steps, [record[key] for record in result.history], label=label, color=colour, marker=marker)
    left.set(xlabel="step", ylabel="loss", ylim=(0, None))
    left.legend(frameon=False)
    metric = result.judged_by
    values = [record[f"valid_{metric.name}"] for record in result.history]
    right.plot(steps, values, color=ORANGE, marker=marker)
    unit = f" ({metric.unit})" if metric.unit else ""
    right.set(xlabel="step", ylabel=f"supernet {metric.name}{unit}", ylim=metric.limits)
    for panel in (left, right):
        panel.grid(alpha=0.25)
    figure.suptitle(f"searched on {result.searched_on}, seed {result.seed}")
    return figure
