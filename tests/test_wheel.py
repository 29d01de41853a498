"""The wheel: what is in it, and that its command works from another folder without the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow
# Runs the command with the installed copy alone: the checkout, editable or not, is taken off the path.
ALONE = """
import sys
from pathlib import Path
checkout, target = Path(sys.argv[1]), Path(sys.argv[2])
sys.path = [str(target)] + [path for path in sys.path if path and Path(path) != checkout]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
import darts, darts.run.files, supernet
for module in (darts, supernet):
    assert target in Path(module.__file__).parents, module.__file__
assert target in darts.run.files.config_dir().parents, darts.run.files.config_dir()
from darts.cli import main
sys.argv = ["darts", *sys.argv[3:]]
sys.exit(main())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*pip, "--wheel-dir", str(folder), str(ROOT)], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def target(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*pip, "--target", str(folder), str(wheel)], check=True, timeout=280)
    return folder


def test_the_wheel_carries_both_packages_the_configs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
        entries = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    for package in ("darts", "supernet"):
        files = {file for file in (ROOT / package).rglob("*") if file.is_file() and file.suffix != ".pyc"}
        assert {file.relative_to(ROOT).as_posix() for file in files} <= names
    assert {"darts/report/page.html", "darts/report/page.css", "darts/report/page.js"} <= names
    configs = {file.relative_to(ROOT).as_posix() for file in (ROOT / "configs").rglob("*.yaml")}
    assert {name for name in names if name.endswith(".yaml")} == {f"darts/{name}" for name in configs}
    assert {name.split("/")[0].split("-")[0] for name in names} == {"darts", "supernet", "darts_supernet"}
    assert not [name for name in names if "test" in name or name.endswith(".pyc")]
    assert any(name.endswith("LICENSE") for name in names)
    assert "Name: darts-supernet\n" in metadata
    assert "darts = darts.cli:main" in entries


@pytest.mark.parametrize("place", ["/", None])
def test_the_installed_command_works_from_another_folder(place: str | None, target: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    words = ["search", "dataset=fake", "network.channels=2", "data.batch_size=32", "budget.steps=2", "oracle=none"]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(ROOT), str(target), *words, f"run_dir={folder if place else 'run'}"],
        cwd=place or tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / "result.json").read_text())
    assert result["cell"] in done.stdout
    assert (folder / "figures" / "cell.png").is_file()
