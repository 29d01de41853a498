"""Pictures of a search: how the edge weights moved, how it learned, and the cell it found.

Shape suffixes: K epochs, E edges, O operations.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts.report.cell import titled_cell
from darts.report.palette import BLUE, GREY, ORANGE, of_operation, plain_style, save_png
from darts.report.text import few
from darts.search.result import SearchResult
from supernet.spaces.base import LEFT_OUT, Space

if TYPE_CHECKING:
    from supernet.relaxations.base import Relaxation

SHOWN = 20  # candidates in a picture


def names_of(result: SearchResult) -> list[str]:
    """The pictures that `draw_search` writes."""
    return ["alphas.png", "progress.png", "cell.png", *(["standing.png"] if result.standing is not None else [])]


def is_drawn(result: SearchResult, folder: Path) -> bool:
    """Whether all its pictures are in a folder."""
    return all((folder / name).is_file() for name in names_of(result))


def draw_search(result: SearchResult, relaxation: Relaxation, space: Space, folder: Path) -> list[Path]:
    """Write alphas.png, progress.png and cell.png, and standing.png if cells were judged; returns their paths."""
    with plain_style():
        cell = titled_cell(result.cell, space)
        figures = [_alphas(result, relaxation, space), _progress(result), cell]
        if result.standing is not None:
            figures.append(_standing(result.standing))
        folder.mkdir(exist_ok=True)
        paths = [folder / name for name in names_of(result)]
        for path, figure in zip(paths, figures, strict=True):
            save_png(figure, path)
    return paths


def _alphas(result: SearchResult, relaxation: Relaxation, space: Space):  # type: ignore[no-untyped-def]
    """One panel an edge: the expected weight of each operation from the first step on, and by how much one leads."""
    import torch
    from matplotlib.figure import Figure

    from darts.search.verdict import recorded_weights

    begin = [] if result.initial_alphas is None else [{"step": 0, "alphas": result.initial_alphas}]
    records = [*begin, *result.history]
    weights_KEO = torch.stack([recorded_weights(record, relaxation, result.planned_steps) for record in records])
    steps = [record["step"] for record in records]
    edges, rows = space.edge_names, -(-len(space.edge_names) // 3)
    columns = min(3, len(edges))
    figure = Figure(figsize=(3.2 * columns, 2.4 * rows + 0.9), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    marker = "o" if len(steps) < 3 else None
    for edge, title in enumerate(_titles(result, space)):
        panel = panels[edge // columns][edge % columns]
        for position, name in enumerate(space.candidates):
            weights_K = weights_KEO[:, edge, position]
            panel.plot(steps, weights_K, color=of_operation(position), label=name, marker=marker)
        panel.axhline(float(weights_KEO[0].mean()), color=GREY, linewidth=0.8, linestyle=":", zorder=0)
        for end in list(itertools.accumulate(result.phase_steps.values()))[:-1]:
            panel.axvline(end, color=GREY, linewidth=0.8, zorder=0)
        panel.set_title(title, fontsize=8)
        panel.grid(alpha=0.25)
    panels[0][0].set_ylim(0, max(2 / len(space.candidates), 1.05 * float(weights_KEO.max())))
    for panel in panels.flat[len(edges) :]:
        panel.set_visible(False)
    ends = zip(result.phase_steps, itertools.accumulate(result.phase_steps.values()), strict=True)
    phases = ", ".join(f"{name} to {end}" for name, end in ends)
    figure.supxlabel(f"step  ({phases})" if len(result.phase_steps) > 1 else "step")
    figure.supylabel("edge weight")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(5, len(labels)), frameon=False)
    return figure


def _titles(result: SearchResult, space: Space) -> list[str]:
    """Above the panel of each edge: its operation, and what that rests on."""
    if result.verdict is None:
        chosen = space.path(space.parse(result.cell))
        return [f"{edge}: {space.operation(place)}" for edge, place in zip(space.edge_names, chosen, strict=True)]
    titles = []
    for edge in result.verdict["edges"]:
        below = "by elimination" if result.verdict["by"] == "elimination" else "judged"
        if edge["lead"] is not None:
            below = f"{edge['lead']:.4f} over {edge['rivals'][0]}" + ("" if edge["decided"] else ", UNDECIDED")
        elif edge["decided"]:
            below = "judged, no other is as good"
        elif edge["rivals"]:
            below = f"judged, as good: {', '.join(few(edge['rivals']))}"
        elif edge["operation"] == space.operation(LEFT_OUT):
            below = ""
        titles.append(f"{edge['edge']}: {edge['operation']}\n{below}")
    return titles


def _standing(standing: dict[str, Any]):  # type: ignore[no-untyped-def]
    """The best candidates, the found one on top, with the deviation of their difference from it."""
    from matplotlib.figure import Figure

    cells = standing["cells"][:SHOWN]
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
        ("train_loss", "train loss", BLUE),
        ("valid_loss", "valid loss", ORANGE),
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
