from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
ENTRY = "import sys; from darts.cli import main; sys.exit(main())"  # what the installed command runs

# Test tensors are tiny: one thread is as fast, and several test processes at once do not wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

# Heavy imports stand inside fixtures: the process that only hands out the tests starts without them.


@pytest.fixture(autouse=True)
def _clean_torch() -> Iterator[None]:
    """Every test starts with torch as it is after import."""
    import torch

    yield
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def _a_checkpoint_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that resume and look at checkpoints have epochs of milliseconds; those would share one."""
    from darts.run import together

    monkeypatch.setattr(together, "SHARE", float("inf"))


@pytest.fixture(scope="session", autouse=True)
def drawn() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """PNG files of figures stay empty, which saves a second a run; within the context given they are drawn."""
    from matplotlib.figure import Figure

    draw = Figure.savefig

    def savefig(figure: Figure, target: Path, **options: object) -> None:
        if options["format"] == "png":
            target.touch()
        else:
            draw(figure, target, **options)

    @contextmanager
    def within() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Figure, "savefig", draw)
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", savefig)
        yield within


@pytest.fixture
def pictures(drawn: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """For a test that looks at PNG files."""
    with drawn():
        yield


@pytest.fixture
def fast_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hand-written form of the search cell even for the small images of tests."""
    monkeypatch.setattr("supernet.fast_leaving.SMALL", 0)


@pytest.fixture(params=["pytorch", "native"])
def fast_forms(request: pytest.FixtureRequest, fast_form: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """That form with PyTorch's operators, and with compiled kernels where there is a compiler."""
    from supernet.cell import SearchCell
    from supernet.native import native_passes

    if request.param == "native":
        if native_passes() is None:
            pytest.skip("no compiled kernels: a C++ compiler is needed")
        monkeypatch.setattr(SearchCell, "native", True)
    return str(request.param)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with real images and the real table; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("DARTS_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "nb201-cifar10.csv").is_file():
        pytest.skip(f"no real data in {folder}; set DARTS_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def table_path(data_dir: Path) -> Path:
    return data_dir / "nb201-cifar10.csv"


@pytest.fixture(scope="session")
def table_rows(table_path: Path) -> list[dict[str, str]]:
    """The published table, a dict a cell."""
    with table_path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="session")
def console() -> list[str]:
    """What the command line of the real command begins with."""
    return [sys.executable, "-c", ENTRY]


@pytest.fixture
def darts(
    console: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command from an empty folder; in a process of its own where an option asks for one, such as `env`."""
    from darts.cli import main

    def run(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
        line = list(map(str, words))
        if options:
            settings = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 300}
            return subprocess.run([*console, *line], check=False, **{**settings, **options})  # type: ignore[call-overload]
        capfd.readouterr()
        with pytest.MonkeyPatch.context() as patch, Path(os.devnull).open() as nothing:
            patch.chdir(tmp_path)
            patch.setattr("sys.stdin", nothing)
            status = main(line)
        return subprocess.CompletedProcess(line, status, *capfd.readouterr())

    return run
