"""Two objectives: dominance and hypervolume against brute force, fronts of the real table, methods for them."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from darts.blackbox.evaluators.base import Context
from darts.blackbox.evaluators.table import TableEvaluator
from darts.blackbox.loop import BlackBox
from darts.blackbox.methods.base import FAILED, Baseline, Candidate
from darts.blackbox.methods.optuna_sampler import OptunaSampler
from darts.blackbox.methods.pareto_evolution import ParetoEvolution
from darts.blackbox.methods.random_search import RandomSearch
from darts.blackbox.objectives.base import Objective
from darts.blackbox.objectives.flops import Flops
from darts.blackbox.objectives.latency import Latency
from darts.blackbox.objectives.params import Params
from darts.blackbox.pareto import Front, Member, TrueFront, front_of, hypervolume
from darts.cli import main
from darts.compare.load import load
from darts.oracle.base import BENCHMARK, Column, Table
from darts.oracle.csv import CsvOracle
from darts.oracle.none import NoOracle
from darts.tasks.classification import Classification
from supernet.cost import count
from supernet.discrete_network import DiscreteNetwork
from supernet.size import NetworkSize
from supernet.spaces.cells import CellSpace

SPACE = CellSpace()
CPU = torch.device("cpu")
PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12)


def opened(objective: Objective) -> Objective:
    objective.open(SPACE, CPU)
    return objective


def dominates(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """At least as good in both, and better in one: the definition."""
    return first[0] >= second[0] and first[1] <= second[1] and first != second


@given(PAIRS)
def test_hypervolume_is_the_number_of_dominated_squares(pairs: list[tuple[int, int]]) -> None:
    """Reference: value 1, price 8. The square [v, v + 1] x [p, p + 1] counts if a pair has value > v and price <= p."""
    squares = sum(any(value > v and price <= p for value, price in pairs) for v in range(1, 9) for p in range(8))
    assert hypervolume(pairs, (1, 8)) == squares


@given(PAIRS)
def test_fronts_hold_what_nothing_dominates(pairs: list[tuple[int, int]]) -> None:
    undominated = {pair for pair in pairs if not any(dominates(other, pair) for other in pairs)}
    assert set(front_of(pairs)) == undominated
    assert front_of(pairs) == sorted(undominated, key=lambda pair: pair[1])
    front = Front()
    for number, (value, price) in enumerate(pairs):
        front.add(Member(str(number), value, price), 1)
    assert [(member.value, member.price) for member in front.members] == front_of(pairs)
    first = {pair: str(place) for place, pair in reversed(list(enumerate(pairs)))}
    assert all(first[member.value, member.price] == member.cell for member in front.members)


def test_longer_training_clears_a_front_and_shorter_one_does_not_enter() -> None:
    front = Front()
    for cell, value, epochs in (("short", 90.0, 12), ("long", 70.0, 200), ("short again", 95.0, 12)):
        front.add(Member(cell, value, 1.0), epochs)
    assert [member.cell for member in front.members] == ["long"]


def test_prices_are_those_of_the_network() -> None:
    cell = SPACE.genotype(12_345)
    network = DiscreteNetwork(cell, 8, 1, 4, 3)
    cost = count(network, 3, 16)
    sizes = {"channels": 8, "cells": 1, "num_classes": 4, "image_size": 16}
    assert opened(Params(**sizes))(cell) == sum(p.numel() for p in network.parameters()) / 1e6
    assert opened(Flops(**sizes))(cell) == cost.flops / 1e6
    assert Flops().describe()["network"] == str(NetworkSize())
    with pytest.raises(ValueError, match="cells: got 0"):
        Flops(cells=0)
    with pytest.raises(ValueError, match="repeats: got 0"):
        Latency(repeats=0)


def test_latency_is_measured_once_a_cell_and_disturbs_nothing() -> None:
    latency, state = opened(Latency(2, 1, 4, 8, repeats=2)), torch.get_rng_state()
    cell = SPACE.genotype(15_624)
    threads = torch.get_num_threads()
    first = latency(cell)
    assert first > 0
    assert torch.get_num_threads() == threads
    assert latency(cell) == first
    assert torch.equal(torch.get_rng_state(), state)
    big = opened(Latency(32, 1, 4, 32, repeats=3))
    assert (
        big(SPACE.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+" + "|none~0|none~1|nor_conv_3x3~2|")) > first
    )


def test_a_tournament_is_won_by_one_that_no_other_dominates() -> None:
    evolution = ParetoEvolution(4, 200)
    evolution.start(SPACE, random.Random(0), 10, (200,), 2)
    evolution.prices = {0: 5.0, 1: 1.0, 2: 6.0, 3: 1.0, 4: float("inf")}
    cell = SPACE.genotype(0)
    evolution.members = [(90.0, 0, cell), (50.0, 1, cell), (80.0, 2, cell), (40.0, 3, cell), (float("-inf"), 4, cell)]
    assert {evolution.winner()[1] for _ in range(50)} == {0, 1}


def test_shares_are_counted_from_the_lowest_truth_and_the_highest_price() -> None:
    front = TrueFront(np.array([50.0, 90.0, 80.0]), np.array([3.0, 2.0, 1.0]))
    assert front.volume == 70
    assert front.share([Member("", 0, 2.0, 90.0)]) == 40 / 70


def test_a_cheap_cell_that_failed_wins_no_tournament() -> None:
    evolution, cell = ParetoEvolution(2, 20), SPACE.genotype(0)
    evolution.start(SPACE, random.Random(0), 10, (200,), 2)
    evolution.observe(Candidate(0, cell, 200, price=5.0), 90.0)
    evolution.observe(Candidate(1, cell, 200, price=1.0), FAILED)
    assert {evolution.winner()[1] for _ in range(50)} == {0}


def test_latency_is_the_median_in_milliseconds_after_two_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks, seen = iter([0, 9, 0, 9, 0, 1, 0, 2, 0, 6]), []
    monkeypatch.setattr("darts.run.timing.time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monkeypatch.setattr(DiscreteNetwork, "forward", lambda self, images: seen.append((self.training, len(images))))
    assert opened(Latency(2, 1, 4, 8, images=3, repeats=3))(SPACE.genotype(0)) == 2000
    assert seen == [(False, 3)] * 5
    assert opened(Latency()).describe()["exact"] is False


def test_latency_is_that_of_the_device_that_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and images; the device `meta` holds shapes without values."""
    latency, forward, seen = Latency(2, 1, 4, 8, repeats=2), DiscreteNetwork.forward, set()
    latency.open(SPACE, torch.device("meta"))

    def noted(network: DiscreteNetwork, images: torch.Tensor) -> torch.Tensor:
        outputs = forward(network, images)
        seen.update(tensor.device.type for tensor in (*network.parameters(), *network.buffers(), images, outputs))
        return outputs

    monkeypatch.setattr(DiscreteNetwork, "forward", noted)
    assert latency(SPACE.genotype(12_345)) > 0
    assert seen == {"meta"}
    assert latency.describe()["measured"].startswith("meta, batch of 1, ")


# --- The real table


@pytest.fixture(scope="module")
def real(table_path: Path) -> Table:
    return CsvOracle(str(table_path)).load(BENCHMARK)


@pytest.fixture(scope="module")
def best(real: Table) -> TrueFront:
    flops = opened(Flops())
    return TrueFront(real.columns[Column("cifar10", "test", 200)], np.array([flops(cell) for cell in SPACE]))


def test_the_true_front_is_that_of_a_brute_force_search(real: Table, best: TrueFront) -> None:
    pairs = list(zip(best.truths.tolist(), best.prices.tolist(), strict=True))
    for pair in best.pairs:
        assert pair in pairs
        assert not (
            (best.truths >= pair[0]) & (best.prices <= pair[1]) & ((best.truths > pair[0]) | (best.prices < pair[1]))
        ).any()
    covered = np.zeros(len(pairs), dtype=bool)
    for truth, price in best.pairs:
        covered |= (best.truths <= truth) & (best.prices >= price)
    assert covered.all()
    assert max(truth for truth, _ in best.pairs) == best.truths.max()
    whole = [Member("", 0, price, truth) for truth, price in best.pairs]
    assert best.share(whole) == pytest.approx(1)
    assert best.share(whole[::2]) < 1
    assert best.share([]) == 0


@pytest.mark.parametrize(
    ("method", "budget"),
    [(ParetoEvolution(50, 20), 1000), (OptunaSampler("nsga2", {"population_size": 20}), 300)],
    ids=["pareto", "nsga2"],
)
def test_methods_for_two_objectives_find_better_fronts_than_random_search(
    real: Table, best: TrueFront, method: Baseline, budget: int
) -> None:
    """Mean share of the best possible hypervolume over seeds, by what they see; 4 standard errors apart."""
    seen = TrueFront(real.columns[Column("cifar10", "valid", 200)], best.prices)
    evaluator = TableEvaluator()
    evaluator.open(Context(SPACE, real, Classification, CPU))

    def shares(baseline: Baseline, seeds: int) -> np.ndarray:
        search = BlackBox(baseline, SPACE, evaluator, budget, objective=opened(Flops()))
        fronts = [search.run(seed).front for seed in range(seeds)]
        return np.array([seen.share([member._replace(truth=member.value) for member in front]) for front in fronts])

    theirs, others = shares(method, 10), shares(RandomSearch(), 20)
    error = (theirs.var(ddof=1) / 10 + others.var(ddof=1) / 20) ** 0.5
    assert theirs.mean() - others.mean() > 4 * error


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("method", ["pareto_evolution", "random_search"])
def test_the_command_writes_the_front(
    table_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["baseline", f"baseline={method}", "objective=params", f"oracle.path={table_path}", "seeds=0-2"]
    assert main([*words, "budget.evaluations=60", "run_dir=run"]) == 0
    printed = capsys.readouterr().out
    assert "% of the table's own front" in printed
    content = json.loads((tmp_path / "run/result.json").read_text())
    assert content["objective"]["name"] == "params"
    with (tmp_path / "run/front.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["seed", "cell", "value", "price", "truth"]
    for run in content["runs"]:
        assert 0.5 < run["hypervolume"] <= 1
        mine = [row for row in rows if int(row["seed"]) == run["seed"]]
        assert [row["cell"] for row in mine] == [member["cell"] for member in run["front"]]
        assert [float(row["price"]) for row in mine] == sorted(float(row["price"]) for row in mine)
        assert max(float(row["value"]) for row in mine) == run["trajectory"][-1]["signal"]
    assert (tmp_path / "run/figures/front.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["baseline", "objective=money", f"oracle.path={table_path}"]) == 2
    assert "objective: got 'money'; allowed are column, flops, latency, params" in capsys.readouterr().err


def test_fronts_of_one_objective_are_compared(
    table_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    common = ["baseline", f"oracle.path={table_path}", "seeds=0-1", "budget.evaluations=40"]
    for name, words in {
        "pareto": ["baseline=pareto_evolution", "baseline.population=20", "objective=flops"],
        "random": ["baseline=random_search", "objective=flops"],
        "alone": ["baseline=local_search"],
        "params": ["baseline=random_search", "objective=params"],
    }.items():
        assert main([*common, *words, f"run_dir={name}"]) == 0
    assert main(["compare", "pareto", "random", "alone", "run_dir=one", f"oracle.path={table_path}"]) == 0
    rows = {row["method"]: row for row in csv.DictReader((tmp_path / "one/compare.csv").read_text().splitlines())}
    content = json.loads((tmp_path / "pareto/result.json").read_text())
    mean = np.mean([run["hypervolume"] for run in content["runs"]])
    assert float(rows["pareto_evolution"]["hypervolume"]) == pytest.approx(mean)
    (trial, *_) = load([tmp_path / "pareto"], Column("cifar10", "test", 200), NoOracle()).methods[0].trials
    assert trial.front == [(member["truth"], member["price"]) for member in content["runs"][0]["front"]]
    assert rows["local_search"]["hypervolume"] == ""
    assert rows["pareto_evolution"]["notes"] == "it had a second objective, flops"
    assert "table's own front" in (tmp_path / "one/figures/front.svg").read_text()
    assert "Two objectives" in (tmp_path / "one/report.html").read_text()
    assert main(["compare", "pareto", "params", "run_dir=two", "oracle=none"]) == 0
    assert not (tmp_path / "two/figures/front.svg").exists(), "prices of two kinds share no axis"
