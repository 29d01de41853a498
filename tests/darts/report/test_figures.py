"""The pictures of a search: that they are there, that they show something, and that it can be read."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from darts.report.cell import draw_cell
from darts.report.search_figures import draw_search
from darts.search.result import SearchResult
from darts.search.verdict import recorded_weights, verdict
from supernet.genotype import Genotype
from supernet.relaxations.softmax import Softmax
from supernet.spaces.cells import CellSpace

NAMES = ("alphas.png", "progress.png", "cell.png")
LONGEST = "skip_connect"
TEMPERATURE = 2.5


def made_up(space: CellSpace, epochs: int, seed: int = 0, cell: str | None = None, **more: Any) -> SearchResult:
    """The result of a search that never was: every edge comes to prefer one operation."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(space.edges), len(space.operations))
    preferred_EO = 3 * torch.randn(shape, generator=generator)
    chosen = Genotype(tuple(space.operations[place] for place in preferred_EO.argmax(dim=1).tolist()))
    history = [
        {
            "epoch": epoch,
            "step": 14 * (epoch + 1),
            "alphas": {"alpha_EO": (preferred_EO * (epoch + 1) / epochs).tolist()},
            "cell": str(chosen),
            "train_loss": 2.3 / (epoch + 1),
            "valid_loss": 2.4 / (epoch + 1),
            "valid_accuracy": 90 - 80 / (epoch + 1),
        }
        for epoch in range(epochs)
    ]
    weights_KEO = torch.stack([recorded_weights(record, Softmax(TEMPERATURE), 14 * epochs) for record in history])
    values = {
        "verdict": verdict(space, cell or str(chosen), history, weights_KEO, None),
        "initial_alphas": {"alpha_EO": torch.zeros(shape).tolist()},
        "cell": cell or str(chosen), "seed": seed, "planned_steps": 14 * epochs, "stopped_by": "steps",
        "epochs": epochs, "steps": 14 * epochs, "images": 1, "evaluation_images": 1, "seconds": {"total": 1.0},
        "history": history, "alphas": history[-1]["alphas"], "supernet_valid": 90.0, "flops": 1, "params": 1,
        "network_size": "C=16, N=5", "searched_on": "digits", "settings": {}, "versions": {},
    }  # fmt: skip
    return SearchResult(**(values | more))


def pixels(path: Path) -> NDArray[np.uint8]:
    """The picture as numbers, decoded whole; a broken file raises."""
    from PIL import Image

    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with Image.open(path) as picture:
        picture.load()
        return np.asarray(picture.convert("RGB"))


Drawn = Callable[[], AbstractContextManager[None]]
Drawing = tuple[CellSpace, SearchResult, list[Any], Path]


@pytest.fixture(scope="module", params=[(3, 1), (4, 30), (5, 2)], ids=["3 nodes, 1 epoch", "4, 30", "5, 2"])
def drawing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, drawn: Drawn) -> Drawing:
    """A space, a result with the longest cell string, the three figures, and the folder of their files."""
    import matplotlib
    from matplotlib.figure import Figure

    nodes, epochs = request.param
    space, folder = CellSpace(nodes), tmp_path_factory.mktemp("figures")
    longest = str(Genotype((LONGEST,) * len(space.edges)))
    result = made_up(space, epochs, cell=longest, searched_on="fashion_mnist", seed=123_456)
    figures: list[Any] = []
    with drawn():
        save = Figure.savefig

    def keep(figure: Any, *where: Any, **how: Any) -> None:
        save(figure, *where, **how)
        figures.append(figure)

    before = {name: value for name, value in matplotlib.rcParams.items() if name != "backend"}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DISPLAY", raising=False)
        patch.setattr(Figure, "savefig", keep)
        paths = draw_search(result, Softmax(TEMPERATURE), space, folder)
    assert before.items() <= matplotlib.rcParams.items()  # a plotting script of the user's keeps its settings
    assert paths == [folder / name for name in NAMES]
    return space, result, figures, folder


def test_three_pictures_are_written_and_show_something(drawing: Drawing) -> None:
    *_, folder = drawing
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)  # no temporary file stays
    for name in NAMES:
        picture = pixels(folder / name)
        height, width, _ = picture.shape
        assert 300 < height < 2500
        assert 300 < width < 2500
        ink = (picture < 200).any(axis=2)
        assert 0.003 < ink.mean() < 0.5
        # something is drawn in each half
        assert ink[: height // 2].any()
        assert ink[height // 2 :].any()
        assert ink[:, : width // 2].any()
        assert ink[:, width // 2 :].any()
        assert len(np.unique(picture.astype(np.int64) @ [1 << 16, 1 << 8, 1])) > 20


@pytest.mark.usefixtures("pictures")
def test_drawing_again_takes_the_place_of_the_old_pictures(tmp_path: Path) -> None:
    space = CellSpace(2)
    for name in NAMES:
        (tmp_path / name).write_text("old")
    draw_search(made_up(space, 1), Softmax(), space, tmp_path)
    assert all(pixels(tmp_path / name).size for name in NAMES)


def test_alphas_are_drawn_as_weights_of_the_relaxation(drawing: Drawing) -> None:
    space, result, (figure, *_), _ = drawing
    panels = [panel for panel in figure.axes if panel.get_visible()]
    assert len(panels) == len(space.edges)
    for edge, ((source, target), panel) in enumerate(zip(space.edges, panels, strict=True)):
        assert f"{target}<-{source}" in panel.get_title()
        assert LONGEST in panel.get_title()
        lines = {line.get_label(): line for line in panel.get_lines()}
        assert set(lines) >= set(space.operations)
        edge_said = result.verdict["edges"][edge]  # type: ignore[index]
        assert f"{edge_said['lead']:.4f} over {edge_said['rivals'][0]}" in panel.get_title()
        assert ("UNDECIDED" in panel.get_title()) == (not edge_said["decided"])
        for place, name in enumerate(space.operations):
            x, y = lines[name].get_data()
            assert (x[0], y[0]) == (0, pytest.approx(1 / len(space.operations)))
            for record, step, weight in zip(result.history, x[1:], y[1:], strict=True):
                alphas = np.array(record["alphas"]["alpha_EO"][edge]) / TEMPERATURE
                assert step == record["step"]
                assert weight == pytest.approx(np.exp(alphas[place]) / np.exp(alphas).sum(), abs=1e-5)
    assert {text.get_text() for legend in figure.legends for text in legend.get_texts()} == set(space.operations)


def test_progress_shows_both_losses_and_the_accuracy(drawing: Drawing) -> None:
    _, result, (_, figure, _), _ = drawing
    lines = {tuple(line.get_ydata()) for panel in figure.axes for line in panel.get_lines()}
    for key in ("train_loss", "valid_loss", "valid_accuracy"):
        assert tuple(record[key] for record in result.history) in lines


def test_the_picture_of_the_cell_says_which_it_is(drawing: Drawing) -> None:
    _, result, (*_, figure), _ = drawing
    assert figure.get_suptitle() == result.cell


def test_the_picture_of_a_cell_tells_cells_apart() -> None:
    space = CellSpace(4)
    texts = {}
    for cell in (space.genotype(0), space.genotype(11_791), space.genotype(15_624)):
        figure = draw_cell(cell, space)
        texts[cell] = [text.get_text() for text in figure.axes[0].texts]
    for cell, shown in texts.items():
        assert sorted(text for text in shown if text in space.operations) == sorted(cell.operations)
    assert len(set(map(tuple, texts.values()))) == 3


def test_a_connection_that_is_none_is_thinner() -> None:
    from matplotlib.patches import FancyArrowPatch

    space = CellSpace(4)
    widths = []
    for index in (0, 15_624):
        panel = draw_cell(space.genotype(index), space).axes[0]
        arrows = [patch for patch in panel.patches if isinstance(patch, FancyArrowPatch)]
        assert len(arrows) == 6
        widths.append({(arrow.get_linewidth(), arrow.get_linestyle()) for arrow in arrows})
    ((none, dotted),), ((other, line),) = widths
    assert none < other
    assert dotted != line


# Can it be read


def boxes(figure: Any) -> tuple[Any, list[tuple[str, Any]]]:
    """The whole picture, and every text that is seen with its frame, in pixels; numbers at ticks left out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    ticks = {
        id(label) for panel in figure.axes for axis in (panel.xaxis, panel.yaxis) for label in axis.get_ticklabels()
    }
    hidden = {id(text) for panel in figure.axes if not panel.get_visible() for text in panel.findobj(Text)}
    seen = []
    for text in figure.findobj(Text):
        if not text.get_text().strip() or not text.get_visible() or id(text) in ticks | hidden:
            continue
        if text.get_text().replace(".", "").isdigit() and text not in figure.axes[0].texts:
            continue  # numbers at ticks outside the view
        frame = text.get_bbox_patch() or text
        seen.append((text.get_text(), frame.get_window_extent(canvas.get_renderer())))
    return figure.bbox, seen


def unreadable(figure: Any) -> Iterator[str]:
    """What is cut off, and what lies over each other."""
    whole, seen = boxes(figure)
    for number, (text, box) in enumerate(seen):
        if box.x0 < whole.x0 or box.y0 < whole.y0 or box.x1 > whole.x1 or box.y1 > whole.y1:
            yield f"{text!r} is cut off"
        for other, place in seen[:number]:
            if box.overlaps(place):
                yield f"{text!r} lies over {other!r}"


def test_no_text_is_cut_off_or_covered(drawing: Drawing) -> None:
    _, _, figures, _ = drawing
    found = {name: list(unreadable(figure)) for name, figure in zip(NAMES, figures, strict=True)}
    assert found == {name: [] for name in NAMES}


def points_of(path: Any) -> list[NDArray[np.float64]]:
    """Points along a path, close to each other."""
    flat = path.cleaned(curves=False)
    pairs = zip(flat.vertices[:-1], flat.vertices[1:], flat.codes[1:], strict=True)
    return [
        start + (end - start) * part / 20 for start, end, code in pairs if code == path.LINETO for part in range(21)
    ]


@pytest.mark.parametrize("nodes", [3, 4, 5])
def test_no_arrow_of_a_cell_runs_through_the_name_of_another(nodes: int) -> None:
    from matplotlib.patches import FancyArrowPatch

    space = CellSpace(nodes)
    figure = draw_cell(space.sample(random.Random(nodes)), space)
    _, seen = boxes(figure)
    panel = figure.axes[0]
    arrows = [patch for patch in panel.patches if isinstance(patch, FancyArrowPatch)]
    labels = [(text, box) for text, box in seen if text in space.operations]
    assert len(arrows) == len(labels) == len(space.edges)
    crossed = []
    for number, arrow in enumerate(arrows):
        way = points_of(arrow.get_transform().transform_path(arrow.get_path()))
        hit = [place for place, (_, box) in enumerate(labels) if any(box.contains(x, y) for x, y in way)]
        assert number in hit  # its own name lies on it
        crossed += [(space.edges[number], space.edges[place]) for place in hit if place != number]
    assert crossed == []
