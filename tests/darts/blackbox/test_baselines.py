"""Every YAML file under configs/baseline, found by globbing: a new method is tested with no edit here."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from darts.blackbox.evaluators.base import Context, Evaluator
from darts.blackbox.loop import Answer, BlackBox, Run
from darts.blackbox.methods.base import Baseline, Candidate
from darts.run.parts import build_part
from supernet.genotype import Genotype
from supernet.spaces.cells import CellSpace

FILES = sorted((Path(__file__).parents[3] / "configs" / "baseline").glob("*.yaml"))
FILES = [file for file in FILES if file.stem != "given"]  # it searches nothing: test_methods.py
SMALL = {"population": 8, "elite": 2, "sample": 3, "start": 10, "batch": 5, "trees": 5, "children": 30, "draws": 8}
BUDGET = 18
ALL_OF_IT = ("grid_search",)  # ends by itself when the budget is as large as the space
pytestmark = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


class Toy(Evaluator):
    """A smooth value with noise that repeats; shorter training is noisier. A share `broken` of the cells fails."""

    fidelities = (3, 10)

    def __init__(self, space: CellSpace, broken: float = 0.0, fidelities: tuple[int, ...] = (3, 10)) -> None:
        super().__init__(None)
        self.space, self.fidelities = space, fidelities
        places = random.Random(1).sample(range(space.size), round(broken * space.size))
        self.broken = {space.genotype(place) for place in places}
        self.asked: list[tuple[Genotype, int]] = []

    def open(self, context: Context) -> None:
        return None

    def value(self, genotype: Genotype, epochs: int) -> float | None:
        self.space.check(genotype)
        assert epochs in self.fidelities
        self.asked.append((genotype, epochs))
        if genotype in self.broken:
            return None
        rng = random.Random(f"{genotype}/{epochs}")
        return 60 + 3 * sum(self.space.decisions(genotype)) + rng.gauss(0, 20 / epochs)

    def cost(self, epochs: int) -> float:
        return epochs / 10

    def images(self, epochs: int) -> int:
        return epochs

    def describe(self) -> dict[str, Any]:
        return {"name": "toy", "signal": "toy"}


def built(file: Path) -> Baseline:
    node = yaml.safe_load(file.read_text(encoding="utf-8"))
    baseline: Baseline = build_part(node | {key: value for key, value in SMALL.items() if key in node}, file.stem)
    return baseline


def run(file: Path, evaluator: Toy, budget: int = BUDGET, seed: int = 3, answers: list[Answer] | None = None) -> Run:
    return BlackBox(built(file), evaluator.space, evaluator, budget).run(seed, answers or [])


def test_a_seed_repeats_and_another_differs(file: Path) -> None:
    space = CellSpace()
    first, second, other = Toy(space), Toy(space), Toy(space)
    assert run(file, first) == run(file, second)
    assert first.asked == second.asked
    run(file, other, seed=4)
    assert first.asked != other.asked


def test_nothing_but_its_own_generator_is_used(file: Path) -> None:
    run(file, Toy(CellSpace()), budget=12)  # what it imports may draw while it is imported
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index, union-attr]
    run(file, Toy(CellSpace()), budget=12)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index, union-attr]
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


@pytest.mark.parametrize("space", [CellSpace(), CellSpace(3, ["a", "b"]), CellSpace(2, ["a", "b", "c"])])
def test_the_budget_is_spent_exactly_on_cells_of_the_space(file: Path, space: CellSpace) -> None:
    evaluator = Toy(space)
    found = run(file, evaluator)
    epochs = sum(length for _, length in evaluator.asked)
    assert len(evaluator.asked) == found.evaluations
    assert found.cost == pytest.approx(epochs / 10)
    assert found.images == epochs
    if found.stopped_by == "exhausted":
        assert file.stem in ALL_OF_IT
        assert len(set(evaluator.asked)) == space.size
    elif {length for _, length in evaluator.asked} == {10}:
        assert found.evaluations == BUDGET
    else:
        assert 10 * (BUDGET - 1) < epochs <= 10 * BUDGET
    longest = [(cell, 10) for cell, length in evaluator.asked if length == 10] or evaluator.asked
    values = {cell: evaluator.value(cell, length) for cell, length in longest}
    assert found.trajectory[-1].signal == max(values.values())  # type: ignore[type-var]


def test_it_resumes_from_what_it_was_told(file: Path) -> None:
    space, told = CellSpace(), []
    whole = Toy(space, broken=0.1)
    expected = BlackBox(built(file), space, whole, BUDGET).run(3, note=told.append)
    rest = Toy(space, broken=0.1)
    noted: list[Answer] = []
    resumed = BlackBox(built(file), space, rest, BUDGET).run(3, told[:12], noted.append)
    assert resumed == expected
    assert rest.asked == whole.asked[12:]
    assert [answer._replace(seconds=0) for answer in noted] == [answer._replace(seconds=0) for answer in told[12:]]
    with pytest.raises(ValueError, match="other settings or versions"):
        BlackBox(built(file), space, rest, BUDGET).run(4, told[:12])


@pytest.mark.parametrize("broken", [0.3, 1.0])
def test_failed_evaluations_do_not_stop_it(file: Path, broken: float) -> None:
    """They are those of the broken cells, no more and no fewer; none of them is an incumbent."""
    evaluator, told = Toy(CellSpace(), broken), []
    found = BlackBox(built(file), evaluator.space, evaluator, BUDGET).run(3, note=told.append)
    failing = [cell in evaluator.broken for cell, _ in evaluator.asked]
    assert [answer.outcome.value is None for answer in told] == failing
    assert found.failed == sum(failing) > 0
    assert found.evaluations == len(failing)
    assert not {evaluator.space.parse(point.cell) for point in found.trajectory} & evaluator.broken
    assert bool(found.trajectory) == (broken < 1)


def test_several_at_once_in_any_order(file: Path) -> None:
    """Asked by up to seven, answered in random order, some failed; it never waits with nothing left to wait for."""
    evaluator, baseline, rng = Toy(CellSpace(), broken=0.1), built(file), random.Random(1)
    baseline.start(evaluator.space, random.Random(2), BUDGET, evaluator.fidelities)
    waiting: list[Candidate] = []
    answers = numbers = 0
    while answers < BUDGET:
        asked = baseline.ask(rng.randint(1, 7))
        assert [candidate.number for candidate in asked] == list(range(numbers, numbers + len(asked)))
        numbers += len(asked)
        waiting += asked
        if not waiting:
            assert file.stem in ALL_OF_IT
            assert numbers == BUDGET
            break
        for _ in range(rng.randint(1, len(waiting))):
            candidate = waiting.pop(rng.randrange(len(waiting)))
            baseline.tell(candidate, evaluator.value(candidate.genotype, candidate.epochs))
            answers += 1


def test_a_second_start_begins_anew(file: Path) -> None:
    evaluator = Toy(CellSpace())
    search = BlackBox(built(file), evaluator.space, evaluator, BUDGET)
    search.run(5)
    assert search.run(3) == run(file, evaluator)


def test_impossible_settings_are_refused_by_name(file: Path) -> None:
    """Every number of the YAML, made impossible."""
    node = yaml.safe_load(file.read_text(encoding="utf-8"))
    numbers = {key: value for key, value in node.items() if isinstance(value, int | float)}
    for key in numbers:
        with pytest.raises(ValueError, match=key):
            build_part(node | {key: -1}, file.stem)


def test_a_budget_below_the_population_is_refused(file: Path) -> None:
    node = yaml.safe_load(file.read_text(encoding="utf-8"))
    for key in {"population", "start"} & node.keys():
        if node[key] is None:  # then it follows the budget
            assert BlackBox(build_part(node, file.stem), CellSpace(), Toy(CellSpace()), 5).run(0).evaluations == 5
            node[key] = 50
        with pytest.raises(ValueError, match=rf"{key}: got {node[key]} with budget.evaluations=5"):
            BlackBox(build_part(node, file.stem), CellSpace(), Toy(CellSpace()), 5).run(0)
