"""A study may hold searches: what they find is evaluated as cells of baselines are, and searching counts as spent."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from darts.cli import main

STUDY = """# @package _global_
# darts compare: a search beside random search
common: [space=recurrent_network, "space.widths=[4]", task=sequence_regression, dataset=adding, dataset.length=4,
  dataset.items=64, evaluator=train, "evaluator.lengths=[1]", evaluator.batch_size=16, budget.evaluations=2, seeds=3-4]
study:
  random: [baseline=random_search]
  gradient: [search, method=plain, budget.epochs=null, budget.images=64, data.batch_size=16, "monitor=[]"]
"""


@pytest.mark.usefixtures("pictures")
@pytest.mark.slow
def test_a_search_of_every_seed_is_made_evaluated_and_compared_and_none_is_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/beside.yaml").write_text(STUDY)
    words = ["compare", "--config-dir", "mine", "experiment=beside", "run_dir=study"]
    assert main(words) == 0, capfd.readouterr().err
    with (tmp_path / "study/compare.csv").open(newline="") as stream:
        rows = {row["method"]: row for row in csv.DictReader(stream)}
    assert {name: row["runs"] for name, row in rows.items()} == {"random": "2", "gradient": "2"}
    for seed in (3, 4):
        found = json.loads((tmp_path / f"study/runs/gradient-search-{seed}/result.json").read_text())
        (run,) = json.loads((tmp_path / f"study/runs/gradient-{seed}/result.json").read_text())["runs"]
        assert (run["seed"], run["trajectory"][0]["cell"]) == (seed, found["cell"])
        assert run["images"] == found["images"] + 32  # an epoch: half of the windows, in batches of 16
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("runs/*/result.json")}
    assert main(words) == 0
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("runs/*/result.json")} == before
    assert len(before) == 5

    search = tmp_path / "study/runs/gradient-search-4"
    files = sorted(tmp_path.rglob("runs/*/**/*"))
    (search / ".lock").touch()  # as of a search that was killed while it drew
    (search / "figures/cell.png").rename(search / "figures/.cell.png.12345678.tmp")
    assert main(words) == 0
    assert sorted(tmp_path.rglob("runs/*/**/*")) == files
    assert json.loads((search / "result.json").read_text()) == found
