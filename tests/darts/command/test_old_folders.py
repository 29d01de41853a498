"""Run folders that version 0.1 made, before classes moved: they resume, derive and compare.

tests/version-0.1 holds a search (C=1, four steps, unrolled), its result after an extension to six steps, and a
baseline, as that version wrote them; only the path of the table in the configs was made relative.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from darts.cli import main
from supernet.spaces.cells import CellSpace

MADE = Path(__file__).resolve().parents[2] / "version-0.1"
OLD_NAMES = ("darts.phases.", "darts.datasets.", "darts.weight_steps.", "supernet.search_space.SearchSpace")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, beside a table whose accuracies are the cells' places in the space."""
    shutil.copytree(MADE, tmp_path, dirs_exist_ok=True)
    lines = [f"{cell},{place / 200},{place / 200}" for place, cell in enumerate(CellSpace())]
    (tmp_path / "known.csv").write_text("\n".join(["cell,cifar10_valid_200,cifar10_test_200", *lines, ""]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def result_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def test_the_folders_name_classes_where_they_no_longer_stand() -> None:
    text = (MADE / "search/config.yaml").read_text()
    assert all(name in text for name in OLD_NAMES)
    assert "darts.baselines." in (MADE / "baseline/config.yaml").read_text()


def test_a_search_goes_on_to_the_result_that_version_0_1_came_to(folder: Path) -> None:
    assert main(["search", "resume=search", "budget.epochs=3", "extend=true"]) == 0
    found, expected = result_of(folder / "search"), result_of(folder / "longer")
    assert (found["cell"], found["steps"], found["images"]) == (expected["cell"], 6, expected["images"])
    assert found["history"][:2] == expected["history"][:2]  # read, not computed
    last, wanted = found["history"][2], expected["history"][2]
    assert last["alphas"]["alpha_EO"] == [pytest.approx(row, abs=1e-6) for row in wanted["alphas"]["alpha_EO"]]
    for name in ("train_loss", "valid_loss", "valid_accuracy"):
        assert last[name] == pytest.approx(wanted[name], rel=1e-4)


def test_a_finished_search_is_printed_and_derived_from(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = result_of(folder / "search")["cell"]
    assert main(["search", "resume=search"]) == 0
    shown = capsys.readouterr().out
    assert cell in shown
    assert "of 15,625" in shown
    assert main(["derive", "run=search"]) == 0
    assert capsys.readouterr().out.strip() == cell
    assert main(["derive", "run=search", "epoch=1", "discretizer.exclude=[none]"]) == 0
    assert "none" not in capsys.readouterr().out


def test_baselines_are_printed_and_compared_with_searches_of_today(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["baseline", "resume=baseline"]) == 0
    assert "regularized_evolution, 2 runs of 20 evaluations" in capsys.readouterr().out
    again = ["baseline", "baseline.population=5", "budget.evaluations=20", "seeds=2", "oracle.path=known.csv"]
    assert main([*again, "run_dir=today"]) == 0
    text = (folder / "today/result.json").read_text().replace('"table": "known"', '"table": "nb201-cifar10"')
    (folder / "today/result.json").write_text(text)
    assert main(["compare", "search", "baseline", "today", "run_dir=compare"]) == 0
    with (folder / "compare/compare.csv").open(newline="") as stream:
        rows = {row["method"]: int(row["runs"]) for row in csv.DictReader(stream)}
    assert rows == {
        "Softmax, Unrolled, beta_decay": 1,
        "regularized_evolution": 3,
    }  # settings of then and now are equal


def test_shared_weights_of_an_old_search_rate_cells(folder: Path) -> None:
    words = ["baseline", "evaluator=supernet", "evaluator.run=search", "baseline=random_search", "oracle=none"]
    assert main([*words, "budget.evaluations=3", "seeds=0", "run_dir=rated"]) == 0
    assert result_of(folder / "rated")["runs"][0]["images"] == 4 * 5 * 10 + 3 * 20
