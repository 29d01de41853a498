"""Figures as SVG inside of a page."""

from __future__ import annotations

import io
import re
from typing import Any

from darts.report.cell import draw_cell
from darts.report.palette import INK, PAPER, page_style
from supernet.spaces.base import Space


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
