"""What does not go together is one message and status 2, before anything is made; and series through the commands."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from darts.cli import main

Said = tuple[int, str, str]
SERIES = "task=sequence_regression dataset=series dataset.root=mine.csv"


@pytest.fixture
def darts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[[str], Said]:
    """Runs a command beside mine.csv, 300 steps of a sine and what it foretells."""
    lines = [f"{math.sin(t / 9):.4f},{10 + 2 * math.sin(t / 9 - 1):.4f}" for t in range(300)]
    (tmp_path / "mine.csv").write_text("\n".join(["wind,power", *lines]) + "\n")
    monkeypatch.chdir(tmp_path)

    def run(words: str) -> Said:
        return (main(shlex.split(words)), *capfd.readouterr())

    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("search space=darts_cells", "method=darts_v1_cells"),
        ("search space=sequential_cnn", "the space SequentialCnn lacks; darts baseline searches it"),
        ("search space=nasnet_cells method=plain", "needs a supernet"),
        ("search space=recurrent_cell method=plain", "RecurrentCell take series, and the task gives images"),
        ("search task=sequence_regression method=plain", "SequenceRegression takes series, and digits gives images"),
        ("search dataset=adding method=plain", "Classification takes images, and adding problem"),
        ("search space=darts_cells method=darts_minus dataset=fake", "(extra_skip), which the supernet of Darts"),
        (
            f"search {SERIES} space=recurrent_cell method=pc_darts data.batch_size=8",
            "(partial), which the supernet of RecurrentCell cannot",
        ),
        (
            "search space=darts_cells method=plain dataset=fake 'regularizer=[expected_flops]'",
            "price: got 'flops'; genotypes of DartsCells leave edges out",
        ),
        (f"search {SERIES} space=recurrent_cell method=plain dataset.horizon=900", "need at least 947; give more rows"),
        (f"search {SERIES} space=recurrent_cell method=plain data.resolution=8", "data.resolution: got 8; it is"),
        ("baseline space=sequential_cnn baseline=local_search", "local_search needs neighbours"),
        ("baseline space=mobile baseline=given", "cells: got none"),
        ("retrain space=darts_cells cell='|none~0|'", "got 1 cells, joined by '/'"),
        ("retrain space=sequential_cnn cell=N32-3-relu+R64-5-gelu", "got 1 reduction layers; give exactly 2"),
        ("retrain space=sequential_cnn cell=N32-3-relu+R64-5-gelu+R9-1-relu", "gene 3, R9-1-relu: the filters 9"),
        ("retrain space=mobile cell=k3e3+skip", "got 2 blocks, joined by '+'; the space has 9"),
        ("retrain space=channels cell=8:16:24:32:65", "block 5: got 65 channels"),
        ("retrain space=hierarchical cell='|none~0|'", "got 1 motifs, joined by ';'; the space has 4"),
        (f"retrain {SERIES} space=recurrent_network cell=gru/layers=9/width=8/dropout=0/tanh", "got 'layers=9'"),
        ("retrain cell='|skip_connect~0|' space.num_nodes=2 recipe.drop_path=0.2", "recipe.drop_path: got 0.2"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_said_before_anything_is_made(
    words: str, message: str, darts: Callable[[str], Said], tmp_path: Path
) -> None:
    if "baseline" in words:
        words += " evaluator=train dataset=fake"
    status, out, errors = darts(f"{words} oracle=none" if words.startswith("search") else words)
    assert (status, out) == (2, ""), errors
    assert message in errors
    assert "Traceback" not in errors
    assert [file.name for file in tmp_path.iterdir()] == ["mine.csv"]


@pytest.mark.slow
@pytest.mark.usefixtures("pictures")
def test_a_series_goes_from_its_file_to_forecasts_of_an_exported_network(
    darts: Callable[[str], Said], tmp_path: Path
) -> None:
    assert "power" in darts("data dataset=series dataset.root=mine.csv")[1]
    small = "data.batch_size=16 network.channels=8 dataset.window=12"
    searched = (
        f"search {SERIES} {small} space=recurrent_cell space.num_nodes=3 method=plain budget.epochs=1 run_dir=found"
    )
    assert darts(searched)[0] == 0
    fitted = f"retrain run=found {SERIES} {small} recipe=fast recipe.epochs=30 recipe.lr=0.3 run_dir=made"
    assert darts(fitted)[0] == 0
    result = json.loads((tmp_path / "made/result.json").read_text())
    assert result["test_mse"] < 0.2  # of a constant answer's 1
    for form, suffix in (("onnx", "onnx"), ("safetensors", "safetensors")):
        assert darts(f"export run=made format={form}")[0] == 0
        status, out, errors = darts(f"predict model=made/exports/model.{suffix} mine.csv")
        rows = [json.loads(line) for line in out.splitlines()]
        assert (status, len(rows)) == (0, 300 - 12 + 1)
        assert (rows[0]["line"], rows[-1]["line"]) == (14, 302)
        assert min(row["values"]["power"] for row in rows) > 7.5
        assert max(row["values"]["power"] for row in rows) < 12.5
        assert "mse " in errors
    status, _, errors = darts("export run=made quantize=true output=other.onnx")
    assert (status, "it is for classifiers of images" in errors) == (2, True)
