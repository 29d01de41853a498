"""How idle threads wait: told before torch is loaded, by what the machine does, unless the user says it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from darts.run import waiting

ASK = """
import os, sys
from darts.cli import main
assert main(["--version"]) == 0
assert "torch" not in sys.modules
print({name: os.environ.get(name) for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")})
"""


def ticks(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """What the system says, one line each time it is asked."""
    said = iter(lines)

    class Statistics:
        def read_text(self, encoding: str) -> str:
            return f"cpu  {next(said)}\ncpu0 1 2 3 4 5 6 7 8 0 0\n"

    monkeypatch.setattr(waiting, "STATISTICS", Statistics())
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)


@pytest.mark.parametrize(
    ("spent", "cores"),
    [
        ("0 0 0 24 0 0 0 0", 0.0),
        ("0 0 0 18 6 0 0 0", 0.0),  # waiting for a disk
        ("6 0 0 18 0 0 0 0", 1.0),
        ("0 3 2 18 0 0 1 0", 1.0),
        ("0 0 0 12 0 0 0 12", 2.0),  # taken by other machines
        ("24 0 0 0 0 0 0 0", 4.0),
    ],
)
def test_cores_at_work_are_counted_from_ticks(spent: str, cores: float, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [100, 20, 30, 4000, 50, 6, 7, 8]
    after = [a + b for a, b in zip(before, map(int, spent.split()), strict=True)]
    ticks(monkeypatch, " ".join(map(str, before)) + " 9 9", " ".join(map(str, after)) + " 9 9")
    assert waiting.busy_cores() == pytest.approx(cores)


def test_where_nobody_tells_the_machine_is_taken_for_quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(waiting, "STATISTICS", tmp_path / "none")
    assert waiting.busy_cores() == 0
    (tmp_path / "odd").write_text("something else\n")
    monkeypatch.setattr(waiting, "STATISTICS", tmp_path / "odd")
    assert waiting.busy_cores() == 0


@pytest.mark.parametrize(("cores", "turns"), [(0.0, waiting.QUIET), (0.4, waiting.QUIET), (0.5, "0"), (2.0, "0")])
def test_threads_sleep_at_once_beside_other_programs(cores: float, turns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in waiting.CHOSEN_BY_USER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(waiting, "busy_cores", lambda: cores)
    monkeypatch.setenv("GOMP_SPINCOUNT", "removed")
    monkeypatch.delenv("GOMP_SPINCOUNT")  # so that it is as before at the end
    waiting.wait_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == turns


def test_the_command_tells_it_before_torch_is_loaded() -> None:
    quiet = {name: value for name, value in os.environ.items() if name not in waiting.CHOSEN_BY_USER}
    words = [sys.executable, "-c", ASK]
    said = subprocess.run(words, env=quiet, capture_output=True, text=True, check=True).stdout
    assert f"'GOMP_SPINCOUNT': '{waiting.QUIET}'" in said or "'GOMP_SPINCOUNT': '0'" in said
    for name, value in (("OMP_WAIT_POLICY", "active"), ("GOMP_SPINCOUNT", "7")):
        said = subprocess.run(words, env={**quiet, name: value}, capture_output=True, text=True, check=True).stdout
        other = next(other for other in waiting.CHOSEN_BY_USER if other != name)
        assert f"'{name}': '{value}'" in said
        assert f"'{other}': None" in said


@pytest.mark.skipif(not waiting.STATISTICS.is_file(), reason="this system does not say how busy it is")
def test_real_load_is_seen() -> None:
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        assert max(waiting.busy_cores() for _ in range(20)) >= 0.5
    finally:
        for process in spinning:
            process.kill()
            process.wait()
