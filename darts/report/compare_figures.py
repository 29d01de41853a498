"""Pictures of a comparison, as SVG: lines and letters take the colour of the text around them."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darts.compare.curves import anytime
from darts.compare.load import AXES, Loaded, Method
from darts.compare.significance import Ranks, alike
from darts.compare.trials import Measure
from darts.report.cell import draw_cell
from darts.report.palette import BLUE, INK, PAPER, RED, SKY, of_method, page_style
from darts.run.files import write_text
from supernet.spaces.base import Space


def draw_compare(loaded: Loaded, axis: str, rank: Ranks | None, folder: Path) -> dict[str, str]:
    """Write anytime.svg, boxes.svg, and as they apply front.svg, differences.svg and space.svg; returns name to SVG."""
    from matplotlib.figure import Figure

    methods, measure, table = loaded.methods, loaded.measure, loaded.table
    with page_style():
        figures: dict[str, Figure] = {"anytime": _anytime(loaded, axis), "boxes": _boxes(methods, measure)}
        if loaded.objective is not None:
            figures["front"] = _front(loaded)
        if rank is not None:
            figures["differences"] = _differences(methods, rank)
        if table is not None and measure.column in table.columns:
            figures["space"] = _space(methods, table.columns[measure.column], measure)
        pictures = {name: as_svg(figure, name) for name, figure in figures.items()}
    for name, text in pictures.items():
        write_text(folder / f"{name}.svg", text)
    return pictures


def as_svg(figure: Any, name: str) -> str:
    """A figure as SVG for a page; the name keeps its ids apart from those of others."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", stream.getvalue(), flags=re.DOTALL)
    text = text[text.index("<svg") :].replace(INK, "currentColor").replace(PAPER, "var(--card)")
    text = re.sub(r'(?<=id=")|(?<=url\(#)|(?<=href="#)', f"{name}-", text)  # several stand in one page
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'width="100%"', text, count=1)


def cell_svg(cell: str, space: Space, name: str) -> str:
    """A cell as a picture for the page."""
    with page_style():
        figure = draw_cell(space.parse(cell), space, INK, PAPER)
        figure.set_size_inches(0.6 * figure.get_size_inches())  # letters keep their size: they are to be read in a card
        return as_svg(figure, name)


def _anytime(loaded: Loaded, axis: str) -> Any:
    from matplotlib.figure import Figure

    methods, (lowest, highest) = loaded.methods, loaded.limits
    figure = Figure(figsize=(7.5, 4.4 + 0.09 * len(methods)), layout="constrained")
    axes = figure.subplots()
    shade = 0.15 if len(methods) < 7 else 0.05
    lows, highs = [], []
    for place, method in enumerate(methods):
        if (band := anytime(method, axis)) is None:
            continue
        at_K, mean_K, reach_K = band
        axes.step(at_K, mean_K, where="post", label=method.label, linewidth=1.6, **of_method(place))
        if reach_K is not None:
            colour = of_method(place)["color"]
            low_K, high_K = (np.clip(mean_K + side * reach_K, lowest, highest) for side in (-1, 1))
            axes.fill_between(at_K, low_K, high_K, step="post", color=colour, alpha=shade, linewidth=0)
        late = mean_K[len(mean_K) // 3 :]
        lows.append(late.min())
        highs.append(late.max())
    if lows:
        room = 0.05 * (max(highs) - min(lows)) + 0.05
        axes.set_ylim(min(lows) - room, max(highs) + room)
    axes.set(xscale="log", xlabel=AXES[axis], ylabel=loaded.measure.label("the incumbent"))
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _front(loaded: Loaded) -> Any:
    """Known accuracy over price: of each method the run with the median hypervolume, and the table's own front."""
    from matplotlib.figure import Figure

    assert loaded.objective is not None
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    shown: list[float] = []
    if loaded.true_front is not None:
        truths, prices = zip(*loaded.true_front, strict=True)
        axes.step(prices, truths, where="post", color=INK, linewidth=1, alpha=0.6, label="table's own front")
    for place, method in enumerate(loaded.methods):
        trials = sorted((t for t in method.trials if t.front), key=lambda t: (t.hypervolume or 0, t.seed))
        if not trials:
            continue
        truths, prices = zip(*trials[len(trials) // 2].front, strict=True)
        shown += truths
        axes.plot(
            prices,
            truths,
            drawstyle="steps-post",
            marker="o",
            markersize=3.5,
            linewidth=1,
            label=method.label,
            **of_method(place),
        )
    low, high = np.quantile(shown, 0.1), max(shown)
    room = 0.1 * (high - low) + 0.05
    axes.set_ylim(low - room, high + room)
    name, unit = loaded.objective["name"], loaded.objective["unit"]
    axes.set(xlabel=f"{name} ({unit}; {loaded.objective['network']})", ylabel=loaded.measure.label("the front"))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower right", fontsize=8)
    return figure


def _boxes(methods: Sequence[Method], measure: Measure) -> Any:
    from matplotlib.figure import Figure

    ordered = sorted(methods, key=lambda method: measure.worth(float(np.mean(method.truths))))
    figure = Figure(figsize=(7.5, 1.1 + 0.32 * len(methods)), layout="constrained")
    axes = figure.subplots()
    line = {"color": INK}
    axes.boxplot(
        [method.truths for method in ordered], orientation="horizontal", widths=0.55, showfliers=False,
        boxprops=line, whiskerprops=line, capprops=line, medianprops={"color": RED, "linewidth": 2},
    )  # fmt: skip
    for place, method in enumerate(ordered, 1):
        count = len(method.truths)
        heights = place + 0.18 * np.sin(np.arange(count) * 2.4)  # spread out, the same in every drawing
        axes.plot(method.truths, heights, "o", markersize=2.5, alpha=max(0.1, min(0.7, 20 / count)), color=BLUE)
    axes.set_yticks(range(1, len(ordered) + 1), [method.label for method in ordered])
    axes.set_xlabel(measure.label("what was found"))
    axes.grid(axis="x", alpha=0.25)
    return figure


def _space(methods: Sequence[Method], values: NDArray[np.float64], measure: Measure) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 2.6 + 0.22 * len(methods)), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 0.22 * len(methods) + 0.4])
    found = np.concatenate([method.truths for method in methods])
    floor = min(np.quantile(values, 0.5), found.min()) - 0.2
    top.hist(values[values >= floor], bins=120, color=SKY)
    below = int((values < floor).sum())
    top.set(yscale="log", ylabel="cells")
    top.set_title(f"{len(values):,} cells; {below:,} lie left of what is shown", fontsize=9)
    for place, method in enumerate(methods):
        bottom.plot(
            method.truths, [place] * len(method.truths), "|", markersize=9, markeredgewidth=1.4,
            alpha=max(0.15, min(1, 30 / len(method.truths))), color=of_method(place)["color"],
        )  # fmt: skip
    bottom.set_yticks(range(len(methods)), [method.label for method in methods])
    bottom.set_ylim(len(methods) - 0.4, -0.6)
    bottom.set_xlabel(measure.label("cells"))
    bottom.grid(axis="x", alpha=0.25)
    return figure


def _differences(methods: Sequence[Method], rank: Ranks) -> Any:
    """Average ranks on a line; bars join methods whose difference is below the critical one (Demsar 2006, figure 1)."""
    from matplotlib.figure import Figure

    order = np.argsort(rank.mean_M, kind="stable")
    count = len(order)
    groups = alike(rank)
    left = (count + 1) // 2
    figure = Figure(figsize=(7.5, 0.9 + 0.24 * left + 0.13 * len(groups)), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.hlines(0, 1, max(count, 2), color=INK)
    for tick in range(1, count + 1):
        axes.vlines(tick, 0, 0.12, color=INK)
        axes.text(tick, 0.2, str(tick), ha="center", va="bottom", fontsize=8)
    start = -0.25 - 0.28 * len(groups)
    for place, method in enumerate(order):
        low = place < left
        row = start - 0.5 * (place if low else count - 1 - place)
        edge = 0.85 if low else count + 0.15
        value = rank.mean_M[method]
        axes.plot([value, value, edge], [0, row, row], color=INK, linewidth=0.8)
        label = f"{methods[method].label}  {value:.2f}" if low else f"{value:.2f}  {methods[method].label}"
        axes.text(edge, row, label, ha="right" if low else "left", va="center", fontsize=8)
    for line, (first, last) in enumerate(groups):
        ends = rank.mean_M[order[first]] - 0.03, rank.mean_M[order[last]] + 0.03
        axes.plot(ends, [-0.2 - 0.28 * line] * 2, color=RED, linewidth=3, solid_capstyle="butt")
    axes.plot([1, 1 + rank.difference], [0.95, 0.95], color=RED, linewidth=2)
    axes.text(
        1 + rank.difference / 2,
        1.02,
        f"critical difference {rank.difference:.2f}",
        ha="center",
        va="bottom",
        fontsize=8,
    )
    reach = 0.45 * count
    axes.set(xlim=(1 - reach, count + reach), ylim=(start - 0.5 * left, 1.5))
    return figure
