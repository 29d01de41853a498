"""One page about a comparison: a file that needs no network, on a screen, a phone or paper, in light and dark."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jinja2

from darts import __version__
from darts.compare.load import Loaded, Method, is_unknown
from darts.compare.significance import FEW, Ranks
from darts.compare.summary import number, short
from darts.report.compare_figures import MANY, chosen_at_first
from darts.report.palette import of_method
from darts.report.svg import cell_svg

FOLDER = Path(__file__).parent
MOST_SPANS = 12  # of seeds that are written out
COLUMNS = {  # of compare.csv: heading, text of a value, explanation
    "method": ("method", "{}".format, "name of the method"),
    "runs": ("runs", "{}".format, "number of runs"),
    "truth_mean": ("accuracy", partial(number, digits=3), "mean of what the runs found, by what all are judged by"),
    "truth_low": ("from", partial(number, digits=3), "lower end of the mean's 95% interval"),
    "truth_high": ("to", partial(number, digits=3), "upper end of the mean's 95% interval"),
    "truth_std": ("deviation", partial(number, digits=3), "standard deviation over runs"),
    "rank": ("rank", "{:.2f}".format, "average rank over matched runs; 1 is the best"),
    "p_better_than_random": (
        "beats random",
        "{:.2f}".format,
        "probability that a run beats one of random search at equal cost, ties half",
    ),
    "p_holm": (
        "p",
        "{:.2g}".format,
        "one-sided p of Mann and Whitney's test that it beats random search, at equal cost, "
        "corrected by Holm for the number of methods that are tested",
    ),
    "agreement": ("agreement", "{:.2f}".format, "share of runs that chose the same on an edge, mean over edges"),
    "cost": ("cost", short, "full trainings a run"),
    "images": ("images", short, "images passed forward a run"),
    "seconds": ("seconds", short, "working time a run"),
    "hypervolume": ("hypervolume", "{:.4f}".format, "mean hypervolume of the fronts, as a share of that of the table"),
    "failed": ("failed", "{}".format, "evaluations that failed, all runs together"),
}
TRUTHS = {"truth_mean", "truth_low", "truth_high"}
LOWEST_FIRST = {"method", "truth_std", "rank", "p_holm", "cost", "images", "seconds", "failed"}  # less is better
CAPTIONS = {
    "anytime": (
        "Over cost",
        "Mean over runs of the incumbent over the cost spent so far, with its 95% interval (Student's t). "
        "Incumbents are chosen by what a method sees, not by what it is judged by, so curves may fall.",
    ),
    "regret": (
        "Over cost, by what is missing",
        "The same on a log axis: how far the mean incumbent is from the best cell that the table knows.",
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
    made: Mapping[str, str] | None = None,
) -> str:
    """The page as HTML; `first` is its first sentence, `warning` is about all methods, `made` says when and how it came
    about."""
    columns = {
        name: column
        for name, column in COLUMNS.items()
        if not all(is_unknown(row[name]) for row in rows) and (name != "failed" or any(row[name] for row in rows))
    }
    return rendered(
        "page.html",
        title=f"{len(rows)} methods compared" if len(rows) > 1 else rows[0]["method"],
        measure=loaded.measure,
        first=first,
        warning=warning,
        lowest_first=LOWEST_FIRST if loaded.measure.higher_is_better else LOWEST_FIRST | TRUTHS,
        rows=rows,
        columns=columns,
        facts={**(made or {}), **_facts(loaded.methods)},
        legend=[
            {"label": method.label, "chosen": chosen, **of_method(place)}
            for place, (method, chosen) in enumerate(zip(loaded.methods, chosen_at_first(loaded), strict=True))
        ],
        many=MANY,
        dashes={"-": "none", "--": "6 3", ":": "2 2"},
        captions={name: caption for name, caption in CAPTIONS.items() if name in figures},
        figures=figures,
        cells=_cells(loaded, rows),
        rank=rank,
        few=FEW,
        is_unknown=is_unknown,
    )


def rendered(template: str, **content: Any) -> str:
    """A page of its own: a template of this folder with the style and the script that all have."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return templates.get_template(template).render(version=__version__, style=style, script=script, **content)


def _facts(methods: Sequence[Method]) -> dict[str, str]:
    """What all runs have in common, or which have what."""
    seeds = {method.label: _spans(sorted(trial.seed for trial in method.trials)) for method in methods}
    signals = {method.label: method.signal for method in methods}
    return {"seeds": _grouped(seeds), "what a search saw of a cell": _grouped(signals)}


def _grouped(values: Mapping[str, str]) -> str:
    """By method: the one value of all, or every value with its methods."""
    groups: dict[str, list[str]] = {}
    for label, value in values.items():
        groups.setdefault(value, []).append(label)
    if len(groups) == 1:
        return next(iter(groups))
    return "; ".join(f"{value} ({', '.join(labels)})" for value, labels in groups.items())


def _spans(seeds: Sequence[int]) -> str:
    """``0-4, 7`` for 0, 1, 2, 3, 4, 7; how many there are and the bounds where that would be a long row."""
    rows = itertools.groupby(enumerate(seeds), lambda pair: pair[1] - pair[0])
    ends = [(found[0], found[-1]) for _, row in rows for found in [[seed for _, seed in row]]]
    if len(ends) > MOST_SPANS:
        return f"{len(seeds):,} from {seeds[0]} to {seeds[-1]}"
    return ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in ends)


def _cells(loaded: Loaded, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The best cell of each method, drawn once where several found the same."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["best_cell"], []).append(row)
    return [
        {
            "cell": cell,
            "methods": ", ".join(row["method"] for row in its),
            "truth": " or ".join(dict.fromkeys(f"{row['truth_best']:.2f}{loaded.measure.unit}" for row in its)),
            "picture": cell_svg(cell, loaded.space, f"cell-{place}"),
        }
        for place, (cell, its) in enumerate(found.items())
    ]
