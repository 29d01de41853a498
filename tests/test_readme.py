"""Every command that the README names, run as it stands there: with real files for its placeholders, and made small."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tables import write_table

from darts.cli import main
from darts.command.config import compose_config
from darts.command.quoting import quoted
from supernet.spaces.cells import CellSpace

ROOT = Path(__file__).parents[1]
TEXTS = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/from-cell-to-model.md")]
README = "\n".join(TEXTS)
FOUND = [*re.findall(r"`(darts [^`]+)`", README), *re.findall(r"^(darts .+)$", README, re.MULTILINE)]
COMMANDS = sorted({one for one in FOUND if len(one.split()) > 2 or one == "darts search"})
ELSEWHERE = (
    "dataset.download=true",
    "dataset=fashion_mnist",
    "import=",
    "TUNE_DIR",
    "postgresql",
)  # need a network, or official files, which other tests make up
TINY = ["network.channels=2", "network.cells=1", "phases.finalists.rungs=[2]", "phases.finalists.cells=1"]
SMALL = {  # a command to what makes it small
    "search": [*TINY, "data.batch_size=4", "monitor=[]"],
    "retrain": [*TINY[:2], "recipe.epochs=2", "data.batch_size=4", "force=true"],
    "baseline": ["budget.evaluations=6"],
    "compare": [],
    "rank": ["cells=4"],
    "tune": [
        *TINY[:2],
        "recipe.epochs=2",
        "recipe.warm_up=0",
        "data.batch_size=4",
        "trials=1",
        "parameters.network=null",
    ],
    "profile": ["repeats=2", "batches=1"],
    "latency": ["cells=60", "left_out=20"],
}
SMALLER = {  # what stands there to what it becomes
    r"budget\.seconds=\d+": "budget.steps=4",
    r"budget\.epochs=\d+": "budget.epochs=3",
    r"seeds=0-\d+": "seeds=0-1",
    r"budget\.evaluations=\d+": "",
    r"trials=\d+": "trials=1",
    r"^recipe\.epochs=\d+": "recipe.epochs=2",
}


@pytest.mark.slow
def test_the_example_for_notebooks_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    search = "options={'budget.steps': 4, 'phases.finalists.rungs': [2], 'monitor': [], 'oracle': 'none'}"
    small = example.replace("seconds=60", search).replace(
        "epochs=2", "epochs=2, options={'network.channels': 2, 'network.cells': 1}"
    )
    names: dict[str, Any] = {}
    exec(small, names)
    assert names["written"].path.is_file()
    assert "test accuracy" in repr(names["trained"])


def test_the_commands_about_spaces_compose() -> None:
    page = (ROOT / "docs/spaces.md").read_text(encoding="utf-8")
    commands = [shlex.split(line)[1:] for line in page.splitlines() if line.startswith("darts ")]
    assert {command for command, *_ in commands} >= {"search", "baseline", "compare", "retrain", "query"}
    for command, *words in commands:
        compose_config(command, [quoted(word) for word in words if "=" in word and not word.startswith("Genotype")])


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
    trained = ["retrain", f"run={folder / 'run'}", *data[:2], *SMALL["retrain"], "recipe.epochs=2"]
    for name in ("model", "models/0", "models/1"):
        assert main([*trained, f"run_dir={folder / name}"]) == 0
    assert main(["export", f"run={folder / 'model'}"]) == 0
    return folder


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("costs") / "costs.csv"
    lines = [f"{cell},{1 + 2 * str(cell).count('nor_conv_3x3')}" for cell in CellSpace()]
    file.write_text("\n".join(["cell,phone_ms", *lines]))
    return file


SLOW = (
    "retrain -m seed=0,1,2",
    "method=darts_v1_cells",
    "search -m seed=0,1,2 run_dir",
    "experiment=accuracy_against_flops",
    "experiment=evolution_against_random",
    "space=sequential_cnn",
)


@pytest.mark.parametrize(
    "command",
    [pytest.param(one, marks=pytest.mark.slow) if any(word in one for word in SLOW) else one for one in COMMANDS],
)
def test_it_runs(
    command: str,
    darts: Callable[..., subprocess.CompletedProcess[str]],
    table: Path,
    photos: Path,
    made: Path,
    costs: Path,
    tmp_path: Path,
) -> None:
    words = shlex.split(command)[1:]
    name = words[0]
    if any(part in command for part in ELSEWHERE):
        if name != "query":
            compose_config(name, [quoted(word) for word in words[1:]])
        return
    for run in ("run", "shared", "baseline", "model", "models"):
        shutil.copytree(made / run, tmp_path / run)
    if own := re.search(r"run_dir=(\w+)", command):
        shutil.rmtree(tmp_path / own[1], ignore_errors=True)
    cell = str(CellSpace().genotype(4441))
    run = "baseline" if name == "baseline" else "run"
    if name == "export":
        shutil.rmtree(tmp_path / "model/exports")
    real = {"RUN_DIR...": run, "RUN_DIR": run, "TABLE.csv": str(table), "PHOTOS": str(photos), "CELL...": cell}
    real |= {"=CELL": f"={cell}"}
    (tmp_path / "series.csv").write_text("\n".join(["a,b", *(f"{t % 7},{t % 5}" for t in range(200))]))
    real |= {"FILE.csv": "series.csv"}
    real |= {"MODEL_DIR": "model", "MODELS": "models", "COSTS.csv": str(costs)}
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
        if "PHOTOS" not in command and "FILE.csv" not in command:  # more than a handful of items
            words = [word.replace("data.batch_size=4", "data.batch_size=64") for word in words]
        if "evaluator=train" in words:
            words += ["budget.evaluations=2", "dataset=fake", "evaluator.batch_size=16"]
        if name == "compare" and any(word.startswith("experiment") for word in words):
            words += [] if "seeds" in given else ["seeds=0-1"]
    if name == "retrain" and ("recipe=fast" in words or "init" in given):
        words += ["recipe.warm_up=0"]
    done = darts(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
