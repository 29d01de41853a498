"""docs/own-space.md as a reader would follow it: its files are written, its commands run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import torch

from darts.cli import main
from darts.models.formats.onnx import session_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own-space.md"
MOST_LINES = 80


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.slow
@pytest.mark.usefixtures("pictures")
def test_the_page_brings_a_space_and_a_task_through_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (code,), (space, task) = blocks("python"), blocks("yaml")
    assert len([line for line in code.splitlines() if line.strip()]) <= MOST_LINES
    package = tmp_path / "my_space"
    for group, name, text in (("space", "chains", space), ("task", "focal", task)):
        (package / "configs" / group).mkdir(parents=True)
        (package / "configs" / group / f"{name}.yaml").write_text(text)
    (package / "__init__.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    commands = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("darts ")]
    assert {line.split()[1] for line in commands} == {"search", "baseline", "compare", "retrain", "export"}
    for line in commands:
        words = shlex.split(line)[1:]
        assert main(words) == 0, capfd.readouterr().err
    found, trained = (json.loads(Path(name, "result.json").read_text()) for name in ("found", "trained"))
    assert found["cell"] == trained["cell"]
    assert trained["test_accuracy"] > 20  # of ten classes
    answer, note = session_of(Path("trained/exports/model.onnx"))
    assert found["cell"] in str(note)
    assert answer(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
