"""Objectives of a measured column and of prices by operation, as users run them."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tables import write_table

from darts.blackbox.objectives.column import Column
from darts.blackbox.objectives.price_table import Priced
from darts.cli import main
from darts.search.regularizers.expected_cost import ExpectedCost
from supernet.spaces.cells import CellSpace

SPACE, CPU = CellSpace(), torch.device("cpu")


def price(cell: str) -> float:
    """By hand: 1 for the network, 2 for every 3x3, 0.5 for every 1x1."""
    return 1 + 2 * cell.count("3x3~") - 2 * cell.count("avg_pool_3x3~") + 0.5 * cell.count("1x1~")


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("costs") / "costs.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["cell", "watch_latency_ms", "cifar10_test_200"])
        for genotype in reversed(list(SPACE)):
            writer.writerow([str(genotype), price(str(genotype)), 90])
    return file


def test_a_column_prices_every_cell(costs: Path) -> None:
    objective = Column(str(costs), "watch_latency_ms")
    objective.open(SPACE, CPU)
    assert (objective.name, objective.unit) == ("watch_latency_ms", "ms")
    for place in range(0, 15625, 97):
        cell = SPACE.genotype(place)
        assert objective(cell) == price(str(cell))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-3], "no positive number for 3 of"),
        (lambda lines: ["cell,b", *lines[1:]], "lacks 'watch"),
        (lambda lines: [lines[0], "|x|,1,2", *lines[2:]], "give an intact file"),
        (lambda lines: [lines[0], lines[1].rsplit(",", 2)[0] + ",-1,9", *lines[2:]], "no positive number for 1 of"),
        (lambda lines: [lines[0], lines[1].rsplit(",", 2)[0] + ",a,9", *lines[2:]], "give an intact file"),
        (lambda lines: [], "it has nothing"),
    ],
)  # fmt: skip
def test_a_column_that_lacks_something_is_refused(
    change: Callable[[list[str]], list[str]], message: str, costs: Path, tmp_path: Path
) -> None:
    (tmp_path / "odd.csv").write_text("\n".join(change(costs.read_text().splitlines())))
    with pytest.raises(ValueError, match=message):
        Column(str(tmp_path / "odd.csv"), "watch_latency_ms").open(SPACE, CPU)


def test_accuracies_are_no_price(costs: Path) -> None:
    with pytest.raises(ValueError, match="holds accuracies"):
        Column(str(costs), "cifar10_test_200").open(SPACE, CPU)


def test_a_fit_serves_baselines_and_searches(
    costs: Path, darts: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    words = ["objective=column", f"objective.path={costs}", "objective.column=watch_latency_ms"]
    done = darts("latency", *words, "cells=300", "left_out=200", "run_dir=fit")
    assert done.returncode == 0, done.stderr
    assert "Spearman 1.0000" in done.stdout
    content = json.loads((tmp_path / "fit/prices.json").read_text())
    assert all(one["foretold"] == pytest.approx(price(one["cell"]), abs=1e-9) for one in content["left_out"])
    assert len(content["left_out"]) == 200

    table = write_table(tmp_path / "table.csv")
    run = ["baseline", "baseline=nsga2", f"oracle.path={table}", "budget.evaluations=60", "seeds=0"]
    fits = ["objective=price_table", "objective.path=fit/prices.json"]
    fronts = []
    for name, objective in (("column", words), ("fitted", fits)):
        assert darts(*run, *objective, f"run_dir={name}").returncode == 0
        with (tmp_path / name / "front.csv").open(newline="") as stream:
            fronts.append([(row["cell"], round(float(row["price"]), 6)) for row in csv.DictReader(stream)])
    assert fronts[0] == fronts[1] != []
    assert all(value == price(cell) for cell, value in fronts[0])

    term = ExpectedCost(SPACE, price=str(tmp_path / "fit/prices.json"))
    cell = SPACE.genotype(9876)
    one_hot_EO = torch.tensor([[name == chosen for name in SPACE.operations] for chosen in cell.operations]).double()
    assert term.cost(one_hot_EO).item() == pytest.approx(price(str(cell)), abs=1e-9)
    search = ["dataset=fake", "method=plain", "network.channels=2", "budget.epochs=1", "monitor=[]", "oracle=none"]
    prices = ["regularizer=[expected_cost]", "regularizer.expected_cost.price=fit/prices.json"]
    assert darts("search", *search, *prices, "run_dir=s").returncode == 0


@pytest.mark.parametrize("words", [["objective=column"], ["objective=price_table"], ["objective=flops", "cells=2"]])
def test_what_is_missing_is_said(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["latency", *words]) == 2
    error = capsys.readouterr().err
    assert "give" in error
    assert "Traceback" not in error


def test_prices_of_another_space_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no prices"):
        Priced(str(tmp_path)).open(SPACE, CPU)
