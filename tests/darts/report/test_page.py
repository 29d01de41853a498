"""The page of a comparison: markup that is whole, names that stay names, pictures that can be read."""

from __future__ import annotations

import ast
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darts.compare.load import Loaded, Method, is_unknown
from darts.compare.summary import RANDOM, matched_ranks, summary
from darts.compare.trials import Measure, Trial
from darts.oracle.base import Column, Table
from darts.report import palette
from darts.report.compare_figures import draw_compare
from darts.report.page import COLUMNS, _spans, page
from darts.report.svg import cell_svg
from supernet.spaces.cells import CellSpace

REPORT = Path(palette.__file__).parent
VOID = {"wbr", "meta", "link", "br", "hr", "img", "input"}
SPACE = CellSpace(3)
TRUTH = Column("cifar10", "test", 200)
AWKWARD = """<b>&"x"</b> 'y' </td></svg><script>alert(1)</script>"""
NOTE = "it saw <i>everything</i> & more"


def made_up(label: str, seed: int, notes: list[str] | None = None, runs: int = 3) -> Method:
    """Runs that each found two cells, with a front."""
    rng, trials = np.random.default_rng(seed), []
    for run in range(runs):
        truths = sorted(rng.uniform(88, 94, 2).tolist())
        curve = {axis: [(1.0, truths[0]), (7.0, truths[1])] for axis in ("cost", "images")}
        cell = str(SPACE.genotype(int(rng.integers(SPACE.size))))
        front = [(truths[0], 1.0), (truths[1], 2.0)]
        trials.append(Trial(Path(), run, cell, truths[1], curve, {"cost": 20.0, "images": 3e7}, run, front, 0.5))
    return Method(label, "cifar10/valid/12", {}, trials, notes or [])


class Markup(HTMLParser):
    """Tags, texts and attributes of a page; whatever is not closed in order is noted."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []  # with what is around them
        self.texts: list[tuple[str, tuple[str, ...]]] = []
        self.feed(text)
        self.close()
        self.wrong += [f"<{tag}> is not closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs), tuple(self.open)))
        if len(dict(attrs)) < len(attrs):
            self.wrong.append(f"<{tag}> has an attribute twice")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs), tuple(self.open)))
        if "svg" not in self.open and tag not in VOID:
            self.wrong.append(f"<{tag}/> closes nothing in HTML")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((data.strip(), tuple(self.open)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs, _ in self.tags if name == tag]


Page = tuple[str, Markup, list[dict[str, Any]], dict[str, str], Path]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A page with all figures about four methods, one of them with an awkward name and a note with markup."""
    table = Table("made <up>", {TRUTH: np.random.default_rng(0).uniform(60, 95, SPACE.size)}, space=SPACE)
    labels = {"random": None, AWKWARD: [NOTE, "so"], "a & b": None, "d": None}
    methods = [made_up(label, seed, notes, runs=10) for seed, (label, notes) in enumerate(labels.items(), 1)]
    objective = {"name": "flops <n>", "unit": "M", "network": "C=16, N=5", "exact": True}
    measure = Measure(str(TRUTH), column=TRUTH, table=table.name)
    loaded = Loaded(SPACE, measure, table, methods, objective, [(70.0, 1.0), (94.9, 2.0)])
    rank = matched_ranks(loaded)
    rows = summary(loaded, "cost", rank)
    folder = tmp_path_factory.mktemp("figures")
    figures = draw_compare(loaded, "cost", rank, folder)
    text = page(loaded, rows, figures, rank, made={"date": "2026-11-26 12:00", "command": f"darts compare {AWKWARD}"})
    return text, Markup(text), rows, figures, folder


def test_the_markup_is_whole(shown: Page) -> None:
    text, markup, _, figures, _ = shown
    assert text.startswith("<!doctype html>\n")
    assert markup.wrong == []
    assert list(figures) == ["anytime", "regret", "boxes", "front", "differences", "space"]
    assert len(markup.all("svg")) == len(figures) + 4 + 2 * 4, "cells and the lines of two legends"
    for tag in ("html", "head", "body", "title", "table", "script"):
        assert len(markup.all(tag)) == 1
    assert markup.all("html")[0]["lang"] == "en"
    assert not re.search(r"\{\{|\{%|\bNone\b|\bnan\b", text), "nothing of the template or of Python shows"


def test_the_check_of_markup_can_fail() -> None:
    for text in ("<p>", "<p></b></p>", "</p>", "<div/>", "<p id=1 id=2></p>", "<svg><g></svg></g>"):
        assert Markup(text).wrong
    assert not Markup("<p>a<br>b<svg><path/></svg></p>").wrong


def test_names_and_notes_stay_text(shown: Page) -> None:
    text, markup, *_ = shown
    assert not {"b", "i"} & {tag for tag, *_ in markup.tags}
    assert "alert(1)" not in "".join(data for data, around in markup.texts if "script" in around)
    assert AWKWARD not in text
    assert NOTE not in text
    outside = [data for data, around in markup.texts if "svg" not in around]
    assert f"{AWKWARD}: {NOTE}; so." in outside
    assert outside.count(AWKWARD) == 4  # in the table, in two legends and over its cell
    inside = "".join(data for data, around in markup.texts if "text" in around).replace(" ", "")
    assert inside.count(AWKWARD.replace(" ", "")) == 4  # box, front, ranks and space, in lines of their own
    assert "flops<n>" in inside
    assert any("table made <up>," in data for data in outside)


def test_a_comparison_of_one_method_is_called_by_its_name() -> None:
    (method,) = methods = [made_up(AWKWARD, 2)]
    loaded = Loaded(SPACE, Measure(str(TRUTH), column=TRUTH, table="made"), None, methods)
    text = page(loaded, summary(loaded, "cost", None), {}, None)
    markup = Markup(text)
    assert markup.wrong == []
    assert [data for data, around in markup.texts if around[-1] in ("title", "h1")] == [method.label] * 2


def test_the_table_is_sorted_by_exact_values(shown: Page) -> None:
    """data-value of every field is the number of compare.csv, whatever is shown; empty where nothing is known."""
    _, markup, rows, *_ = shown
    headings = [data for data, around in markup.texts if around[-2:] == ("th", "button")]
    names = {heading: name for name, (heading, *_) in COLUMNS.items()}
    columns = [names[heading] for heading in headings]
    assert columns == [name for name in COLUMNS if name in columns]
    hidden = set(COLUMNS) - set(columns)
    assert hidden == {"seconds", "p_better_than_random", "p_holm"}  # nobody knows them here
    assert all(is_unknown(row[name]) for row in rows for name in hidden)
    fields = [attrs["data-value"] for attrs in markup.all("td")]
    assert fields == [str(row[name]) for row in rows for name in columns]
    assert len(markup.all("tr")) == 1 + len(rows)
    assert all(attrs["scope"] == "col" and attrs["title"] for attrs in markup.all("th"))
    best = dict(zip(columns, (attrs["data-best"] for attrs in markup.all("th")), strict=True))
    assert (best["truth_mean"], best["rank"], best["cost"], best["failed"]) == ("high", "low", "low", "low")


def test_what_is_not_known_of_one_method_is_an_empty_field() -> None:
    methods = [made_up("one", 1), made_up("three", 2)]
    del methods[0].trials[1:]
    for method in methods:
        for trial in method.trials:
            trial.failed = 0
    loaded = Loaded(SPACE, Measure(str(TRUTH), column=TRUTH, table="made"), None, methods)
    rows = summary(loaded, "cost", None)
    markup = Markup(page(loaded, rows, {}, None))
    headings = [data for data, around in markup.texts if around[-2:] == ("th", "button")]
    assert "failed" not in headings
    fields = [attrs["data-value"] for attrs in markup.all("td")]
    width = len(headings)
    by_method = {
        fields[start]: dict(zip(headings, fields[start:], strict=False)) for start in range(0, 2 * width, width)
    }
    assert [by_method["one"][name] for name in ("from", "to", "deviation")] == ["", "", ""]
    assert "" not in by_method["three"].values()


def test_every_method_has_the_picture_of_its_best_cell(shown: Page) -> None:
    _, markup, rows, *_ = shown
    pictures = [attrs["aria-label"] for _, attrs, _ in markup.tags if attrs.get("role") == "img"]
    assert pictures == [row["best_cell"] for row in rows]
    assert [data for data, around in markup.texts if "code" in around] == pictures
    drawn = "".join(f"<div>{cell_svg(cell, SPACE, 'cell-0')}</div>" for cell in pictures if cell)
    shapes = [attrs.get("d") for tag, attrs, around in markup.tags if tag == "path" and "div" in around]
    assert [attrs.get("d") for attrs in Markup(drawn).all("path")] == shapes


def test_ids_are_unique_and_all_references_have_a_target(shown: Page) -> None:
    text, markup, _, figures, _ = shown
    ids = [attrs["id"] for _, attrs, _ in markup.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) > 100
    wanted = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    assert wanted
    assert wanted <= set(ids)
    prefixes = {re.sub(r"^(cell-\d|[a-z]+)-.*", r"\1", name) for name in ids if name}
    assert prefixes == {*figures, "cell-0", "cell-1", "cell-2", "cell-3"}


def test_nothing_is_fetched(shown: Page) -> None:
    text, markup, *_ = shown
    for tag, attrs, _ in markup.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            assert (attrs.get(name) or "#").startswith(("#", "data:")), (tag, attrs)
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", text)


def test_equal_cells_are_drawn_once() -> None:
    methods = [made_up(label, 1) for label in ("one", "other")] + [made_up("third", 2)]
    loaded = Loaded(SPACE, Measure(str(TRUTH), column=TRUTH, table="made"), None, methods)
    rows = summary(loaded, "cost", None)
    markup = Markup(page(loaded, rows, {}, None))
    pictures = [attrs["aria-label"] for _, attrs, _ in markup.tags if attrs.get("role") == "img"]
    assert sorted(pictures, key=str) == sorted({row["best_cell"] for row in rows})
    assert "one, other" in [data for data, around in markup.texts if "strong" in around]


def test_the_page_says_when_how_and_from_what_it_came(shown: Page) -> None:
    _, markup, *_ = shown
    terms = [data for data, around in markup.texts if "dt" in around]
    values = [data for data, around in markup.texts if "dd" in around]
    assert dict(zip(terms, values, strict=True)) == {
        "date": "2026-11-26 12:00",
        "command": f"darts compare {AWKWARD}",
        "seeds": "0-9",
        "what a search saw of a cell": "cifar10/valid/12",
    }
    methods = [made_up("a", 1), made_up("b", 2)]
    del methods[1].trials[1]
    text = page(made := Loaded(SPACE, Measure("m"), None, methods), summary(made, "cost", None), {}, None)
    assert "0-2 (a); 0, 2 (b)" in [data for data, around in Markup(text).texts if "dd" in around]


def test_few_runs_are_not_ranked_and_the_page_says_why(tmp_path: Path) -> None:
    methods = [made_up("a", 1), made_up("b", 2)]
    loaded = Loaded(SPACE, Measure(str(TRUTH), column=TRUTH, table="made"), None, methods)
    rank = matched_ranks(loaded)
    figures = draw_compare(loaded, "cost", rank, tmp_path)
    assert "differences" not in figures
    assert "3 matched runs\ncannot tell 2 methods apart" in page(loaded, summary(loaded, "cost", rank), figures, rank)


def test_of_many_methods_the_best_and_the_yardstick_show_at_first(tmp_path: Path) -> None:
    """Every curve and band can be found by the place of its method; only the page's script hides some."""
    methods = [made_up(f"m{place}", place) for place in range(9)]
    methods[7].settings["baseline._target_"] = RANDOM
    loaded = Loaded(SPACE, Measure(str(TRUTH), column=TRUTH, table="made"), None, methods)
    figures = draw_compare(loaded, "cost", None, tmp_path)
    markup = Markup(page(loaded, summary(loaded, "cost", None), figures, None))
    pressed = [one["data-curve"] for one in markup.all("button") if one.get("aria-pressed") == "true"]
    assert pressed == ["0", "1", "2", "7"]
    ids = {attrs.get("id") for _, attrs, _ in markup.tags}
    assert {f"anytime-{kind}-{place}" for kind in ("line", "band") for place in range(9)} <= ids
    assert "band-" not in (tmp_path / "anytime.svg").read_text(), "alone, nine bands would hide the curves"


def test_long_names_take_lines_not_width(tmp_path: Path) -> None:
    """The picture is as wide as with short names, and the axes keep more than half of it."""
    long = "a method with a name that goes on and on, lr=0.001, temperature=10, and on"
    methods = [made_up(long, 1), made_up("b", 2)]
    loaded = Loaded(SPACE, Measure(str(TRUTH), column=TRUTH, table="made"), None, methods)
    svg = draw_compare(loaded, "cost", None, tmp_path)["boxes"]
    box = re.search(r'viewBox="0 0 ([\d.]+)', svg)
    left = re.search(r'id="boxes-patch_2">\s*<path d="M ([\d.]+)', svg)
    assert box
    assert left
    assert float(left[1]) < 0.4 * float(box[1])


# Pictures


def test_letters_and_lines_follow_the_page(shown: Page) -> None:
    """In SVG no letter has a colour of its own, nor is anything drawn in one that dark pages hide."""
    text, markup, _, figures, folder = shown
    styles = [attrs.get("style") or "" for tag, attrs, around in markup.tags if "svg" in around]
    around = [{}, *(attrs for _, attrs, _ in markup.tags)]  # numbers with a power take their style from the group
    letters = [
        str(attrs.get("style") or before.get("style"))
        for before, (tag, attrs, _) in zip(around, markup.tags, strict=False)
        if tag == "text"
    ]
    assert len(letters) > 50
    assert all("fill: currentColor" in style for style in letters)
    used = set(re.findall(r"#[0-9a-f]{6}", " ".join(styles)))
    palettes = {*palette.OPERATIONS, *palette.METHODS}
    assert used <= palettes | {"#b0b0b0"}  # and matplotlib's grid, grey in both
    assert not {palette.INK, palette.PAPER} & set(re.findall(r"#[0-9a-f]{6}", text))
    for name, svg in figures.items():
        alone = (folder / f"{name}.svg").read_text()
        assert (alone == svg) == (name not in ("anytime", "regret")), "those two have a legend of their own there"
        assert "mathdefault" not in alone
        assert "var(--" not in svg, "files of their own have no page around them"
    dark, light = (re.findall(r"--(\w+): (#\w+)", block) for block in _blocks(text))
    assert dict(dark).keys() == dict(light).keys() >= {"text", "back", "card"}


def _blocks(text: str) -> tuple[str, str]:
    light = text[text.index(":root {") : text.index("@media (prefers-color-scheme: dark)")]
    dark = text[text.index("@media (prefers-color-scheme: dark)") : text.index("* { box-sizing")]
    return dark, light


def brightness(colour: str) -> float:
    """Relative luminance of sRGB, by WCAG 2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_can_be_read_in_light_and_dark(shown: Page) -> None:
    """4.5 to 1, as WCAG 2 asks for text."""
    for block in _blocks(shown[0]):
        colours = dict(re.findall(r"--(\w+): (#\w{6})", block))
        for text in ("text", "soft", "mark"):
            for back in ("back", "card"):
                low, high = sorted((brightness(colours[text]), brightness(colours[back])))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (text, back)


def test_names_in_pictures_of_cells_can_be_read() -> None:
    """A picture is as wide as its card, 17 rem at least with 0.6 rem inside on each side: letters of 7 pixels or more.

    The picture of version 0.1 had letters of 8.4 pixels there.
    """
    css = (REPORT / "page.css").read_text()
    card = re.search(r"minmax\((?:min\()?([\d.]+)rem", css)
    padding = re.search(r"\.cell \{[^}]*padding: ([\d.]+)rem", css)
    assert card
    assert padding
    width = 16 * (float(card[1]) - 2 * float(padding[1]))
    svg = cell_svg("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|", CellSpace(), "c")
    box = re.search(r'viewBox="0 0 ([\d.]+) [\d.]+"', svg)
    assert box
    sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg)]
    assert len(sizes) == 6 + 4
    assert min(sizes) * width / float(box[1]) >= 7


def test_there_is_one_palette() -> None:
    """No colour is written down elsewhere, but the defaults of draw_cell."""
    found = []
    for file in sorted(REPORT.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        excused = {
            default
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and (file.name, node.name) == ("cell.py", "draw_cell")
            for default in node.args.defaults
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in excused:
                found += [(file.name, colour) for colour in re.findall(r"#[0-9a-fA-F]{3,8}\b", node.value)]
    assert {name for name, _ in found} == {"palette.py"}
    assert len(found) == 8 + 1 + 2


def test_methods_are_told_apart() -> None:
    styles = [tuple(palette.of_method(place).values()) for place in range(24)]
    assert len(set(styles)) == 24
    assert palette.of_method(24) == palette.of_method(0)
    assert len({palette.of_operation(place) for place in range(8)}) == 8


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        ([0, 1, 2, 3, 4, 7], "0-4, 7"),
        ([5], "5"),
        (list(range(0, 24, 2)), "0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22"),
        (list(range(9, 10_000, 10)), "1,000 from 9 to 9999"),
    ],
)
def test_seeds_are_a_short_row(seeds: list[int], text: str) -> None:
    assert _spans(seeds) == text
