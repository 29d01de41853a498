"""Every command that the README names, run as it stands there: with real files for its placeholders, and made small."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tables import write_table

from darts.cli import main
from darts.command.config import compose_config
from darts.command.quoting import quoted
from supernet.spaces.cells import CellSpace

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
FOUND = [*re.findall(r"`(darts [^`]+)`", README), *re.findall(r"^(darts .+)$", README, re.MULTILINE)]
COMMANDS = sorted({one for one in FOUND if len(one.split()) > 2 or one == "darts search"})
ELSEWHERE = ("dataset.download=true", "import=")  # need a network, or official files, which other tests make up
TINY = ["network.channels=2", "network.cells=1", "phases.finalists.rungs=[2]", "phases.finalists.cells=1"]
SMALL = {  # a command to what makes it small
    "search": [*TINY, "data.batch_size=4", "monitor=[]"],
    "retrain": [*TINY[:2], "recipe.epochs=2", "data.batch_size=4", "force=true"],
    "baseline": ["budget.evaluations=6"],
    "compare": [],
    "rank": ["cells=4"],
}
SMALLER = {  # what stands there to what it becomes
    r"budget\.seconds=\d+": "budget.steps=4",
    r"budget\.epochs=\d+": "budget.epochs=3",
    r"seeds=0-\d+": "seeds=0-1",
    r"budget\.evaluations=\d+": "",
}


def test_commands_are_found() -> None:
    assert len(COMMANDS) > 15
    assert {"search", "baseline", "compare", "derive", "query", "rank", "data"} <= {one.split()[1] for one in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_shells_take_it_as_it_stands(command: str) -> None:
    """zsh looks for files where a word holds [ or ?, and refuses the line if there are none."""
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", command)
    assert not set(bare) & set("[]?{}()"), "quote it"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("table") / "made.csv")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(16):
        path = folder / "train" / ("cat" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (16 * number, 100, 255 - 16 * number)).save(path)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Runs that commands go on from: one that is complete, one baseline, one with shared weights."""
    folder = tmp_path_factory.mktemp("made")
    data = ["dataset=image_folder", f"dataset.root={photos}", "oracle=none", *SMALL["search"]]
    assert main(["search", "budget.epochs=2", "budget.seconds=null", *data, f"run_dir={folder / 'run'}"]) == 0
    paths = ["method=shared_weights", "budget.steps=2"]
    assert main(["search", *paths, *data, f"run_dir={folder / 'shared'}"]) == 0
    few = ["baseline=random_search", "evaluator=zero_cost", "budget.evaluations=2", "dataset=fake", "oracle=none"]
    assert main(["baseline", *few, f"run_dir={folder / 'baseline'}"]) == 0
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_it_runs(
    command: str,
    darts: Callable[..., subprocess.CompletedProcess[str]],
    table: Path,
    photos: Path,
    made: Path,
    tmp_path: Path,
) -> None:
    words = shlex.split(command)[1:]
    name = words[0]
    if any(part in command for part in ELSEWHERE):
        if name != "query":
            compose_config(name, [quoted(word) for word in words[1:]])
        return
    for run in ("run", "shared", "baseline"):
        shutil.copytree(made / run, tmp_path / run)
    if own := re.search(r"run_dir=(\w+)", command):
        shutil.rmtree(tmp_path / own[1], ignore_errors=True)
    cell = str(CellSpace().genotype(4441))
    run = "baseline" if name == "baseline" else "run"
    real = {"RUN_DIR...": run, "RUN_DIR": run, "TABLE.csv": str(table), "PHOTOS": str(photos), "CELL...": cell}
    for placeholder, value in real.items():
        words = [word.replace(placeholder, value) for word in words]
    words = [word.replace("=N", "=4441").replace("=K", "=1") for word in words]
    for pattern, small in SMALLER.items():
        words = [shorter for word in words if (shorter := re.sub(pattern, small, word))]
    given = {word.partition("=")[0] for word in words}
    if "resume" not in given and "--help" not in words:
        words += [word for word in SMALL.get(name, []) if word.partition("=")[0] not in given]
        if name == "search" and not any(word.startswith("budget") for word in words):
            words += ["budget.steps=4"]
        if name == "compare" and any(word.startswith("experiment") for word in words):
            words += [] if "seeds" in given else ["seeds=0-1"]
    done = darts(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
