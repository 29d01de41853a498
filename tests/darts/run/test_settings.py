"""Settings as a whole: what a run has to keep, and paths that mean the same everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from darts.command.config import compose_config
from darts.run.settings import anchored, differing, fixed


def test_what_a_run_keeps_is_what_its_numbers_hang_on() -> None:
    before = fixed(compose_config("search", ["dataset=fake"]))
    free = ["engine.threads=1", "engine.checkpoint_minutes=0", "run_dir=there", "budget.epochs=3", "oracle=none"]
    assert differing(before, fixed(compose_config("search", ["dataset=fake", *free]))) == []
    kept = ["seed=3", "weight_step.lr=0.7", "data.batch_size=9", "dataset.image_size=9", "relaxation.init_scale=0.5"]
    for word in kept:
        key, value = word.split("=")
        (line,) = differing(before, fixed(compose_config("search", ["dataset=fake", word])))
        assert line.startswith(f"{key} is {value}, was ")


def test_options_that_are_new_do_not_differ() -> None:
    assert differing({"seed": "0"}, {"seed": "0", "an option of tomorrow": "1"}) == []


def test_paths_are_those_of_the_folder_that_they_were_given_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"dataset": {"root": "photos", "name": "x"}, "oracle": {"path": None}, "seed": 0}
    assert anchored(given) == {
        "dataset": {"root": str(tmp_path / "photos"), "name": "x"}, "oracle": {"path": None}, "seed": 0,
    }  # fmt: skip
    assert given["dataset"] == {"root": "photos", "name": "x"}, "what was given stays"
