"""Candidates trained for real: accuracy, repeatability, divergence, workers that die, runs that are killed."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from darts.baselines.base import Baseline, Candidate
from darts.baselines.local_search import LocalSearch
from darts.baselines.random_search import RandomSearch
from darts.baselines.regularized_evolution import RegularizedEvolution
from darts.baselines.successive_halving import Hyperband
from darts.black_box import Answer, BlackBox
from darts.cli import main
from darts.datasets.base import Dataset
from darts.datasets.fake import Fake
from darts.errors import UserError
from darts.evaluators.base import Evaluator, Outcome
from darts.evaluators.train import TrainEvaluator
from darts.oracle.base import Table
from darts.task import Classification
from darts.training import Diverged, accuracy, initialised, train_cell
from supernet.genotype import Genotype
from supernet.search_space import SearchSpace

SPACE = SearchSpace()
GOOD = SPACE.parse("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|")
DEAD = SPACE.genotype(0)
DATA = Fake(images=96, num_classes=3)


def task() -> Classification:
    return Classification(DATA, 0.5, 16, 0, torch.device("cpu"))


def settings(epochs: int = 6, lr: float = 0.05) -> dict[str, float | int]:
    return {"channels": 4, "cells": 1, "epochs": epochs, "lr": lr, "weight_decay": 5e-4, "seed": 0}


def curve(cell: Genotype = GOOD, **changes: float | int) -> list[float]:
    """Accuracies after every epoch."""
    found: list[float] = []

    def go_on(accuracy: float) -> bool:
        found.append(accuracy)
        return True

    train_cell(cell, task(), **{**settings(), **changes}, go_on=go_on)  # type: ignore[arg-type]
    return found


def test_training_learns_and_repeats() -> None:
    first = curve()
    assert first == curve()
    assert len(first) == 6
    longer = curve(epochs=25)
    assert longer[-1] > 80 > longer[0]
    assert curve(seed=1) != first


def test_a_loss_that_is_no_number_is_a_divergence() -> None:
    with pytest.raises(Diverged, match="at step"):
        curve(lr=1e30)


def test_training_stops_where_it_is_told_to() -> None:
    seen: list[float] = []

    def go_on(accuracy: float) -> bool:
        seen.append(accuracy)
        return len(seen) < 2

    train_cell(GOOD, task(), **settings(), go_on=go_on)  # type: ignore[arg-type]
    assert seen == curve()[:2]


def test_a_child_inherits_all_weights_but_those_of_its_new_edge() -> None:
    """Changed edges keep their own initial weights; everything else is the parent's, statistics included."""
    child = SPACE.parse(str(GOOD).replace("|nor_conv_3x3~1|+", "|nor_conv_1x1~1|+"))
    parent = train_cell(GOOD, task(), **settings(1))  # type: ignore[arg-type]
    begin = train_cell(child, task(), **settings(0), parent=parent).state_dict()  # type: ignore[arg-type]
    fresh = train_cell(child, task(), **settings(0)).state_dict()  # type: ignore[arg-type]
    own = {name for name in begin if ".edges.2." in name}
    assert len([name for name in own if begin[name].ndim == 4]) == 3, "a convolution in each of three cells"
    for name, value in begin.items():
        assert torch.equal(value, fresh[name] if name in own else parent.state_dict()[name])
    assert not torch.equal(begin["classifier.weight"], fresh["classifier.weight"])


def test_a_subset_of_the_weights_part_is_trained_on() -> None:
    """Of every class its share; the architecture's part stays."""
    whole = task()
    half = Classification(DATA, 0.5, 16, 0, torch.device("cpu"), subset=2 / 3)
    assert (whole.sizes, half.sizes) == ((48, 48), (33, 48))
    assert half.train.labels_N.bincount().tolist() == [11, 11, 11]
    rows = {image.numpy().tobytes() for image in whole.train.images_NCHW}
    assert {image.numpy().tobytes() for image in half.train.images_NCHW} < rows
    assert torch.equal(half.valid.images_NCHW, whole.valid.images_NCHW)
    with pytest.raises(ValueError, match="subset: got 0"):
        Classification(DATA, 0.5, 16, 0, torch.device("cpu"), subset=0)


def test_training_is_that_of_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    groups, ends = [], []

    class Noting(torch.optim.SGD):
        def step(self, closure: None = None) -> None:
            groups.append({name: value for name, value in self.param_groups[0].items() if name != "params"})
            super().step()

    monkeypatch.setattr(torch.optim, "SGD", Noting)
    train_cell(GOOD, task(), **settings(), go_on=lambda value: not ends.append(len(groups)))  # type: ignore[arg-type, func-returns-value]
    assert ends == [3, 6, 9, 12, 15, 18]
    for step, group in enumerate(groups):
        assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 5e-4)
        assert group["lr"] == pytest.approx(0.05 * math.cos(math.pi * step / 36) ** 2)


def test_initial_weights_have_the_spread_of_he_et_al() -> None:
    layer = torch.nn.Linear(400, 300)
    initialised(layer, torch.Generator().manual_seed(0))
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / 400), rel=0.02)


def test_the_accuracy_is_that_of_the_trained_network_with_running_statistics() -> None:
    seen: list[float] = []
    uneven = Classification(DATA, 2 / 3, 16, 0, torch.device("cpu"))
    network = train_cell(GOOD, uneven, **settings(2), go_on=lambda value: not seen.append(value))  # type: ignore[arg-type, func-returns-value]
    assert network.training
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert accuracy(network, uneven) == seen[-1]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network.eval()
    correct = sum(int((network(images).argmax(1) == labels).sum()) for images, labels in uneven.evaluation_batches())
    assert seen[-1] == pytest.approx(100 * correct / uneven.sizes[1])


@pytest.fixture
def evaluator() -> Iterator[TrainEvaluator]:
    made = TrainEvaluator([2, 6], channels=4, batch_size=16, lr=0.05)
    made.open(SPACE, None, DATA)
    yield made
    made.close()


def test_a_value_depends_on_the_cell_alone(evaluator: TrainEvaluator) -> None:
    """Not on what was trained before in the same worker, nor on the worker."""
    found = [evaluator.value(cell, epochs) for cell, epochs in ((GOOD, 6), (DEAD, 2), (GOOD, 6), (GOOD, 2))]
    assert found[0] == found[2] == curve()[-1]
    assert found[3] == curve(epochs=2)[-1]
    evaluator.close()
    evaluator.open(SPACE, None, DATA)
    assert evaluator.value(DEAD, 2) == found[1]
    assert evaluator.images(6) == 6 * 48
    assert evaluator.cost(6) == pytest.approx(6 * 48 / (200 * 25_000))


def test_a_worker_that_dies_is_replaced_and_its_candidate_tried_once_more(
    evaluator: TrainEvaluator, caplog: pytest.LogCaptureFixture
) -> None:
    expected = evaluator.value(GOOD, 2)
    (worker,) = evaluator.alive
    os.kill(worker.process.pid or 0, signal.SIGKILL)
    again = evaluator.value(GOOD, 2)
    assert again is not None
    assert "died (exit status -9)" in caplog.text
    assert evaluator.value(GOOD, 2) == expected


def test_a_candidate_that_always_diverges_fails_and_the_search_goes_on() -> None:
    evaluator = TrainEvaluator([1], channels=2, batch_size=16, lr=1e30)
    evaluator.open(SPACE, None, DATA)
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

    def train(job, go_on):  # type: ignore[no-untyped-def]
        go_on(50.0)
        seeds.append(job.settings["seed"])
        return ends[len(seeds) - 1]

    monkeypatch.setattr(evaluator, "_train", train)
    assert evaluator.submit(Candidate(0, GOOD, 2))() == expected
    assert seeds == [0, 1]


def test_a_rule_judges_its_own_length_by_what_was_complete_when_a_training_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluator, said = TrainEvaluator([2, 6], channels=2, batch_size=16, termination="median"), []
    evaluator.open(SPACE, None, DATA)
    evaluator.begin(None)

    def learn(count: int) -> None:
        for number in range(count):
            evaluator.learn(Candidate(number, GOOD, 6), Outcome(50.0, 6, (50.0,) * 6))

    def train(job, go_on):  # type: ignore[no-untyped-def]
        learn(1)
        said.append(go_on(0.0))
        return True

    monkeypatch.setattr(evaluator, "_train", train)
    evaluator.learn(Candidate(9, GOOD, 6), Outcome(50.0, 2, (50.0,) * 2))
    learn(4)
    for epochs in (6, 6, 2):
        evaluator.submit(Candidate(9, GOOD, epochs))()
    assert said == [True, False, True]
    assert evaluator.rules[6].complete == [(50.0,) * 6] * 7
    assert evaluator.report() == {}
    evaluator.begin(None)
    assert (evaluator.rules[6].complete, evaluator.trained) == ([], {})
    evaluator.close()


def test_a_worker_leaves_ctrl_c_to_the_search(evaluator: TrainEvaluator, caplog: pytest.LogCaptureFixture) -> None:
    expected = evaluator.value(GOOD, 2)
    (worker,) = evaluator.alive
    os.kill(worker.process.pid or 0, signal.SIGINT)
    assert evaluator.value(GOOD, 2) == expected
    assert caplog.text == ""


def test_images_of_incomplete_batches_are_not_charged() -> None:
    evaluator = TrainEvaluator([1], batch_size=10)
    evaluator.open(SPACE, None, DATA)
    assert evaluator.images(1) == 40
    evaluator.close()


def test_the_rule_of_the_full_length_is_reported() -> None:
    evaluator = TrainEvaluator([2, 6], channels=2, batch_size=16, termination="curve")
    evaluator.open(SPACE, None, DATA)
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

    def open(self, space: SearchSpace, table: Table | None, dataset: Dataset) -> None:
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


def test_two_workers_train_the_values_that_one_does() -> None:
    found = []
    for workers in (1, 2):
        evaluator = TrainEvaluator([2], channels=2, batch_size=16, workers=workers)
        evaluator.open(SPACE, None, DATA)
        answers: list[Answer] = []
        try:
            BlackBox(RandomSearch(), SPACE, evaluator, 5).run(0, note=answers.append)
            assert len(evaluator.alive) == workers
        finally:
            evaluator.close()
        found.append([answer[:3] for answer in answers])
    assert found[0] == found[1]


def test_a_child_in_a_search_starts_from_its_parents_weights(tmp_path: Path) -> None:
    """The values of an inheriting evolution are those of training by hand, parent by parent."""
    evaluator = TrainEvaluator([1], channels=2, batch_size=16, inherit=True)
    evaluator.open(SPACE, None, DATA)
    answers: list[Answer] = []
    evolution = Parents(3, 2)
    try:
        BlackBox(evolution, SPACE, evaluator, 8).run(0, note=answers.append, folder=tmp_path)
    finally:
        evaluator.close()
    networks = []
    size = {"channels": 2, "cells": 1, "epochs": 1, "lr": 0.1, "weight_decay": 5e-4, "seed": 0}
    for answer, number in zip(answers, evolution.parents, strict=True):
        seen: list[float] = []
        parent = None if number is None else networks[number]
        networks.append(
            train_cell(SPACE.parse(answer.cell), task(), **size, parent=parent, go_on=lambda a, s=seen: not s.append(a))  # type: ignore[arg-type, misc]
        )
        assert answer.outcome.value == seen[-1]
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
    evaluator = TrainEvaluator([1], channels=2, batch_size=16, inherit=True)
    evaluator.open(SPACE, None, DATA)
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
    space = SearchSpace(3)
    evaluator = TrainEvaluator([1], channels=2, batch_size=16, inherit=True)
    evaluator.open(space, None, DATA)
    try:
        search = BlackBox(RegularizedEvolution(3, 2), space, evaluator, 6, isomorphic_cache=True)
        run = search.run(0, folder=tmp_path)
    finally:
        evaluator.close()
    assert (run.evaluations - run.cached, run.failed) == (6, 0)
    assert run.cached > 0
    assert len(list(tmp_path.iterdir())) == 6


def test_stopped_trainings_cost_what_they_took_and_are_no_incumbents(tmp_path: Path) -> None:
    evaluator = TrainEvaluator([6], channels=2, batch_size=16, termination="median")
    evaluator.open(SPACE, None, DATA)
    answers: list[Answer] = []
    try:
        run = BlackBox(RandomSearch(), SPACE, evaluator, 14).run(0, note=answers.append)
        stopped = [answer for answer in answers if len(answer.outcome.curve) < 6]
        assert run.stopped == len(stopped) > 0
        assert run.evaluations > 14, "what is saved is spent on more candidates"
        taken = sum(answer.outcome.epochs for answer in answers)
        assert 14 * 6 - 6 < taken <= 14 * 6
        assert run.images == taken * 48
        assert not {point.cell for point in run.trajectory} & {answer.cell for answer in stopped}
        resumed = BlackBox(RandomSearch(), SPACE, evaluator, 14).run(0, answers[:10])
        assert resumed == run
    finally:
        evaluator.close()


def test_a_killed_run_loses_no_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor the weights that children start from."""
    more = ["baseline.population=3", "baseline.sample=2", "evaluator.inherit=true", "evaluator.workers=2"]
    words = ["baseline", "evaluator=train", "evaluator.lengths=[1,2]", "evaluator.channels=4"]
    words += ["evaluator.batch_size=16", "dataset=fake", "budget.evaluations=6", "seeds=0-1", "oracle=none", *more]
    monkeypatch.chdir(tmp_path)
    assert main([*words, "run_dir=whole"]) == 0
    command = [sys.executable, "-c", "from darts.cli import console; console()", *words, "run_dir=killed"]
    said = tmp_path / "said"
    with said.open("w") as stream:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=stream, stderr=stream)
    answers = tmp_path / "killed/answers-1.jsonl"
    while not (answers.is_file() and answers.read_text().count("\n") >= 3):
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
