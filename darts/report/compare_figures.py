"""Pictures of a comparison, as SVG: lines and letters take the colour of the text around them.

In the page the curve and the band of the method at place 3 are groups whose ids end in ``-line-3`` and ``-band-3``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darts.compare.curves import Array, anytime
from darts.compare.load import AXES, Loaded, Method
from darts.compare.significance import FEW, Ranks, alike
from darts.compare.summary import RANDOM, short
from darts.compare.trials import Measure
from darts.report.palette import BLUE, INK, RED, SKY, of_method, page_style
from darts.report.svg import as_svg
from darts.run.files import write_text

LABEL = 28  # letters in a line of a label
MANY = 6  # methods, above which the bands of all would hide the curves
NEAREST = 0.01  # to the best that is known; what is nearer is drawn there


def draw_compare(loaded: Loaded, axis: str, rank: Ranks | None, folder: Path) -> dict[str, str]:
    """Write anytime.svg, boxes.svg, and as they apply regret.svg, front.svg, differences.svg and space.svg; returns
    name to SVG as the page has them, where the legend of curves is the page's own."""
    from matplotlib.figure import Figure

    methods, measure, table = loaded.methods, loaded.measure, loaded.table
    with page_style():
        values = None if table is None or measure.column is None else table.columns.get(measure.column)
        over_cost = {"anytime": _anytime, **({} if values is None else {"regret": _regret})}
        figures: dict[str, Figure] = {"boxes": _boxes(methods, measure)}
        if loaded.objective is not None:
            figures["front"] = _front(loaded)
        if rank is not None and rank.runs >= FEW:
            figures["differences"] = _differences(methods, rank)
        if values is not None:
            figures["space"] = _space(methods, values, measure)
        pictures = {name: as_svg(figure, name) for name, figure in figures.items()}
        alone = {name: as_svg(draw(loaded, axis, legend=True), name) for name, draw in over_cost.items()}
        in_page = {name: as_svg(draw(loaded, axis, legend=False), name) for name, draw in over_cost.items()}
    for name, text in (alone | pictures).items():
        write_text(folder / f"{name}.svg", text)
    return in_page | pictures


def chosen_at_first(loaded: Loaded) -> list[bool]:
    """By method, whether its curve shows when the page opens: all, or of many the best three and the yardstick."""
    best = loaded.methods[:3] if len(loaded.methods) > MANY else loaded.methods
    return [method in best or method.settings.get("baseline._target_") == RANDOM for method in loaded.methods]


def _anytime(loaded: Loaded, axis: str, legend: bool) -> Any:
    """The incumbent over cost, as it is judged."""
    lowest, highest = loaded.limits
    figure, axes, means = _over_cost(loaded, axis, legend, lambda value_K: np.clip(value_K, lowest, highest))
    late = np.concatenate([mean_K[len(mean_K) // 3 :] for mean_K in means] or [np.zeros(1)])
    room = 0.05 * (late.max() - late.min()) + 0.05
    axes.set_ylim(late.min() - room, late.max() + room)
    axes.set_ylabel(loaded.measure.label("the incumbent"))
    return figure


def _regret(loaded: Loaded, axis: str, legend: bool) -> Any:
    """The distance of the incumbent from the best of the table, on a log axis."""
    best = loaded.limits[1] if loaded.measure.higher_is_better else loaded.limits[0]
    figure, axes, means = _over_cost(loaded, axis, legend, lambda value_K: np.maximum(abs(best - value_K), NEAREST))
    least, most = (float(end) for end in (min(map(np.min, means), default=1), max(map(np.max, means), default=1)))
    axes.set(yscale="log", ylim=(0.8 * least, 1.25 * most))
    _plain_numbers(axes.yaxis)
    axes.set_ylabel(f"distance of the incumbent from the best, {best:.2f}{loaded.measure.unit}")
    return figure


def _over_cost(
    loaded: Loaded, axis: str, legend: bool, shown: Callable[[Array], Array]
) -> tuple[Any, Any, list[Array]]:
    """A figure, its axes, and the means of all methods, as `shown`; bands only where few methods leave room."""
    from matplotlib.figure import Figure

    methods, means = loaded.methods, []
    figure = Figure(figsize=(7.5, 4.4 + (0.09 * len(methods) if legend else 0)), layout="constrained")
    axes = figure.subplots()
    for place, method in enumerate(methods):
        if (band := anytime(method, axis)) is None:
            continue
        at_K, mean_K, reach_K = band
        style = of_method(place)
        means.append(shown(mean_K))
        axes.step(
            at_K, means[-1], where="post", label=_wrapped(method.label), linewidth=1.6, gid=f"line-{place}", **style
        )
        if reach_K is not None and not (legend and len(methods) > MANY):
            sides = (shown(mean_K - reach_K), shown(mean_K + reach_K))
            axes.fill_between(
                at_K, *sides, step="post", color=style["color"], alpha=0.15, linewidth=0, gid=f"band-{place}"
            )
    axes.set(xscale="log", xlabel=AXES[axis])
    _plain_numbers(axes.xaxis)
    axes.grid(alpha=0.25)
    if legend:
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure, axes, means


def _plain_numbers(axis: Any) -> None:
    """0.1, 0.2, 0.5, 1 at a log axis: its own 10^-1 would be set as mathematics, which labels of users forbid."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_formatter(NullFormatter())


def _wrapped(label: str) -> str:
    """In lines: long labels take room below, not beside."""
    return "\n".join(textwrap.wrap(label, LABEL)) or label


def _row(methods: Sequence[Method], height: float) -> float:
    """The height of a row beside labels, in inches; more than one line asks for more."""
    return max(height, 0.15 * max(1 + _wrapped(method.label).count("\n") for method in methods))


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
            label=_wrapped(method.label),
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

    ordered = methods[::-1]  # the first of them on top
    figure = Figure(figsize=(7.5, 1.1 + _row(methods, 0.32) * len(methods)), layout="constrained")
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
    axes.set_yticks(range(1, len(ordered) + 1), [_wrapped(method.label) for method in ordered])
    axes.set_xlabel(measure.label("what was found"))
    axes.grid(axis="x", alpha=0.25)
    return figure


def _space(methods: Sequence[Method], values: NDArray[np.float64], measure: Measure) -> Any:
    from matplotlib.figure import Figure

    height = _row(methods, 0.22) * len(methods)
    figure = Figure(figsize=(7.5, 2.6 + height), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, height + 0.4])
    found = np.concatenate([method.truths for method in methods])
    floor = min(np.quantile(values, 0.5), found.min()) - 0.2
    top.hist(values[values >= floor], bins=120, color=SKY)
    below = int((values < floor).sum())
    top.set(yscale="log", ylabel="cells")
    _plain_numbers(top.yaxis)
    top.set_title(f"{len(values):,} cells; {below:,} lie left of what is shown", fontsize=9)
    for place, method in enumerate(methods):
        bottom.plot(
            method.truths, [place] * len(method.truths), "|", markersize=9, markeredgewidth=1.4,
            alpha=max(0.15, min(1, 30 / len(method.truths))), color=of_method(place)["color"],
        )  # fmt: skip
    bottom.set_yticks(range(len(methods)), [_wrapped(method.label) for method in methods])
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
    left, row_height = (count + 1) // 2, _row(methods, 0.24)
    figure = Figure(figsize=(7.5, 0.9 + row_height * left + 0.13 * len(groups)), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.hlines(0, 1, max(count, 2), color=INK)
    for tick in range(1, count + 1):
        axes.vlines(tick, 0, 0.12, color=INK)
        axes.text(tick, 0.2, str(tick), ha="center", va="bottom", fontsize=8)
    start, between = -0.25 - 0.28 * len(groups), 0.5 * row_height / 0.24
    for place, method in enumerate(order):
        low = place < left
        row = start - between * (place if low else count - 1 - place)
        edge = 0.85 if low else count + 0.15
        value = rank.mean_M[method]
        axes.plot([value, value, edge], [0, row, row], color=INK, linewidth=0.8)
        name = _wrapped(methods[method].label)
        label = f"{name}  {value:.2f}" if low else f"{value:.2f}  {name}"
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
    axes.set(xlim=(1 - reach, count + reach), ylim=(start - between * left, 1.5))
    return figure
