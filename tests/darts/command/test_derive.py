"""What `darts derive` refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from darts.cli import main

TINY = (
    "dataset=fake", "dataset.images=64", "dataset.image_size=4", "data.batch_size=8", "network.channels=2",
    "network.cells=1", "oracle=none", "space.num_nodes=3", "budget.steps=10", "phases.evolution.batches=1",
    "phases.evolution.population=3", "phases.evolution.parents=2",
)  # fmt: skip


def test_architecture_parameters_that_nothing_trained_are_not_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main(["search", "method=spos", *TINY, f"run_dir={folder}"]) == 0
    capfd.readouterr()
    assert main(["derive", f"run={folder}", "discretizer=argmax"]) == 2
    said = capfd.readouterr().err
    assert "discretizer: SinglePath trains shared weights alone" in said
    assert f"darts derive run={folder}" in said
    assert main(["derive", f"run={folder}"]) == 0
    assert capfd.readouterr().out.strip() == json.loads((folder / "result.json").read_text())["cell"]
