"""Pictures of a comparison, as SVG: lines and letters take the colour of the text around them.

Shape suffixes: R runs, K places of an axis.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from darts.baseline_figures import values_at
from darts.comparison import AXES, Loaded, Method
from darts.oracle.base import Table
from darts.paths import write_text
from darts.statistics import Ranks

TEXT = "#123456"  # stands for the text's own colour until the picture is written
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#999999")
DASHES = ("-", "--", ":")
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.family": ["DejaVu Sans", "sans-serif"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "darts",
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), TEXT),
}


def style(place: int) -> dict[str, Any]:
    """Colour and dashes of the method at a place."""
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[place // len(COLOURS) % len(DASHES)]}


def draw_all(loaded: Loaded, axis: str, rank: Ranks | None, table: Table | None, folder: Path) -> dict[str, str]:
    """Write anytime.svg, boxes.svg, and as they apply front.svg, differences.svg and space.svg; returns name to SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    methods, truth = loaded.methods, str(loaded.truth)
    with matplotlib.rc_context(STYLE):
        figures: dict[str, Figure] = {"anytime": _anytime(methods, axis, truth), "boxes": _boxes(methods, truth)}
        if loaded.objective is not None:
            figures["front"] = _front(loaded)
        if rank is not None:
            figures["differences"] = _differences(methods, rank)
        if table is not None and loaded.truth in table.columns:
            figures["space"] = _space(methods, table.columns[loaded.truth], truth)
        pictures = {name: _svg(figure, name) for name, figure in figures.items()}
    for name, text in pictures.items():
        write_text(folder / f"{name}.svg", text)
    return pictures


def _svg(figure: Any, name: str) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", stream.getvalue(), flags=re.DOTALL)
    text = text[text.index("<svg") :].replace(TEXT, "currentColor")
    text = re.sub(r'(?<=id=")|(?<=url\(#)|(?<=href="#)', f"{name}-", text)  # several stand in one page
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'width="100%"', text, count=1)


def curves(method: Method, axis: str, at_K: NDArray[np.float64]) -> NDArray[np.float64]:
    """Truth of every run's incumbent at places of an axis, (R, K); nan before the first and after the end."""
    rows = []
    for trial in method.trials:
        places, values = zip(*trial.curve[axis], strict=True)
        row_K = values_at(places, values, at_K * (1 + 1e-12))
        row_K[at_K > trial.spent[axis] * (1 + 1e-12)] = np.nan
        rows.append(row_K)
    return np.array(rows)


def _anytime(methods: Sequence[Method], axis: str, truth: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.4 + 0.09 * len(methods)), layout="constrained")
    axes = figure.subplots()
    shade = 0.15 if len(methods) < 7 else 0.05
    lows, highs = [], []
    for place, method in enumerate(methods):
        first = min(trial.curve[axis][0][0] for trial in method.trials)
        last = max(trial.spent[axis] for trial in method.trials)
        at_K = np.unique(np.geomspace(max(first, 1e-9), max(last, first), 250))
        curves_RK = curves(method, axis, at_K)
        known_K = ~np.isnan(curves_RK).any(axis=0)
        if not known_K.any():
            continue
        mean_K, runs = curves_RK[:, known_K].mean(0), len(curves_RK)
        axes.step(at_K[known_K], mean_K, where="post", label=method.label, linewidth=1.6, **style(place))
        if runs > 1:
            reach_K = stats.t.ppf(0.975, runs - 1) * curves_RK[:, known_K].std(0, ddof=1) / runs**0.5
            colour = style(place)["color"]
            axes.fill_between(
                at_K[known_K], mean_K - reach_K, mean_K + reach_K, step="post", color=colour, alpha=shade, linewidth=0
            )
        late = mean_K[len(mean_K) // 3 :]
        lows.append(late.min())
        highs.append(late.max())
    if lows:
        room = 0.05 * (max(highs) - min(lows)) + 0.05
        axes.set_ylim(min(lows) - room, max(highs) + room)
    axes.set(xscale="log", xlabel=AXES[axis], ylabel=f"known accuracy of the incumbent, {truth} (%)")
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
        axes.step(prices, truths, where="post", color=TEXT, linewidth=1, alpha=0.6, label="table's own front")
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
            **style(place),
        )
    low, high = np.quantile(shown, 0.1), max(shown)
    room = 0.1 * (high - low) + 0.05
    axes.set_ylim(low - room, high + room)
    name, unit = loaded.objective["name"], loaded.objective["unit"]
    axes.set(xlabel=f"{name} ({unit}; {loaded.objective['network']})", ylabel=f"known accuracy, {loaded.truth} (%)")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower right", fontsize=8)
    return figure


def _boxes(methods: Sequence[Method], truth: str) -> Any:
    from matplotlib.figure import Figure

    ordered = sorted(methods, key=lambda method: float(np.mean(method.truths)))
    figure = Figure(figsize=(7.5, 1.1 + 0.32 * len(methods)), layout="constrained")
    axes = figure.subplots()
    line = {"color": TEXT}
    axes.boxplot(
        [method.truths for method in ordered], orientation="horizontal", widths=0.55, showfliers=False,
        boxprops=line, whiskerprops=line, capprops=line, medianprops={"color": "#d55e00", "linewidth": 2},
    )  # fmt: skip
    for place, method in enumerate(ordered, 1):
        count = len(method.truths)
        heights = place + 0.18 * np.sin(np.arange(count) * 2.4)  # spread out, the same in every drawing
        axes.plot(method.truths, heights, "o", markersize=2.5, alpha=max(0.1, min(0.7, 20 / count)), color="#0072b2")
    axes.set_yticks(range(1, len(ordered) + 1), [method.label for method in ordered])
    axes.set_xlabel(f"known accuracy of what was found, {truth} (%)")
    axes.grid(axis="x", alpha=0.25)
    return figure


def _space(methods: Sequence[Method], values: NDArray[np.float64], truth: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 2.6 + 0.22 * len(methods)), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 0.22 * len(methods) + 0.4])
    found = np.concatenate([method.truths for method in methods])
    floor = min(np.quantile(values, 0.5), found.min()) - 0.2
    top.hist(values[values >= floor], bins=120, color="#56b4e9")
    below = int((values < floor).sum())
    top.set(yscale="log", ylabel="cells")
    top.set_title(f"{len(values):,} cells; {below:,} lie left of what is shown", fontsize=9)
    for place, method in enumerate(methods):
        bottom.plot(
            method.truths, [place] * len(method.truths), "|", markersize=9, markeredgewidth=1.4,
            alpha=max(0.15, min(1, 30 / len(method.truths))), color=style(place)["color"],
        )  # fmt: skip
    bottom.set_yticks(range(len(methods)), [method.label for method in methods])
    bottom.set_ylim(len(methods) - 0.4, -0.6)
    bottom.set_xlabel(f"known accuracy, {truth} (%)")
    bottom.grid(axis="x", alpha=0.25)
    return figure


def _differences(methods: Sequence[Method], rank: Ranks) -> Any:
    """Average ranks on a line; bars join methods whose difference is below the critical one (Demsar 2006, figure 1)."""
    from matplotlib.figure import Figure

    order = np.argsort(rank.mean_M, kind="stable")
    count = len(order)
    groups: list[tuple[int, int]] = []
    for first in range(count):
        last = max(i for i in range(count) if rank.mean_M[order[i]] - rank.mean_M[order[first]] <= rank.difference)
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    left = (count + 1) // 2
    figure = Figure(figsize=(7.5, 0.9 + 0.24 * left + 0.13 * len(groups)), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.hlines(0, 1, max(count, 2), color=TEXT)
    for tick in range(1, count + 1):
        axes.vlines(tick, 0, 0.12, color=TEXT)
        axes.text(tick, 0.2, str(tick), ha="center", va="bottom", fontsize=8)
    start = -0.25 - 0.28 * len(groups)
    for place, method in enumerate(order):
        low = place < left
        row = start - 0.5 * (place if low else count - 1 - place)
        edge = 0.85 if low else count + 0.15
        value = rank.mean_M[method]
        axes.plot([value, value, edge], [0, row, row], color=TEXT, linewidth=0.8)
        label = f"{methods[method].label}  {value:.2f}" if low else f"{value:.2f}  {methods[method].label}"
        axes.text(edge, row, label, ha="right" if low else "left", va="center", fontsize=8)
    for line, (first, last) in enumerate(groups):
        ends = rank.mean_M[order[first]] - 0.03, rank.mean_M[order[last]] + 0.03
        axes.plot(ends, [-0.2 - 0.28 * line] * 2, color="#d55e00", linewidth=3, solid_capstyle="butt")
    axes.plot([1, 1 + rank.difference], [0.95, 0.95], color="#d55e00", linewidth=2)
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
