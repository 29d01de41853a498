"""`darts tune`: a planted optimum is found, test images stay unseen, processes share a study, a stop loses nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from darts.cli import main
from darts.tasks.datasets.fake import Fake
from darts.training.tuning import parameters_of, with_values

CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
TINY = [
    "dataset=fake", "network.channels=2", "network.cells=1", "recipe.warm_up=0", "data.batch_size=32",
    "parameters.network=null", "parameters.data=null", "parameters.recipe.weight_decay=null",
]  # fmt: skip
DEAD = "+parameters.recipe.lr.choices=[1e-9,0.1]"  # with the first nothing is learned


def content(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "tune.json").read_text())
    return found


def test_the_rate_that_learns_wins_and_test_images_stay_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, seen = Fake.load_test, []
    monkeypatch.setattr(Fake, "load_test", lambda self: (seen.append(1), real(self))[1])
    judged: list[int] = []
    monkeypatch.setattr("darts.training.retraining.answers", lambda *a: judged.append(1))
    words = ["tune", f"cell={CELL}", *TINY, DEAD, "trials=6", "recipe.epochs=3", f"run_dir={tmp_path / 'run'}"]
    assert main(words) == 0
    assert judged == []
    found = content(tmp_path / "run")
    assert found["best"]["settings"] == {"recipe.lr": 0.1}
    assert len(found["trials"]) == 6
    assert {trial["settings"]["recipe.lr"] for trial in found["trials"]} == {1e-9, 0.1}
    assert all(trial["cell"] == CELL for trial in found["trials"])
    out = capsys.readouterr().out
    assert "recipe.lr=0.1" in out
    assert "darts retrain 'cell=" in out


def test_the_cell_is_tuned_from_the_given_one(tmp_path: Path) -> None:
    words = [*TINY, "parameters.recipe=null", "tune_cell=true", "trials=4", "recipe.epochs=1"]
    assert main(["tune", f"cell={CELL}", *words, f"run_dir={tmp_path / 'run'}"]) == 0
    cells = [trial["cell"] for trial in content(tmp_path / "run")["trials"]]
    assert cells[0] == CELL
    assert len(set(cells)) == 4


def test_a_study_goes_on_with_other_draws(tmp_path: Path) -> None:
    rates = "parameters.recipe.lr={low:0.001,high:0.5,log:true}"
    folder = tmp_path / "run"
    assert main(["tune", f"cell={CELL}", *TINY, rates, "trials=2", "recipe.epochs=1", f"run_dir={folder}"]) == 0
    assert main(["tune", f"resume={folder}", "trials=5"]) == 0
    values = [trial["settings"]["recipe.lr"] for trial in content(folder)["trials"]]
    assert len(set(values)) == 5
    assert all(0.001 <= value <= 0.5 for value in values)
    assert main(["tune", f"resume={folder}", "seed=3"]) == 2


def test_a_renamed_study_goes_on(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["tune", f"cell={CELL}", *TINY, "trials=2", "recipe.epochs=1", f"run_dir={first}"]) == 0
    first.rename(second)
    assert main(["tune", f"resume={second}", "trials=3"]) == 0
    assert len(content(second)["trials"]) == 3


def test_a_database_is_given_and_not_believed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder names none that is then written to. Where it is given, folders of two machines share one study."""
    folder, other, url = tmp_path / "one", tmp_path / "two", f"sqlite:///{tmp_path / 'shared.db'}"
    words = ["tune", f"cell={CELL}", *TINY, "recipe.epochs=1"]
    shared = ["study=ours", f"storage={url}"]
    assert main([*words, *shared, "trials=2", f"run_dir={folder}"]) == 0
    assert main([*words, *shared, "trials=3", f"run_dir={other}"]) == 0
    assert len(content(other)["trials"]) == 3
    assert not list(tmp_path.glob("*/study.db"))
    assert main(["tune", f"resume={folder}", "trials=4", f"storage={url}"]) == 0
    assert content(folder)["trials"][:3] == content(other)["trials"]
    capsys.readouterr()
    config, outside = folder / "config.yaml", tmp_path / "outside.db"
    config.write_text(config.read_text().replace(url, f"sqlite:///{outside}"))
    assert main(["tune", f"resume={folder}", "trials=5"]) == 2
    assert f"storage: the trials are in sqlite:///{outside}, which" in capsys.readouterr().err
    assert not outside.exists()
    assert main(["tune", f"resume={folder}", "trials=5", f"storage={url}"]) == 0
    assert len(content(folder)["trials"]) == 5


@pytest.mark.slow
def test_several_processes_share_a_study_and_a_killed_one_is_made_up_for(tmp_path: Path, console: list[str]) -> None:
    folder = tmp_path / "run"
    words = ["tune", f"cell={CELL}", *TINY, "recipe.epochs=2", "trials=8", f"run_dir={folder}"]
    first = subprocess.Popen([*console, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (folder / "config.yaml").exists():
        assert time.monotonic() < deadline
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.05)
    join = [*console, "tune", f"resume={folder}"]
    killed = subprocess.Popen(join, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(3)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    _, errors = first.communicate(timeout=120)
    assert first.returncode == 0, errors
    ended = [trial for trial in content(folder)["trials"] if trial["state"] != "running"]
    assert len(ended) >= 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["parameters.recipe.lr.low=3"], "parameters.recipe.lr: got {'low': 3"), (["parameters.recipe.lr=3"], "got 3"),
        (["+parameters.oracle.path.choices=[a]"], "parameters.oracle: "), (["trials=0"], "trials: got 0"),
        (["+parameters.recipe.speed.choices=[1]"], "darts retrain has no such setting"),
        (["data.held_out=0"], "trials would be compared by test images"), (["parameters={}"], None),
        (["storage=foo://x"], "storage: foo://x cannot be opened"), (["cell=|x|"], "cell"), (["run=nowhere"], "run"),
    ],
)  # fmt: skip
def test_what_cannot_be_tuned_is_said(
    words: list[str], message: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = [] if words[0].startswith("cell=") else [f"cell={CELL}"]
    status = main(["tune", *cell, "dataset=fake", "recipe.epochs=2", "trials=1", f"run_dir={tmp_path / 'x'}", *words])
    if message is None:  # an empty mapping is merged with the defaults
        return
    error = capsys.readouterr().err
    assert status == 2
    assert message in error
    assert not (tmp_path / "x").exists()


def test_ranges_and_choices_are_read() -> None:
    found = parameters_of(
        {"recipe": {"lr": {"low": 1, "high": 3}, "x": None}, "network": {"cells": {"choices": [1, 2]}}}
    )
    assert [(one.key, one.choices, one.low, one.high) for one in found] == [
        ("recipe.lr", (), 1, 3), ("network.cells", (1, 2), 0.0, 0.0),
    ]  # fmt: skip
    settings = {"recipe": {"lr": 1}, "cell": "a"}
    assert with_values(settings, {"recipe.lr": 2, "cell": "b"}) == {"recipe": {"lr": 2}, "cell": "b"}
    assert settings == {"recipe": {"lr": 1}, "cell": "a"}
