"""Colours and styles of all pictures: one palette, told apart without colour vision too (Okabe & Ito 2008)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from darts.run.files import replacing

GREY, ORANGE, SKY, BLUE, GREEN, PINK, RED, YELLOW = (
    "#9e9e9e", "#e69f00", "#56b4e9", "#0072b2", "#009e73", "#cc79a7", "#d55e00", "#f0e442",
)  # fmt: skip
OPERATIONS = (GREY, ORANGE, SKY, BLUE, GREEN, PINK, RED, YELLOW)
METHODS = (BLUE, RED, GREEN, PINK, ORANGE, SKY, "#8c6bb1", GREY)
DASHES = ("-", "--", ":")
INK, PAPER = "#123456", "#fedcba"  # in SVG: these stand for the page's own colours until it is written

# Labels are users' own: a $ in them is a $.
PLAIN: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
}


def of_operation(place: int) -> str:
    """Colour of the candidate operation at a place."""
    return OPERATIONS[place % len(OPERATIONS)]


def of_method(place: int) -> dict[str, Any]:
    """Colour and dashes of the method at a place."""
    return {"color": METHODS[place % len(METHODS)], "linestyle": DASHES[place // len(METHODS) % len(DASHES)]}


def plain_style() -> AbstractContextManager[None]:
    """How pictures of a run look."""
    import matplotlib

    return matplotlib.rc_context({**PLAIN, "backend": "agg"})


def save_png(figure: Any, path: Path) -> None:
    """Write a picture of a run."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def page_style() -> AbstractContextManager[None]:
    """How pictures in a page look: lines and letters take the colour of the text around them."""
    import matplotlib

    style: dict[Any, Any] = {
        **PLAIN,
        "font.family": ["DejaVu Sans", "sans-serif"],
        "svg.fonttype": "none",
        "svg.hashsalt": "darts",
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    }
    return matplotlib.rc_context(style)
