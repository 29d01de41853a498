"""One page about a comparison: a file that needs no network, on a screen, a phone or paper, in light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from darts import __version__
from darts.compare.load import Loaded, is_unknown
from darts.compare.significance import FEW, Ranks
from darts.report.compare_figures import cell_svg

FOLDER = Path(__file__).parent
COLUMNS = {  # of compare.csv: heading, format, explanation
    "method": ("method", "{}", "name of the method"),
    "runs": ("runs", "{}", "number of runs"),
    "truth_mean": ("accuracy", "{:.3f}", "mean of what the runs found, by what all are judged by"),
    "truth_low": ("from", "{:.3f}", "lower end of the mean's 95% interval"),
    "truth_high": ("to", "{:.3f}", "upper end of the mean's 95% interval"),
    "truth_std": ("deviation", "{:.3f}", "standard deviation over runs"),
    "rank": ("rank", "{:.2f}", "average rank over matched runs; 1 is the best"),
    "p_better_than_random": (
        "beats random",
        "{:.2f}",
        "probability that a run beats one of random search at equal cost, ties half",
    ),
    "p_holm": (
        "p",
        "{:.2g}",
        "one-sided p of Mann and Whitney's test that it beats random search, at equal cost, "
        "corrected by Holm for the number of methods that are tested",
    ),
    "agreement": ("agreement", "{:.2f}", "share of runs that chose the same on an edge, mean over edges"),
    "cost": ("cost", "{:,.4g}", "full trainings a run"),
    "images": ("images", "{:,.3g}", "images passed forward a run"),
    "seconds": ("seconds", "{:,.4g}", "working time a run"),
    "hypervolume": ("hypervolume", "{:.4f}", "mean hypervolume of the fronts, as a share of the table's own front's"),
    "failed": ("failed", "{}", "evaluations that failed, all runs together"),
}
TRUTHS = {"truth_mean", "truth_low", "truth_high"}
LOWEST_FIRST = {"method", "truth_std", "rank", "p_holm", "cost", "images", "seconds", "failed"}  # less is better
CAPTIONS = {
    "anytime": (
        "Over cost",
        "Mean over runs of the incumbent over the cost spent so far, with its 95% interval (Student's t). "
        "Incumbents are chosen by what a method sees, not by what it is judged by, so curves may fall.",
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


def page(
    loaded: Loaded,
    rows: Sequence[Mapping[str, Any]],
    figures: Mapping[str, str],
    rank: Ranks | None,
    first: str = "",
    warning: str = "",
) -> str:
    """The page as HTML; `first` is its first sentence, `warning` is about all methods."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    columns = {
        name: column
        for name, column in COLUMNS.items()
        if not all(is_unknown(row[name]) for row in rows) and (name != "failed" or any(row[name] for row in rows))
    }
    return templates.get_template("page.html").render(
        title=f"{len(rows)} methods compared" if len(rows) > 1 else rows[0]["method"],
        measure=loaded.measure,
        first=first,
        warning=warning,
        lowest_first=LOWEST_FIRST if loaded.measure.higher_is_better else LOWEST_FIRST | TRUTHS,
        rows=rows,
        columns=columns,
        captions={name: caption for name, caption in CAPTIONS.items() if name in figures},
        figures=figures,
        cells=[cell_svg(row["best_cell"], loaded.space, f"cell-{place}") for place, row in enumerate(rows)],
        friedman=None if rank is None or is_unknown(rank.p) else rank.p,
        few=FEW,
        version=__version__,
        is_unknown=is_unknown,
        style=(FOLDER / "page.css").read_text(encoding="utf-8"),
        script=(FOLDER / "page.js").read_text(encoding="utf-8"),
    )
