"""The library interface: what it gives is what the command leaves; the example at its head runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tables import write_table

from darts import api
from darts.api.run import value_text
from darts.command.config import parse_overrides
from darts.run.errors import UserError

CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
TINY = {"network.channels": 2, "network.cells": 1}
SHORT = {"method": "plain", "options": {**TINY, "budget.steps": 3, "monitor": [], "oracle": "none"}}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 5)):
        for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
            folder = tmp_path / "my photos" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(np.array(colour) + rng.integers(-30, 30, (8, 8, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "my photos"


@pytest.mark.usefixtures("pictures")
def test_a_search_shows_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = api.search("fake", **SHORT)  # type: ignore[arg-type]
    assert found.folder.parts[:2] == ("outputs", "search")
    assert found.cell == found.result.cell  # type: ignore[union-attr]
    assert found.cell in repr(found)
    assert {"alphas", "cell", "progress"} <= found.figures.keys()
    shown = found._repr_html_()
    assert shown.count("data:image/png;base64,") == len(found.figures)
    assert "&lt;-" in shown or "2&lt;-0" in shown or found.cell in shown
    again = api.search("fake", seed=0, run_dir=tmp_path / "again, with = in it", **SHORT)  # type: ignore[arg-type]
    assert again.result.alphas == found.result.alphas  # type: ignore[union-attr]


def test_from_a_cell_to_files_and_answers(photos: Path, tmp_path: Path) -> None:
    options = {**TINY, "dataset.image_size": 8, "data.batch_size": 8}
    trained = api.retrain(CELL, dataset=photos, recipe="fast", epochs=6, run_dir=tmp_path / "run", options=options)
    accuracy = trained.result.test  # type: ignore[union-attr]
    assert api.evaluate(trained, photos / "test") == accuracy
    written = api.export(trained, "safetensors")
    assert written.path == tmp_path / "run/exports/model.safetensors"
    assert api.evaluate(written.path, photos / "test") == accuracy
    answers = api.predict(trained, photos / "test/red/0.png", photos / "test/blue")
    assert [one.asked.path.name for one in answers] == ["0.png", *(f"{n}.png" for n in range(5))]
    model = api.load_model(trained)
    pixels = torch.from_numpy(np.array(Image.open(photos / "test/red/0.png"))).permute(2, 0, 1)[None]
    assert float(model(pixels).max()) == pytest.approx(answers[0].ranked[0][1], abs=1e-6)
    more = api.retrain(
        init=trained, dataset=photos, recipe="fast", epochs=2, run_dir=tmp_path / "more", options=options
    )
    assert more.cell == CELL
    with pytest.raises(UserError, match="is there already"):
        api.export(trained, "safetensors")
    with pytest.raises(UserError, match="allowed are onnx"):
        api.export(trained, "doc")
    with pytest.raises(UserError, match="no images in folders with the names"):
        api.evaluate(trained, photos / "test/red")


def test_baselines_are_compared(tmp_path: Path) -> None:
    table = write_table(tmp_path / "table.csv")
    runs = [
        api.baseline(name, evaluations=30, seeds="0-2", table=table, run_dir=tmp_path / name)
        for name in ("random_search", "regularized_evolution")
    ]
    assert all(run.cell.startswith("|") for run in runs)
    found = api.compare(*runs, run_dir=tmp_path / "both", options={"oracle.path": table})
    assert {row["method"] for row in found.rows} == {"random_search", "regularized_evolution"}
    assert (tmp_path / "both/report.html").is_file()
    with pytest.raises(ValueError, match="no cell of its own"):
        _ = found.cell


def test_mistakes_are_the_commands() -> None:
    with pytest.raises(UserError, match=r"'network\.channelz'; did you mean network\.channels"):
        api.search("fake", options={"network.channelz": 3})
    with pytest.raises(UserError, match="allowed are"):
        api.search("nothing of that name")


@pytest.mark.parametrize(
    "value",
    [None, True, 3, -2.5, 1e-9, "plain", "a b", "it's", "back\\slash", "a,b", "x=y", "~/home", "é", "",
     [1, "a b", None],
     {"lr": 0.1, "names": ["x y", "z"]}, Path("a folder/with, commas (and more)")],
)  # fmt: skip
def test_values_arrive_as_they_are(value: object) -> None:
    (parsed,) = parse_overrides([f"+key={value_text(value)}"])
    found = parsed.value()
    assert found == (str(value) if isinstance(value, Path) else value)


@pytest.mark.slow
def test_the_example_is_what_the_functions_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"\n\n((?:    .*\n|\n)+)", api.__doc__ or "")
    small = example.replace(
        "seconds=60", "options={'budget.steps': 4, 'phases.finalists.rungs': [2], 'monitor': [], 'oracle': 'none'}"
    )
    small = small.replace(
        'recipe="fast"', "recipe='fast', epochs=2, options={'network.channels': 2, 'network.cells': 1}"
    )
    assert small != example
    exec("\n".join(line[4:] for line in small.splitlines()), {})
    assert list(tmp_path.glob("outputs/retrain/*/*/exports/model.onnx"))
