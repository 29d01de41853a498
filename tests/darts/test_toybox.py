"""A space, a task and a command of somebody's own, a file and a YAML each, through every command."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from darts.cli import main

TOYS = Path(__file__).resolve().parent.parent
PLUGINS = "plugins=[toybox]"
TASK = ("space=two_nodes", "task=brightness", "dataset=fake")
Said = tuple[int, str, str]  # exit status, standard output, standard error


@pytest.fixture
def darts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs a command in an empty folder, with the toys where packages are looked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TOYS))

    def run(*words: str) -> Said:
        return (main(words), *capfd.readouterr())

    return run


@pytest.fixture
def toys(darts: Callable[..., Said]) -> Callable[..., str]:
    """Runs a command that knows the toys, beside their table; returns what it prints."""

    def run(*words: str) -> str:
        status, out, errors = darts(*words, PLUGINS)
        assert status == 0, errors
        return out

    run("table", "output=toy.csv")
    return run


def test_a_command_of_ones_own_stands_beside_the_others(
    darts: Callable[..., Said], toys: Callable[..., str], tmp_path: Path
) -> None:
    assert len((tmp_path / "toy.csv").read_text().splitlines()) == 10
    assert "invent a table for a small space" in toys("--help")
    assert "invent a table" not in darts("--help")[1]
    assert "output: null # the table to write" in toys("table", "--help")
    status, _, errors = darts("table", PLUGINS)
    assert (status, errors.count("output=FILE.csv")) == (2, 1)


@pytest.mark.usefixtures("pictures")
def test_a_space_and_a_task_of_ones_own_go_through_search_baseline_compare_and_derive(
    toys: Callable[..., str], tmp_path: Path
) -> None:
    searched = toys(
        "search", *TASK, "method=plain", "network.channels=4", "budget.epochs=3", "run_dir=search",
        "oracle.path=toy.csv", "arch_step=unrolled", "phases.warm_up.share=1", "phases.bilevel.share=2",
    )  # fmt: skip
    result = json.loads((tmp_path / "search/result.json").read_text())
    first, second = result["cell"].split()
    operations = ("skip_connect", "nor_conv_1x1", "avg_pool_3x3")
    place = 3 * operations.index(first) + operations.index(second)
    assert [(row["value"], row["rank"]) for row in result["oracle"]["rows"]] == [
        (81 + place, 9 - place),
        (80 + place, 9 - place),
    ]
    assert result["metric"]["name"] == "error"
    assert result["supernet_valid_error"] == result["history"][-1]["valid_error"] > 0
    assert result["images"] == 64 * (2 * 1 + 4 * (1 + 4))  # the unrolled step makes four passes
    assert f"rank {9 - place} of 9" in searched
    assert f"{result['supernet_valid_error']:.4g} grey levels" in searched
    assert "accuracy" not in searched.replace("known accuracy", "")
    assert toys("derive", "run=search").strip() == result["cell"]
    for picture in ("alphas", "progress", "cell"):
        assert (tmp_path / f"search/figures/{picture}.png").stat().st_size > 5_000

    same = ("oracle.path=toy.csv", "seeds=0-1", "baseline=random_search", "budget.evaluations=3")
    toys("baseline", "space=two_nodes", *same, "run_dir=table", "baseline=mcts")
    toys("baseline", *TASK, *same, "run_dir=train", "evaluator=train", "evaluator.lengths=[1]", "evaluator.channels=4")
    toys("baseline", *TASK, *same, "run_dir=shared", "evaluator=supernet", "evaluator.run=search", "objective=params")
    toys("baseline", *TASK, *same, "run_dir=score", "evaluator=zero_cost", "evaluator.proxy=snip", "evaluator.cells=1")
    trained = json.loads((tmp_path / "train/result.json").read_text())
    signals = [point["signal"] for run in trained["runs"] for point in run["trajectory"]]
    assert max(signals) < 0  # of an error less is better
    toys("compare", "search", "table", "train", "shared", "score", "oracle.path=toy.csv", "run_dir=compare")
    with (tmp_path / "compare/compare.csv").open(newline="") as stream:
        rows = {row["method"]: row for row in csv.DictReader(stream)}
    assert len(rows) == 5
    assert float(rows["Softmax, Unrolled"]["truth_mean"]) == 81 + place
    assert all(81 <= float(row["truth_mean"]) <= 89 for row in rows.values())


def test_what_a_space_cannot_do_is_said_with_the_methods_that_can(darts: Callable[..., Said], tmp_path: Path) -> None:
    for method, lacking in (("local_search", "neighbours"), ("genetic", "crossover"), ("predictor", "an encoding")):
        status, _, errors = darts("baseline", PLUGINS, "space=two_nodes", f"baseline={method}", "run_dir=refused")
        assert status == 2
        assert f"{method} needs {lacking}" in errors
        able = errors.partition("these can search it: ")[2]
        assert "random_search" in able
        assert "regularized_evolution" in able
        assert method not in able
    assert list(tmp_path.iterdir()) == []
