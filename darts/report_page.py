"""One page about a comparison: a file that needs no network, on a screen, a phone or paper, in light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from darts import __version__
from darts.comparison import Loaded, is_unknown
from darts.figures import COLOURS
from darts.statistics import FEW, Ranks
from supernet.search_space import SearchSpace

STYLE = Path(__file__).with_name("report_page.css").read_text(encoding="utf-8")
SCRIPT = Path(__file__).with_name("report_page.js").read_text(encoding="utf-8")
COLUMNS = {  # of compare.csv: heading, format, explanation
    "method": ("method", "{}", "name of the method"),
    "runs": ("runs", "{}", "number of runs"),
    "truth_mean": ("accuracy", "{:.3f}", "mean known accuracy of what the runs found (%)"),
    "truth_low": ("from", "{:.3f}", "lower end of the mean's 95% interval"),
    "truth_high": ("to", "{:.3f}", "upper end of the mean's 95% interval"),
    "truth_std": ("deviation", "{:.3f}", "standard deviation over runs"),
    "rank": ("rank", "{:.2f}", "average rank over matched runs; 1 is the best"),
    "p_better_than_random": ("beats random", "{:.2f}", "probability that a run beats one of random search, ties half"),
    "p_value": ("p", "{:.2g}", "one-sided p of Mann and Whitney's test that it beats random search"),
    "cost": ("cost", "{:,.4g}", "full trainings a run"),
    "images": ("images", "{:,.3g}", "images passed forward a run"),
    "seconds": ("seconds", "{:,.4g}", "working time a run"),
    "hypervolume": ("hypervolume", "{:.4f}", "mean hypervolume of the fronts, as a share of the table's own front's"),
    "failed": ("failed", "{}", "evaluations that failed, all runs together"),
}
CAPTIONS = {
    "anytime": (
        "Over cost",
        "Mean known accuracy of the incumbent over the cost spent so far, with its 95% interval (Student's t). "
        "Incumbents are chosen by what a method sees, not by known accuracy, so curves may fall.",
    ),
    "boxes": (
        "What the runs found",
        "Boxes: quartiles and median; whiskers: 1.5 times the box's length; a dot is a run.",
    ),
    "front": (
        "Two objectives",
        "Known accuracy and price of the cells that none of their run beats in both, by what the search saw; of each "
        "method the run with the median hypervolume.",
    ),
    "differences": (
        "Are the differences real?",
        "Average ranks over matched runs; methods joined by a bar do not differ at 5% (Nemenyi's test).",
    ),
    "space": (
        "Where that lies in the space",
        "All cells of the space by known accuracy (log scale), and below them the cells found by each method.",
    ),
}


def page(loaded: Loaded, rows: Sequence[Mapping[str, Any]], figures: Mapping[str, str], rank: Ranks | None) -> str:
    """The page as HTML."""
    space = SearchSpace(**loaded.space)
    title = f"{len(rows)} methods compared" if len(rows) > 1 else f"{rows[0]['method']}"
    notes = "".join(
        f'<p class="note">{escape(row["method"])}: {escape(row["notes"])}.</p>' for row in rows if row["notes"]
    )
    friedman = ""
    if rank is not None and not is_unknown(rank.p):
        friedman = f" Friedman's test that all methods are alike: p = {rank.p:.2g}."
    sections = "".join(
        f"<section><h2>{heading}</h2><figure>{figures[name]}<figcaption>{caption}"
        f"{friedman if name == 'differences' else ''}</figcaption></figure></section>"
        for name, (heading, caption) in CAPTIONS.items()
        if name in figures
    )
    cells = "".join(
        f'<div class="cell"><strong>{escape(row["method"])}</strong> {row["truth_best"]:.2f}%'
        f"{cell_svg(row['best_cell'], space)}<code>{escape(row['best_cell'])}</code></div>"
        for row in rows
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p>Judged by {escape(str(loaded.truth))} of table {escape(loaded.table)}, which no search saw before it had ended.
Intervals are of the mean, 95%: bootstrap, below {FEW} runs Student's t.</p>{notes}
<section><h2>Table</h2><div class="scroll">{_table(rows)}</div><p>Press a heading to sort.</p></section>
{sections}
<section><h2>The best cell of each method</h2><div class="cells">{cells}</div></section>
<p>darts-supernet {__version__}; the figures behind this page: compare.csv, config.yaml.</p>
<script>{SCRIPT}</script></body></html>
"""


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    known = {
        name: column
        for name, column in COLUMNS.items()
        if not all(is_unknown(row[name]) for row in rows) and (name != "failed" or any(row[name] for row in rows))
    }
    head = "".join(
        f'<th scope="col" title="{escape(explanation)}"><button type="button">{heading}</button></th>'
        for heading, _, explanation in known.values()
    )
    body = ""
    for row in rows:
        body += "<tr>"
        for name, (_, form, _) in known.items():
            value = row[name]
            empty = is_unknown(value)
            shown = "" if empty else escape(form.format(value))
            body += f'<td data-value="{"" if empty else escape(str(value))}">{shown}</td>'
        body += "</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def cell_svg(cell: str, space: SearchSpace) -> str:
    """A cell as a small graph: nodes from left to right, an arc an edge; edges of operation none are dotted."""
    genotype = space.parse(cell)
    last = genotype.num_nodes - 1
    gap, reach = 240 / last, 34.0
    middle = reach * last / 2 + 16
    height = middle + max(20.0, reach * (last - 1) / 2 + 8)
    parts, labels = [], []
    for (source, target), name in zip(space.edges, genotype.operations, strict=True):
        colour = COLOURS[space.operations.index(name) % len(COLOURS)]
        span = target - source
        bend = 0.0 if span == 1 else reach * span * (-1 if source % 2 == 0 else 1)
        start, end = 30 + gap * source, 30 + gap * target
        centre = (start + end) / 2
        dots = ' stroke-dasharray="2 4"' if name == "none" else ""
        path = f"M{start:.0f} {middle:.0f} Q{centre:.0f} {middle + bend:.0f} {end:.0f} {middle:.0f}"
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2.5"{dots}/>')
        short = name.replace("nor_conv_", "conv ").replace("avg_pool_", "pool ").replace("skip_connect", "skip")
        at = f'x="{centre:.0f}" y="{middle + bend / 2 - 4:.0f}"'
        labels.append(f'<text {at} text-anchor="middle">{escape(short)}</text>')
    for node in range(last + 1):
        label = "in" if node == 0 else "out" if node == last else str(node)
        parts.append(f'<circle cx="{30 + gap * node:.0f}" cy="{middle:.0f}" r="12"/>')
        labels.append(f'<text x="{30 + gap * node:.0f}" y="{middle + 3.5:.1f}" text-anchor="middle">{label}</text>')
    inside = "".join(parts + labels)
    return f'<svg viewBox="0 0 300 {height:.0f}" role="img" aria-label="{escape(cell)}">{inside}</svg>'
