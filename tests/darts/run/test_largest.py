"""`data.batch_size=auto`: what fits, by memory that is really taken, and what comes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from darts.cli import main
from darts.run.largest import largest
from tests.compared import left_alone
from tests.quickly import slow_but

ROOMY = """
import sys, torch
from darts.run import largest as module
torch.zeros(2**20).add_(1)
host, tried = module._Host(), []
host.begin()
limit = int((host.peak() + int(sys.argv[1]) * 2**20) / module.SHARE)
module._Host.limit = lambda self: limit
def attempt(size):
    tried.append(size)
    torch.zeros(size * 16 * 2**20, dtype=torch.uint8).add_(1)  # touched, or it is not there
    return 10**6
print(module.largest(attempt, False), max(tried))
"""


def printed(code: str, word: int) -> str:
    """By a process of its own, whose memory nothing else has used."""
    line = [sys.executable, "-c", code, str(word)]
    return subprocess.run(line, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]).stdout


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux alone says how much it was at most")
@pytest.mark.parametrize(
    ("room", "expected"),
    [pytest.param(200, 8, marks=pytest.mark.slow), (440, 16), pytest.param(1500, 64, marks=pytest.mark.slow)],
)
def test_what_would_not_fit_is_not_tried(room: int, expected: int) -> None:
    """16 MiB an item: 8 items take 128 MiB, and before 16 are tried there have to be three times as many."""
    assert printed(ROOMY, room).split() == [str(expected)] * 2


@pytest.mark.parametrize(("items", "expected"), [(79, 7), (80, 8), (159, 8), (160, 16), (9, 1)])
def test_an_epoch_keeps_ten_steps(items: int, expected: int) -> None:
    assert largest(lambda size: items, cuda=False) == expected


LIMITED = """
import resource, sys, torch
from pathlib import Path
from darts.run.errors import UserError
from darts.run.largest import largest
torch.zeros(2**20).add_(1)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20, -1))
def attempt(size):
    torch.empty(size * int(sys.argv[1]) * 2**20, dtype=torch.uint8)
    return 10**6
try:
    print(largest(attempt, False))
except UserError as error:
    print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a limit of the kernel's for one process")
@pytest.mark.parametrize(
    ("mib", "expected"),
    [pytest.param(1, "128", marks=pytest.mark.slow), (4, "32"), (100, "data.batch_size: got auto; a step with 8")],
)
def test_what_the_system_refuses_does_not_fit(mib: int, expected: str) -> None:
    assert printed(LIMITED, mib).startswith(expected)


def test_another_error_is_not_taken_for_full_memory() -> None:
    def attempt(size: int) -> int:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        largest(attempt, cuda=False)


CELL = "cell=|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"
DATA = ["dataset=fake", "dataset.images=400", "dataset.image_size=4", "network.channels=2", "network.cells=1"]
RUNS = {
    "search": (["search", "method=plain", "budget.epochs=1", "oracle=none", "monitor=[]"], 16),
    "retrain": (["retrain", CELL, "recipe.epochs=2", "data.held_out=0.2"], 32),
}


@pytest.mark.parametrize("command", slow_but(["search"], RUNS))
def test_the_number_that_was_found_stands_in_the_config_and_gives_the_same(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words, expected = RUNS[command]
    assert main([*words, *DATA, "data.batch_size=auto", f"run_dir={tmp_path / 'found'}"]) == 0
    assert f"data.batch_size: {expected}, the largest" in capfd.readouterr().err
    config = yaml.safe_load((tmp_path / "found/config.yaml").read_text())
    assert config["data"]["batch_size"] == expected
    assert main([*words, *DATA, f"data.batch_size={expected}", f"run_dir={tmp_path / 'given'}"]) == 0
    found, given = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("found", "given"))
    assert left_alone(found) == left_alone(given)


@pytest.mark.slow
def test_a_sweep_that_is_started_again_takes_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["search", "-m", "seed=0,1", *RUNS["search"][0][1:], *DATA, "data.batch_size=auto", "run_dir=runs"]
    assert main(line) == 0
    before = [(tmp_path / f"runs/seed={seed}/result.json").read_bytes() for seed in (0, 1)]
    capfd.readouterr()
    assert main(line) == 0
    assert "data.batch_size" not in capfd.readouterr().err
    assert [(tmp_path / f"runs/seed={seed}/result.json").read_bytes() for seed in (0, 1)] == before


@pytest.mark.parametrize("wrong", ["huge", "0", "1.5"])
def test_another_word_is_refused(wrong: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["search", *DATA, f"data.batch_size={wrong}", f"run_dir={tmp_path / 'run'}"]) == 2
    message = capfd.readouterr().err
    assert "batch_size" in message
    assert "Traceback" not in message
    assert not (tmp_path / "run").exists()
