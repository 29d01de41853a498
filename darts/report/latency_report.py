"""What a fit of prices by operation gave: lines to read, and its picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from darts.report.palette import BLUE, GREY, plain_style, save_png
from darts.report.text import Lines
from supernet.price_table import PriceTable

COUNTED = {
    "all": "every operation has its price",
    "needed": "operations whose result leads nowhere cost nothing",
}


def latency_lines(
    table: PriceTable, values: Sequence[float], foretold: Sequence[float], cells: int, folder: Path
) -> Lines:
    """Name and value of everything worth reading; prices are over that of the cheapest operation of the edge."""
    given, guess = np.array(values), np.array(foretold)
    error = np.abs(guess - given)
    width = max(8, *map(len, table.candidates)) + 2
    lines = [
        ("prices", f"{table.name}, fitted to {cells:,} cells; {COUNTED[table.counts]}"),
        (
            "left out",
            f"{len(given):,} cells: Spearman {stats.spearmanr(given, guess).statistic:.4f}, off by {error.mean():.3g} "
            f"{table.unit} in the mean, of {given.mean():.3g}",
        ),
        ("edge", "".join(f"{name:>{width}}" for name in table.candidates)),
    ]
    for edge, row in zip(table.edges, table.prices_EO, strict=True):
        lines.append((f"  {edge}", "".join(f"{price - min(row):>{width}.3g}" for price in row)))
    return [*lines, ("file", str(folder / "prices.json")), ("picture", str(folder / "figures" / "fit.png"))]


def draw_fit(table: PriceTable, values: Sequence[float], foretold: Sequence[float], path: Path) -> None:
    """A dot a cell that was left out: what it costs over what the prices say."""
    from matplotlib.figure import Figure

    low, high = min(*values, *foretold), max(*values, *foretold)
    unit = f" ({table.unit})" if table.unit else ""
    with plain_style():
        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        axes = figure.subplots()
        axes.plot([low, high], [low, high], color=GREY, linewidth=0.8, linestyle=":")
        axes.scatter(foretold, values, s=9, color=BLUE, alpha=0.5, lw=0)
        axes.set(xlabel=f"by its operations{unit}", ylabel=f"{table.name}{unit}")
        axes.set_title(f"{len(values):,} cells left out")
        axes.grid(alpha=0.25)
        save_png(figure, path)
