"""The page of a trained network: whole markup, its own numbers and pictures, in a real browser without a word."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from darts.cli import main
from darts.report.model_page import model_page
from darts.run.checkpoint import load_checkpoint
from darts.training.result import RetrainResult
from supernet.spaces.cells import CellSpace

CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
TINY = ["dataset=fake", "network.channels=2", "network.cells=1", "recipe.epochs=2", "data.batch_size=32"]
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
VOID = {"meta", "link", "br", "img", "wbr", "path", "use"}


class Tags(HTMLParser):
    """Tags that are open; what is closed out of order is noted."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.sources: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "run"
    assert main(["retrain", f"cell={CELL}", *TINY, "data.held_out=0.2", f"run_dir={folder}"]) == 0
    return folder


def test_it_is_whole_and_fetches_nothing(run: Path) -> None:
    tags = Tags((run / "report.html").read_text())
    assert (tags.open, tags.wrong) == ([], [])
    assert all(source.startswith(("data:", "#")) for source in tags.sources)


def test_it_says_what_the_result_holds(run: Path) -> None:
    page, result = (run / "report.html").read_text(), json.loads((run / "result.json").read_text())
    assert f"Its accuracy is {result['test_accuracy']:.2f}%" in page
    assert f"{result['params']:,} parameters" in page
    assert CELL in page
    for one in result["classes"]:
        assert f'<td data-value="{one["accuracy"]}">{one["accuracy"]:.2f}</td>' in page
    table = np.array(result["confusion"])
    assert table.sum() == sum(one["images"] for one in result["classes"])


def test_its_mistakes_are_the_images_that_were_judged(run: Path) -> None:
    page, result = (run / "report.html").read_text(), json.loads((run / "result.json").read_text())
    pictures = re.findall(r'<img alt="([^"]+)" src="data:image/png;base64,([^"]+)"', page)
    kept = load_checkpoint(run / "checkpoints/mistakes.pt")["images"]
    assert [alt for alt, _ in pictures] == [f"{one['label']} taken for {one['answer']}" for one in result["mistakes"]]
    assert len(pictures) == len(kept) > 0
    for (_, data), image_CHW in zip(pictures, kept, strict=True):
        shown = np.array(Image.open(io.BytesIO(base64.b64decode(data))))
        assert np.array_equal(shown, image_CHW.permute(1, 2, 0).numpy())
    wrong = len(result["mistakes"])
    assert wrong == min(24, int(np.array(result["confusion"]).sum() - np.trace(np.array(result["confusion"]))))


def test_names_of_users_stay_text(run: Path) -> None:
    content = json.loads((run / "result.json").read_text())
    awkward = "<script>alert(1)</script> & 'x'"
    content["trained_on"] = content["classes"][0]["name"] = awkward
    content["mistakes"] = [content["mistakes"][0] | {"label": awkward}]
    (run / "odd.json").write_text(json.dumps(content))
    result = RetrainResult.read(run / "odd.json")
    page = model_page(result, CellSpace(), torch.zeros(1, 1, 8, 8, dtype=torch.uint8), {"command": awkward})
    tags = Tags(page)
    assert (tags.open, tags.wrong) == ([], [])
    assert "<script>alert" not in page


def test_a_page_that_is_lost_comes_back(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "report.html").unlink()
    assert main(["retrain", f"resume={folder}"]) == 0
    strip = lambda text: re.sub(r"<dt>(date|command)</dt><dd>.*?</dd>", "", text)  # noqa: E731
    assert strip((folder / "report.html").read_text()) == strip((run / "report.html").read_text())


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: install Debian's package chromium")
def test_it_works_in_a_real_browser(run: Path, tmp_path: Path) -> None:
    flags: list[Any] = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000", "--dump-dom"]
    press = "<script>document.querySelectorAll('th button')[2].click();</script></body>"
    text = (run / "report.html").read_text()
    for page, order in ((text, False), (text.replace("</body>", press), True)):
        (tmp_path / "page.html").write_text(page)
        done = subprocess.run(
            [*map(str, flags), f"file://{tmp_path / 'page.html'}"],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert "CONSOLE" not in done.stderr
        body = done.stdout[done.stdout.index("<tbody>") :]
        shown = [float(value) for value in re.findall(r'data-value="([\d.]+)">\d+\.\d\d</td>', body)]
        assert len(shown) == 4
        if order:
            assert shown == sorted(shown, reverse=True)
