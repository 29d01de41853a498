"""Candidates trained for real: values, divergence, workers that die, rules that stop, runs that are killed."""

from __future__ import annotations

import ast
import csv
import json
import os
import pickle
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from darts.blackbox.evaluators.base import Context, Evaluator, Outcome
from darts.blackbox.evaluators.train import TrainEvaluator
from darts.blackbox.loop import Answer, BlackBox
from darts.blackbox.methods.base import Baseline, Candidate
from darts.blackbox.methods.local_search import LocalSearch
from darts.blackbox.methods.random_search import RandomSearch
from darts.blackbox.methods.regularized_evolution import RegularizedEvolution
from darts.blackbox.methods.successive_halving import Hyperband
from darts.cli import main
from darts.run.errors import UserError
from darts.run.seeding import make_generator
from darts.tasks.classification import Classification
from darts.tasks.datasets.fake import Fake
from darts.training.executors import Processes
from darts.training.fit import FitMonitor, FitState, evaluate, fit, initialised
from darts.training.recipe import Recipe
from darts.training.worker import Job, Trained
from darts.training.workers import Died
from supernet.discrete_network import DiscreteNetwork
from supernet.genotype import Genotype
from supernet.spaces.cells import CellSpace

SPACE = CellSpace()
GOOD = SPACE.parse("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|")
DEAD = SPACE.genotype(0)
MAKE_TASK = partial(Classification, Fake(images=96, num_classes=3))
ROOT = Path(__file__).parents[3]


def opened(evaluator: TrainEvaluator, space: CellSpace = SPACE, **others: Any) -> TrainEvaluator:
    evaluator.open(Context(space, None, MAKE_TASK, **{"device": torch.device("cpu"), **others}))
    return evaluator


class Curve(FitMonitor):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_epoch(self, state: FitState) -> bool:
        self.values.append(evaluate(state.network, state.task))
        return True


def trained(
    cell: Genotype, epochs: int, channels: int = 4, lr: float = 0.05, parent: nn.Module | None = None
) -> tuple[DiscreteNetwork, list[float]]:
    """A cell's network and its curve, by hand."""
    task, curve = MAKE_TASK(split=0.5, batch_size=16, seed=0), Curve()
    network = SPACE.network(cell, task.network_size(channels, 1))
    initialised(network, make_generator(0, "initial weights"))
    if parent is not None:
        network.inherit(parent)  # type: ignore[arg-type]
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fit(network, task, Recipe(epochs, lr, weight_decay=5e-4), monitors=[curve])
    return network, curve.values


@pytest.fixture
def evaluator() -> Iterator[TrainEvaluator]:
    made = opened(TrainEvaluator([2, 6], channels=4, batch_size=16, lr=0.05))
    yield made
    made.close()


@pytest.mark.slow
def test_a_value_depends_on_the_cell_alone(evaluator: TrainEvaluator) -> None:
    """Not on what was trained before in the same worker, nor on the worker."""
    found = [evaluator.value(cell, epochs) for cell, epochs in ((GOOD, 6), (DEAD, 2), (GOOD, 6), (GOOD, 2))]
    assert found[0] == found[2] == trained(GOOD, 6)[1][-1]
    assert found[3] == trained(GOOD, 2)[1][-1]
    assert found[1] == trained(DEAD, 2)[1][-1]
    evaluator.close()
    opened(evaluator)
    assert evaluator.value(DEAD, 2) == found[1]
    assert evaluator.images(6) == 6 * 48
    assert evaluator.cost(6) == pytest.approx(6 * 48 / (200 * 25_000))


def test_how_to_train_is_left_to_the_one_loop_that_fits(
    evaluator: TrainEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evaluator hands over a recipe of its numbers; neither it nor its worker has optimizers or schedules."""
    jobs: list[Job] = []

    def train(function: object, job: Job) -> Trained:
        jobs.append(job)
        return Trained((50.0,))

    monkeypatch.setattr(evaluator.place, "run", train)
    evaluator.submit(Candidate(4, GOOD, 6))()
    plain = opened(TrainEvaluator([3], batch_size=16, lr=0.3, weight_decay=0.01, seed=5))
    monkeypatch.setattr(plain.place, "run", train)
    plain.submit(Candidate(0, DEAD, 3))()
    plain.close()
    assert jobs == [
        Job(GOOD, Recipe(6, 0.05, weight_decay=5e-4), 0),
        Job(DEAD, Recipe(3, 0.3, weight_decay=0.01), 5),
    ]
    for file in ("blackbox/evaluators/train.py", "training/worker.py"):
        tree = ast.parse((ROOT / "darts" / file).read_text(encoding="utf-8"))
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert {"Recipe"} <= names
        assert not names & {"optim", "SGD", "optimizer", "backward", "step", "cosine", "learning_rate"}


def test_workers_get_task_device_and_plug_ins_of_the_run() -> None:
    """The device `meta` stands for one that this machine may lack; the task is made here once, on the CPU."""
    made = []

    def make_task(**options: Any) -> Classification:
        made.append(options)
        return MAKE_TASK(**options)

    evaluator = TrainEvaluator([1], channels=2, batch_size=16, split=2 / 3, subset=0.5, seed=4)
    evaluator.open(Context(SPACE, None, make_task, torch.device("meta"), ("theirs",)))
    where = evaluator.site
    assert (where.space, where.device) == (SPACE, torch.device("meta"))
    task = where.task(device=where.device)
    assert task.device == task.train.next()[0].device == torch.device("meta")
    told = {"split": 2 / 3, "batch_size": 16, "seed": 4, "subset": 0.5}
    assert made == [{**told, "device": torch.device("cpu")}, {**told, "device": torch.device("meta")}]
    assert isinstance(evaluator.place, Processes)
    assert evaluator.place.alive == set()
    with pytest.raises(ModuleNotFoundError, match="theirs"):
        evaluator.place.make()
    evaluator.close()


def process_of(evaluator: TrainEvaluator) -> int:
    assert isinstance(evaluator.place, Processes)
    (process,) = evaluator.place.alive
    return process.pid


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_its_candidate_tried_as_it_was(
    evaluator: TrainEvaluator, caplog: pytest.LogCaptureFixture
) -> None:
    """In the middle of a training, and between two."""
    expected = evaluator.value(GOOD, 6)
    pending = evaluator.submit(Candidate(1, GOOD, 6))
    time.sleep(0.02)
    os.kill(process_of(evaluator), signal.SIGKILL)
    assert pending().value == expected
    if "died: it was killed, or ran out of memory" in caplog.text:
        assert pending().epochs == 6, "what was lost is not charged"
    os.kill(process_of(evaluator), signal.SIGKILL)
    assert evaluator.value(GOOD, 6) == expected
    assert "died: it was killed, or ran out of memory" in caplog.text


def test_a_candidate_whose_processes_are_always_killed_fails(
    evaluator: TrainEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    def killed(function: object, job: Job) -> Trained:
        seeds.append(job.seed)
        raise Died("it was killed")

    monkeypatch.setattr(evaluator.place, "run", killed)
    assert evaluator.submit(Candidate(0, GOOD, 2))() == Outcome(None, 0)
    assert seeds == [0, 0]


def test_a_candidate_that_always_diverges_fails_and_the_search_goes_on() -> None:
    evaluator = opened(TrainEvaluator([1], channels=2, batch_size=16, lr=1e30))
    try:
        run = BlackBox(RandomSearch(), SPACE, evaluator, 3).run(0)
    finally:
        evaluator.close()
    assert (run.evaluations, run.failed, run.trajectory) == (3, 3, [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lengths": []}, "lengths: got"),
        ({"lengths": [4, 2]}, "ascending"),
        ({"lengths": [1], "lr": 0.0}, "lr, weight_decay: got 0.0"),
        ({"lengths": [1], "channels": 0}, "channels: got 0"),
        ({"lengths": [1], "workers": 0}, "workers: got 0"),
        ({"lengths": [1], "ahead": -1}, "ahead: got -1"),
        ({"lengths": [1], "executor": "dask"}, "executor: got 'dask'; allowed are serial, process, ray"),
        ({"lengths": [1], "executor": "serial", "workers": 2}, "workers: got 2 with executor=serial"),
        ({"lengths": [1], "termination": "soon"}, "termination: got 'soon'; allowed are median, curve, or null"),
    ],
)
def test_settings_that_cannot_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainEvaluator(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ends", "expected"),
    [([False, True], Outcome(50.0, 2, (50.0,))), ([False, False, True], Outcome(None, 2))],
)
def test_a_second_attempt_is_another_one_and_the_last(
    evaluator: TrainEvaluator, monkeypatch: pytest.MonkeyPatch, ends: list[bool], expected: Outcome
) -> None:
    """What the first one took is charged, its curve forgotten."""
    seeds = []

    def train(function: object, job: Job) -> Trained:
        seeds.append(job.seed)
        return Trained((50.0,), diverged=not ends[len(seeds) - 1])

    monkeypatch.setattr(evaluator.place, "run", train)
    assert evaluator.submit(Candidate(0, GOOD, 2))() == expected
    assert seeds == [0, 1]


def test_a_rule_judges_its_own_length_by_what_was_complete_when_a_training_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluator, said = opened(TrainEvaluator([2, 6], channels=2, batch_size=16, termination="median")), []
    evaluator.begin(None)

    def learn(count: int) -> None:
        for number in range(count):
            evaluator.learn(Candidate(number, GOOD, 6), Outcome(50.0, 6, (50.0,) * 6))

    def train(function: object, job: Job) -> Trained:
        learn(1)
        assert job.stops is not None
        said.append(pickle.loads(pickle.dumps(job.stops))([0.0]))  # as it gets to a worker
        return Trained((0.0,))

    monkeypatch.setattr(evaluator.place, "run", train)
    evaluator.learn(Candidate(9, GOOD, 6), Outcome(50.0, 2, (50.0,) * 2))
    learn(4)
    for epochs in (6, 6, 2):
        evaluator.submit(Candidate(9, GOOD, epochs))()
    assert said == [False, True, False]
    assert evaluator.rules[6].complete == [(50.0,) * 6] * 7
    assert evaluator.report() == {}
    evaluator.begin(None)
    assert (evaluator.rules[6].complete, evaluator.trained) == ([], {})
    evaluator.close()


def test_a_worker_leaves_ctrl_c_to_the_search(evaluator: TrainEvaluator, caplog: pytest.LogCaptureFixture) -> None:
    expected = evaluator.value(GOOD, 2)
    os.kill(process_of(evaluator), signal.SIGINT)
    assert evaluator.value(GOOD, 2) == expected
    assert caplog.text == ""


def test_images_of_incomplete_batches_are_not_charged() -> None:
    evaluator = opened(TrainEvaluator([1], batch_size=10))
    assert evaluator.images(1) == 40
    evaluator.close()


def test_the_rule_of_the_full_length_is_reported() -> None:
    evaluator = opened(TrainEvaluator([2, 6], channels=2, batch_size=16, termination="curve"))
    evaluator.begin(None)
    for number in range(5):
        evaluator.learn(Candidate(number, GOOD, 6), Outcome(50.0, 6, (50.0,) * 6))
    assert evaluator.report()["extrapolated"] == 5
    evaluator.close()


class Slow(Evaluator):
    """Values that are ready in another order than they were asked for."""

    def __init__(self, workers: int, delays: bool) -> None:
        super().__init__(None)
        self.fidelities, self.workers, self.delays = (2, 4), workers, delays
        self.under_way = self.most = 0
        self.pool = ThreadPoolExecutor(workers)

    def open(self, context: Context) -> None:
        return None

    def value(self, genotype: Genotype, epochs: int) -> float:
        if self.delays:
            time.sleep(0.02 * random.Random(f"{genotype}/time").random())
        return random.Random(f"{genotype}/{epochs}").random()

    def submit(self, candidate: Candidate) -> Callable[[], Outcome]:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        future = self.pool.submit(super().submit, candidate)
        return lambda: future.result()()

    def learn(self, candidate: Candidate, outcome: Outcome) -> None:
        self.under_way -= 1

    def images(self, epochs: int) -> int:
        return epochs

    def describe(self) -> dict[str, object]:
        return {"name": "slow", "signal": "slow"}


@pytest.mark.parametrize("method", [RegularizedEvolution(5, 3), LocalSearch(), Hyperband(2.0, 1)])
def test_several_workers_give_the_same_run_whatever_is_ready_first(method: Baseline) -> None:
    slow, quick = Slow(4, delays=True), Slow(4, delays=False)
    found = [BlackBox(method, SPACE, evaluator, 20).run(1) for evaluator in (slow, quick)]
    assert found[0] == found[1]
    assert slow.most == 4
    answers: list[Answer] = []
    BlackBox(method, SPACE, Slow(4, delays=True), 20).run(1, note=answers.append)
    resumed = BlackBox(method, SPACE, Slow(4, delays=True), 20).run(1, answers[:9])
    assert resumed == found[0]
    assert sum(answer.epochs for answer in answers) <= 20 * 4


@pytest.mark.parametrize(("ahead", "meanwhile"), [(0, 1), (3, 4)])
@pytest.mark.parametrize(
    ("method", "place"), [(RandomSearch, 0), (lambda: RegularizedEvolution(3, 2), 7)], ids=["random", "evolution"]
)
def test_candidates_ahead_keep_a_worker_busy_while_one_takes_its_time(
    method: Callable[[], Baseline], place: int, ahead: int, meanwhile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are told in order of asking, whatever is ready first."""

    def asked(waits: str | None) -> tuple[list[str], list[str]]:
        """What was trained, as it became ready, and as it was told; one candidate waits until others are ready."""
        evaluator = opened(TrainEvaluator([1], channels=2, batch_size=16, workers=2, ahead=ahead))
        ready: list[str] = []

        def run(function: object, job: Job) -> Trained:
            name, deadline = str(job.genotype), time.monotonic() + 20
            while name == waits and len(ready) < place + meanwhile and time.monotonic() < deadline:
                time.sleep(0.001)
            if name == waits:
                time.sleep(0.2)  # time for one that should not be there
            ready.append(name)
            return Trained((random.Random(name).random(),))

        monkeypatch.setattr(evaluator.place, "run", run)
        answers: list[Answer] = []
        try:
            BlackBox(method(), SPACE, evaluator, 20).run(0, note=answers.append)
        finally:
            evaluator.close()
        return ready, [answer.cell for answer in answers]

    _, told = asked(None)
    if method is RandomSearch:
        assert told == [str(cell) for cell in asked_by_chance(20)]
    ready, same = asked(told[place])
    assert ready.index(told[place]) == place + meanwhile
    assert same == told


def asked_by_chance(count: int) -> list[Genotype]:
    """What a random search of seed 0 asks for."""
    method = RandomSearch()
    method.start(SPACE, random.Random("0/RandomSearch"), count, (1,), 1)
    asked = [method.ask() for _ in range(count)]
    return [found[0].genotype for found in asked if found]


@pytest.mark.slow
def test_two_workers_train_the_values_that_one_does() -> None:
    found = []
    for workers in (1, 2):
        evaluator = opened(TrainEvaluator([2], channels=2, batch_size=16, workers=workers))
        answers: list[Answer] = []
        try:
            BlackBox(RandomSearch(), SPACE, evaluator, 5).run(0, note=answers.append)
            assert len(evaluator.place.alive) == workers
        finally:
            evaluator.close()
        found.append([answer[:3] for answer in answers])
    assert found[0] == found[1]


def test_a_child_in_a_search_starts_from_its_parents_weights(tmp_path: Path) -> None:
    """The values of an inheriting evolution are those of training by hand, parent by parent."""
    evaluator = opened(TrainEvaluator([1], channels=2, batch_size=16, inherit=True))
    answers: list[Answer] = []
    evolution = Parents(3, 2)
    try:
        BlackBox(evolution, SPACE, evaluator, 8).run(0, note=answers.append, folder=tmp_path)
    finally:
        evaluator.close()
    networks = []
    for answer, number in zip(answers, evolution.parents, strict=True):
        parent = None if number is None else networks[number]
        network, (value,) = trained(SPACE.parse(answer.cell), 1, channels=2, lr=0.1, parent=parent)
        networks.append(network)
        assert answer.outcome.value == value
    assert [number is None for number in evolution.parents] == [True] * 3 + [False] * 5


class Parents(RegularizedEvolution):
    """Notes which candidate each one is a child of."""

    def setup(self) -> None:
        super().setup()
        self.parents: list[int | None] = []

    def observe(self, candidate: Candidate, value: float) -> None:
        self.parents.append(candidate.parent)
        super().observe(candidate, value)


def test_weights_that_are_gone_are_said_so(tmp_path: Path) -> None:
    evaluator = opened(TrainEvaluator([1], channels=2, batch_size=16, inherit=True))
    answers: list[Answer] = []
    try:
        BlackBox(RegularizedEvolution(2, 2), SPACE, evaluator, 4).run(0, note=answers.append, folder=tmp_path)
        for file in tmp_path.iterdir():
            file.unlink()
        with pytest.raises(UserError, match=r"the weights of candidate \d, is gone"):
            BlackBox(RegularizedEvolution(2, 2), SPACE, evaluator, 4).run(0, answers[:3], folder=tmp_path)
    finally:
        evaluator.close()


def test_children_of_cells_that_the_cache_answered_start_anew(tmp_path: Path) -> None:
    """Such a parent was never trained, so there are no weights of it. Cells of 3 nodes are often isomorphic."""
    space = CellSpace(3)
    evaluator = opened(TrainEvaluator([1], channels=2, batch_size=16, inherit=True), space)
    try:
        search = BlackBox(RegularizedEvolution(3, 2), space, evaluator, 6, isomorphic_cache=True)
        run = search.run(0, folder=tmp_path)
    finally:
        evaluator.close()
    assert (run.evaluations - run.cached, run.failed) == (6, 0)
    assert run.cached > 0
    assert len(list(tmp_path.iterdir())) == 6


def test_stopped_trainings_cost_what_they_took_and_are_no_incumbents(tmp_path: Path) -> None:
    evaluator = opened(TrainEvaluator([4], channels=2, batch_size=16, termination="median"))
    answers: list[Answer] = []
    try:
        run = BlackBox(RandomSearch(), SPACE, evaluator, 10).run(0, note=answers.append)
        stopped = [answer for answer in answers if len(answer.outcome.curve) < 4]
        assert run.stopped == len(stopped) > 0
        assert run.evaluations > 10, "what is saved is spent on more candidates"
        taken = sum(answer.outcome.epochs for answer in answers)
        assert 10 * 4 - 4 < taken <= 10 * 4
        assert run.images == taken * 48
        assert not {point.cell for point in run.trajectory} & {answer.cell for answer in stopped}
        resumed = BlackBox(RandomSearch(), SPACE, evaluator, 10).run(0, answers[:7])
        assert resumed == run
    finally:
        evaluator.close()


@pytest.mark.slow
def test_a_killed_run_loses_no_answer(console: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor the weights that children start from."""
    more = ["baseline.population=3", "baseline.sample=2", "evaluator.inherit=true", "evaluator.workers=2"]
    words = ["baseline", "evaluator=train", "evaluator.lengths=[1,2]", "evaluator.channels=2"]
    words += [
        "evaluator.batch_size=32",
        "dataset=fake",
        "dataset.images=128",
        "budget.evaluations=4",
        "seeds=0-1",
        "oracle=none",
        *more,
    ]
    monkeypatch.chdir(tmp_path)
    assert main([*words, "run_dir=whole"]) == 0
    command = [*console, *words, "run_dir=killed"]
    said = tmp_path / "said"
    with said.open("w") as stream:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=stream, stderr=stream)
    answers = tmp_path / "killed/answers-1.jsonl"
    while not (answers.is_file() and answers.read_text().count("\n") >= 2):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = answers.read_text()
    answers.write_text(kept + '["|nor_')  # torn by the kill
    assert main(["baseline", "resume=killed"]) == 0
    assert "Traceback" not in said.read_text(), "orphaned workers leave in silence"
    first, second = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "killed"))
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
    assert first["evaluator"]["signal"] == "fake, 2 epochs"
    assert first["truth"] is None
    left = sorted(path.name for path in (tmp_path / "killed").iterdir())
    assert left == ["config.yaml", "evaluations.csv", "figures", "result.json"]
    tables = [
        list(csv.DictReader((tmp_path / name / "evaluations.csv").read_text().splitlines()))
        for name in ("whole", "killed")
    ]
    assert [{**row, "seconds": ""} for row in tables[0]] == [{**row, "seconds": ""} for row in tables[1]]
    assert len(tables[0]) == sum(run["evaluations"] for run in first["runs"])
    for run in first["runs"]:
        mine = [float(row["value"]) for row in tables[0] if int(row["seed"]) == run["seed"] and row["epochs"] == "2"]
        assert run["trajectory"][-1]["signal"] == max(mine)
