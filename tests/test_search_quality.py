"""The benchmark of what searches find, as a process on a few images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from supernet.spaces.cells import CellSpace

ROOT = Path(__file__).resolve().parents[1]
FIELDS = {"method", "seed", "control", "cell", "truth", "accuracy", "rank", "seconds", "steps"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quality")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "images/train" / name).mkdir(parents=True)
        for number in range(16):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"images/train/{name}/{number}.png")
    rows = [f"{cell},{place / 200},{place / 100}" for place, cell in enumerate(CellSpace())]
    (folder / "table.csv").write_text("\n".join(["cell,cifar10_valid_200,cifar10_test_200", *rows]) + "\n")
    return folder


def ended(data: Path, *words: str) -> tuple[str, dict[str, Any]]:
    command = [sys.executable, str(ROOT / "benchmarks/search_quality.py"), "--images", str(data / "images")]
    command += [
        "--oracle",
        str(data / "table.csv"),
        "--minutes",
        "0.03",
        "--threads",
        "1",
        "--json",
        str(data / "runs.json"),
    ]
    tiny = ["data.batch_size=4", "data.resolution=4", "phases.finalists.channels=2", "phases.finalists.cells=1"]
    tiny += ["phases.finalists.rungs=[2]"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, *words, *tiny], capture_output=True, text=True, check=True, env=environment)
    return done.stdout, json.loads((data / "runs.json").read_text())


@pytest.mark.slow
def test_runs_are_written_looked_up_and_not_made_again(data: Path) -> None:
    methods = ("--methods", "default,random_search,gdas", "--seeds", "100")
    printed, content = ended(data, *methods)
    cells = [str(cell) for cell in CellSpace()]
    assert [run["method"] for run in content["runs"]] == ["default", "random_search", "gdas"]
    for run in content["runs"]:
        assert run.keys() >= FIELDS
        place = cells.index(run["cell"])
        assert (run["truth"], run["accuracy"], run["rank"]) == ("valid", place / 200, len(cells) - place)
        assert 0 < run["seconds"] < 60
        assert run["cell"] in printed
    again, same = ended(data, *methods)
    assert same["runs"] == content["runs"]
    assert again == printed
    assert [group["method"] for group in same["summary"]] == ["default", "random_search", "gdas"]
    _, more = ended(data, "--seeds", "100", "--control", "pixels", "--truth", "test")
    assert [(run["control"], run["truth"]) for run in more["runs"]] == [(None, "valid")] * 3 + [("pixels", "test")]
    assert more["runs"][-1]["accuracy"] == cells.index(more["runs"][-1]["cell"]) / 100
