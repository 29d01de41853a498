"""One run: budget, cost, incumbents, the cache; and the real table against closed forms and published trials."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from darts.blackbox.evaluators.base import Context, Outcome
from darts.blackbox.evaluators.table import TableEvaluator
from darts.blackbox.loop import Answer, BlackBox
from darts.blackbox.methods.base import Baseline, Candidate
from darts.blackbox.methods.random_search import RandomSearch
from darts.blackbox.methods.regularized_evolution import RegularizedEvolution
from darts.blackbox.methods.reinforce import Reinforce
from darts.blackbox.methods.successive_halving import Hyperband
from darts.oracle.base import BENCHMARK, Column, Table
from darts.oracle.csv import CsvOracle
from darts.run.errors import UserError
from darts.tasks.base import Task
from supernet.genotype import Genotype
from supernet.spaces.base import Space
from supernet.spaces.cells import CellSpace

SPACE = CellSpace()
RANDOM_SEARCH = RandomSearch()


class Listed(Baseline):
    """Asks for given cells in turn."""

    def __init__(self, cells: list[int]) -> None:
        self.cells = [SPACE.genotype(index) for index in cells]

    def propose(self) -> Genotype | None:
        return self.cells[self.asked] if self.asked < len(self.cells) else None

    def observe(self, candidate: Candidate, value: float) -> None:
        return None


@pytest.fixture(scope="module")
def small() -> Table:
    """Accuracies that are the cell's index, after 12 epochs backwards; isomorphic cells differ."""
    index = np.arange(15_625.0)
    return Table("made", {Column("cifar10", "valid", 200): index, Column("cifar10", "valid", 12): -index})


def no_task(**options: object) -> Task:
    raise AssertionError("a table needs no data")


def at(table: Table | None, space: Space = SPACE) -> Context:
    return Context(space, table, no_task, torch.device("cpu"))


def opened(table: Table, signal: str = "cifar10/valid/200") -> TableEvaluator:
    evaluator = TableEvaluator(signal)
    evaluator.open(at(table))
    return evaluator


def test_incumbents_are_the_first_of_the_highest(small: Table) -> None:
    run = BlackBox(Listed([5, 3, 9, 9, 2, 11]), SPACE, opened(small), 6).run(0)
    assert [(point.evaluations, point.signal) for point in run.trajectory] == [(1, 5), (3, 9), (6, 11)]
    assert [point.cost for point in run.trajectory] == [1, 3, 6]
    assert [point.images for point in run.trajectory] == [n * 200 * 25_000 for n in (1, 3, 6)]
    assert (run.evaluations, run.duplicates, run.cost, run.stopped_by) == (6, 1, 6, "evaluations")


def test_twelve_epochs_cost_twelve_two_hundredths(small: Table) -> None:
    run = BlackBox(Listed([5, 3]), SPACE, opened(small, "cifar10/valid/12"), 2).run(0)
    assert [point.signal for point in run.trajectory] == [-5, -3]
    assert run.cost == pytest.approx(2 * 12 / 200)
    assert run.stopped_by == "evaluations"
    assert opened(small).fidelities == (12, 200)


def test_longer_training_beats_any_value_of_a_shorter_one(small: Table) -> None:
    run = BlackBox(Hyperband(eta=2, cells=1), SPACE, opened(small), 3).run(1)
    lengths = [point.signal >= 0 for point in run.trajectory]  # after 12 epochs accuracies are negative
    assert lengths == sorted(lengths)
    assert run.cost <= 3


def test_the_cache_answers_isomorphic_cells_free_of_charge(small: Table) -> None:
    """none on edges 1<-0, 2<-1 and 3<-1 leaves node 1 without use; 2<-1 may then be anything."""
    first = SPACE.parse("|none~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|skip_connect~2|")
    second = SPACE.parse("|none~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|none~1|skip_connect~2|")
    assert SPACE.canonical_form(first) == SPACE.canonical_form(second)
    cells = [SPACE.index(first), SPACE.index(second), SPACE.index(first), 7]
    plain = BlackBox(Listed(cells), SPACE, opened(small), 2).run(0)
    cached = BlackBox(Listed(cells), SPACE, opened(small), 2, isomorphic_cache=True).run(0)
    assert (plain.evaluations, plain.cached, plain.cost) == (2, 0, 2)
    assert (cached.evaluations, cached.cached, cached.duplicates, cached.cost) == (4, 2, 1, 2)
    assert cached.trajectory[-1].signal == max(cells[0], 7)


def test_a_method_that_only_asks_what_is_cached_ends(small: Table) -> None:
    run = BlackBox(Listed([4] * 1000), SPACE, opened(small), 3, isomorphic_cache=True).run(0)
    assert (run.evaluations, run.cost) == (60, 1)


def test_a_method_with_nothing_more_to_ask_is_said_to_be_exhausted(small: Table) -> None:
    run = BlackBox(Listed([4, 2]), SPACE, opened(small), 3).run(0)
    assert (run.evaluations, run.stopped_by) == (2, "exhausted")


def test_a_budget_of_nothing_is_refused(small: Table) -> None:
    with pytest.raises(ValueError, match="evaluations: got 0"):
        BlackBox(RandomSearch(), SPACE, opened(small), 0)


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        ("cifar10/valid", "signal: got 'cifar10/valid'; a column reads"),
        ("cifar10/valid/0", "signal: got"),
        ("svhn/valid/200", "oracle dataset: got 'svhn'"),
        ("cifar10/train/200", "oracle split: got 'train'"),
        ("cifar10/test/12", "signal: table made has no column cifar10/test/12; it has cifar10/valid/200"),
    ],
)
def test_signals_that_are_not_there(small: Table, signal: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        opened(small, signal)


def test_a_table_is_needed_and_of_this_space(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give oracle\.path="):
        TableEvaluator().open(at(None))
    file = tmp_path / "made.csv"
    file.write_text("\n".join(["cell,cifar10_valid_200", *(f"{cell},1" for cell in SPACE), ""]))
    with pytest.raises(UserError, match=r"is no table of this space: .*; give an intact file, or another space="):
        CsvOracle(str(file)).load(CellSpace(3))


def test_a_table_answers_cells_of_its_own_space() -> None:
    space = CellSpace(3, ["none", "skip_connect"])
    table = Table("made", {Column("cifar10", "valid", 200): np.arange(8.0)}, space=space)
    evaluator = TableEvaluator()
    evaluator.open(at(table, space))
    cells = [evaluator.value(cell, 200) for cell in space]
    assert cells == list(range(8))
    run = BlackBox(RandomSearch(), space, evaluator, 60).run(0)
    assert (run.trajectory[-1].signal, run.trajectory[-1].cell) == (7, str(space.genotype(7)))


def test_a_resumed_run_keeps_the_prices_and_times_of_its_answers(small: Table) -> None:
    prices, answers = count(), []
    search = BlackBox(Listed([5, 3, 9]), SPACE, opened(small), 3, objective=lambda cell: next(prices))  # type: ignore[arg-type, return-value]
    search.run(0, note=answers.append)
    run = search.run(0, [answers[0]._replace(seconds=100.0), answers[1]._replace(seconds=200.0)])
    assert [(member.value, member.price) for member in run.front] == [(5, 0), (9, 3)]
    assert run.seconds[0] == 100
    assert 200 <= run.seconds[1] <= run.seconds[2] < 300


class Stopping(TableEvaluator):
    """Stops what is good after six epochs."""

    def submit(self, candidate: Candidate) -> Callable[[], Outcome]:
        value = self.value(candidate.genotype, candidate.epochs) or 0.0
        length = 6 if value > 8 else 200
        return lambda: Outcome(value, length, (value,) * length)


def test_what_was_stopped_is_neither_incumbent_nor_in_the_front(small: Table) -> None:
    evaluator = Stopping()
    evaluator.open(at(small))
    run = BlackBox(Listed([5, 9, 3]), SPACE, evaluator, 3, objective=lambda cell: 1.0).run(0)  # type: ignore[arg-type, return-value]
    assert [point.signal for point in run.trajectory] == [member.value for member in run.front] == [5]
    assert run.stopped == 1


def test_the_cache_keeps_lengths_of_training_apart(small: Table) -> None:
    answers: list[Answer] = []
    search = BlackBox(Hyperband(eta=2, cells=1), SPACE, opened(small), 3, isomorphic_cache=True)
    search.run(1, note=answers.append)
    assert {(answer.epochs, (answer.outcome.value or 0) > 0) for answer in answers} == {(12, False), (200, True)}


# --- The real table


@pytest.fixture(scope="module")
def real(table_path: str) -> Table:
    return CsvOracle(str(table_path)).load(BENCHMARK)


@cache
def finals(table: Table, baseline: Baseline, signal: str, budget: int, runs: int) -> np.ndarray:
    """Known test accuracy of what each run found; kept, as several published figures are about the same runs."""
    truth = table.columns[Column("cifar10", "test", 200)]
    search = BlackBox(baseline, SPACE, opened(table, signal), budget)
    return np.array([truth[SPACE.index(SPACE.parse(search.run(s).trajectory[-1].cell))] for s in range(runs)])


def expected_of_random_search(table: Table, signal: str, budget: int) -> tuple[float, float]:
    """Mean and deviation in closed form: the best of n draws is among the k best with probability 1 - (1 - k / N)^n."""
    values = table.columns[Column.parse(signal)]
    truth = table.columns[Column("cifar10", "test", 200)]
    order = np.argsort(-values, kind="stable")
    missed = (1 - np.arange(len(order) + 1) / len(order)) ** budget
    probability = missed[:-1] - missed[1:]
    mean = float((probability * truth[order]).sum())
    return mean, float((probability * (truth[order] - mean) ** 2).sum() ** 0.5)


@pytest.mark.parametrize(
    ("signal", "budget", "runs"), [("cifar10/valid/12", 100, 300), ("cifar10/valid/200", 1000, 150)]
)
def test_random_search_is_as_good_as_chance_says(real: Table, signal: str, budget: int, runs: int) -> None:
    found = finals(real, RANDOM_SEARCH, signal, budget, runs)
    mean, deviation = expected_of_random_search(real, signal, budget)
    assert found.mean() == pytest.approx(mean, abs=4 * deviation / runs**0.5)
    assert found.std() == pytest.approx(deviation, rel=0.2)


@pytest.mark.parametrize(
    ("baseline", "signal", "budget", "runs", "mean", "deviation", "their_runs"),
    [
        # independent trials with this table, 300 runs each; half as many here where a run is long
        (RANDOM_SEARCH, "cifar10/valid/12", 100, 300, 93.76, 0.36, 300),
        (RegularizedEvolution(10, 3), "cifar10/valid/12", 100, 300, 93.93, 0.39, 300),
        (RANDOM_SEARCH, "cifar10/valid/200", 1000, 150, 94.05, 0.23, 300),
        (RegularizedEvolution(100, 10), "cifar10/valid/200", 1000, 150, 94.37, 0.06, 300),
        # NAS-Bench-201 (arXiv:2001.00326, table 5), 500 runs, as quoted by others; its budget is 12,000 seconds
        (RANDOM_SEARCH, "cifar10/valid/12", 100, 300, 93.70, 0.36, 500),
        (Reinforce(), "cifar10/valid/12", 100, 40, 93.85, 0.37, 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Baseline) else str(value),
)
def test_published_trials_come_out_again(
    real: Table,
    baseline: Baseline,
    signal: str,
    budget: int,
    runs: int,
    mean: float,
    deviation: float,
    their_runs: int,
) -> None:
    found = finals(real, baseline, signal, budget, runs)
    error = (found.var() / runs + deviation**2 / their_runs) ** 0.5
    assert found.mean() == pytest.approx(mean, abs=4 * error)
