"""Files of earlier versions read as if this one had written them; those of later ones and of none are refused.

What version 0.1 wrote is read in tests/darts/command/test_old_folders.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from darts.cli import main
from darts.run.errors import UserError
from darts.run.schema import VERSION, upgraded

DATA = ["dataset=fake", "dataset.images=48", "dataset.image_size=4", "network.channels=2", "network.cells=1"]
CELL = "cell=|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"
RUNS = {
    "search": ["search", "method=plain", *DATA, "data.batch_size=8", "budget.epochs=1", "oracle=none"],
    "retrain": ["retrain", CELL, *DATA, "data.batch_size=8", "recipe.epochs=2"],
    "baseline": ["baseline", "evaluator=zero_cost", "budget.evaluations=2", "seeds=[0]", "oracle=none",
                 "dataset=fake", "dataset.images=96"],
}  # fmt: skip


def test_every_step_is_taken_once_and_in_order() -> None:
    def added(name: str, content: dict[str, Any]) -> dict[str, Any]:
        return content | {"taken": [*content.get("taken", []), name]}

    steps = {number: (lambda content, number=number: added(str(number), content)) for number in range(1, VERSION)}
    for version in range(1, VERSION + 1):
        found = upgraded({"schema_version": version, "kept": 1}, Path("x"), "run", steps)
        assert found.get("taken", []) == [str(number) for number in range(version, VERSION)]
        assert found["schema_version"] == VERSION
        assert found["kept"] == 1


@pytest.mark.parametrize("version", [None, 0, -1, "2", True, 1.0, [1]])
def test_what_is_no_version_is_refused(version: object) -> None:
    with pytest.raises(UserError, match="schema_version"):
        upgraded({"schema_version": version}, Path("x"), "run", {})


def test_a_file_that_lacks_what_its_version_has_is_refused() -> None:
    with pytest.raises(UserError, match=r"^run: x has schema_version 1, but not what that has \('state'\)"):
        upgraded({"schema_version": 1}, Path("x"), "run", {1: lambda content: content["state"]})


@pytest.mark.parametrize("command", RUNS)
def test_what_a_newer_version_wrote_is_refused_and_stays(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main([*RUNS[command], f"run_dir={folder}"]) == 0
    content = json.loads((folder / "result.json").read_text())
    assert content["schema_version"] == VERSION
    (folder / "result.json").write_text(json.dumps(content | {"schema_version": VERSION + 1}))
    written = (folder / "result.json").read_bytes()
    for line in ([command, f"resume={folder}"], ["compare", str(folder), f"run_dir={tmp_path / 'compared'}"]):
        capfd.readouterr()
        if command == "retrain" and line[0] == "compare":
            continue  # takes searches and baselines
        assert main(line) == 2
        message = capfd.readouterr().err
        assert f"has schema_version {VERSION + 1}, this program reads 1 to {VERSION}; a newer one wrote it" in message
    assert (folder / "result.json").read_bytes() == written
    if command == "baseline":
        return
    (folder / "result.json").unlink()
    for checkpoint in (folder / "checkpoints").glob("last*.pt"):
        torch.save(torch.load(checkpoint, weights_only=True) | {"schema_version": VERSION + 1}, checkpoint)
    capfd.readouterr()
    assert main([command, f"resume={folder}"]) == 2
    assert "a newer one wrote it: pip install --upgrade" in capfd.readouterr().err
    assert not list((folder / "checkpoints").glob("*.damaged"))
