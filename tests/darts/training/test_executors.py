"""Executors: the same values wherever a candidate is trained, and what becomes of those whose process is killed."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch

from darts.tasks.classification import Classification
from darts.tasks.datasets.fake import Fake
from darts.training.executors import EXECUTORS, Processes
from darts.training.recipe import Recipe
from darts.training.worker import Job, Site, Trained, Trainer
from darts.training.workers import Died, Executor
from supernet.spaces.cells import CellSpace

SPACE = CellSpace()
CELLS = [SPACE.genotype(index) for index in (3, 77, 15_000, 9_999)]
MAKE_TASK = partial(Classification, Fake(images=96, num_classes=3), 0.5, 16, 0)
LONG = Recipe(100_000, 0.05)


MAKE = partial(Trainer, Site(SPACE, MAKE_TASK, 2, 1, torch.device("cpu"), 1))


@pytest.fixture(
    params=["serial", "process", pytest.param("ray", marks=pytest.mark.slow)],
)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "ray":
        pytest.importorskip("ray", reason="Ray is an extra")
    made = EXECUTORS[request.param](MAKE, 1 if request.param == "serial" else 2, None)
    yield made
    made.close()


def test_every_executor_gives_the_values_of_this_process(executor: Executor) -> None:
    """Of several trainings at a time, each under its own job."""
    jobs = [Job(cell, Recipe(epochs, 0.05), seed) for cell in CELLS for epochs, seed in ((1, 0), (2, 5))]
    found: dict[int, Trained] = {}

    def ask(places: list[int]) -> None:
        for place in places:
            found[place] = executor.run(Trainer.train, jobs[place])

    threads = [threading.Thread(target=ask, args=([*range(start, len(jobs), 2)],)) for start in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    here = MAKE()
    assert [found[place] for place in range(len(jobs))] == [here.train(job) for job in jobs]


def test_a_process_that_is_killed_takes_its_own_candidate_alone() -> None:
    executor = Processes(MAKE, 2, None)
    outcomes: dict[str, Trained | Died] = {}

    def ask(name: str, job: Job) -> None:
        try:
            outcomes[name] = executor.run(Trainer.train, job)
        except Died as problem:
            outcomes[name] = problem

    try:
        victim = threading.Thread(target=ask, args=("victim", Job(CELLS[2], LONG, 0)))
        victim.start()
        while not executor.alive:
            time.sleep(0.01)
        (process,) = executor.alive
        other = threading.Thread(target=ask, args=("other", Job(CELLS[1], Recipe(20, 0.05), 0)))
        other.start()
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGKILL)
        for thread in (victim, other):
            thread.join(60)
        assert isinstance(outcomes["victim"], Died)
        assert outcomes["other"] == MAKE().train(Job(CELLS[1], Recipe(20, 0.05), 0))
        assert executor.run(Trainer.train, Job(CELLS[2], Recipe(1, 0.05), 0)).curve, "another process takes over"
    finally:
        executor.close()


def test_closing_ends_what_is_under_way_at_once() -> None:
    executor = Processes(MAKE, 1, None)
    outcomes: list[Died] = []

    def ask() -> None:
        try:
            executor.run(Trainer.train, Job(CELLS[2], LONG, 0))
        except Died as problem:
            outcomes.append(problem)

    thread = threading.Thread(target=ask)
    thread.start()
    while not executor.alive:
        time.sleep(0.01)
    begun = time.monotonic()
    executor.close()
    thread.join(30)
    assert time.monotonic() - begun < 20
    assert outcomes
    with pytest.raises(Died, match="the run ends"):
        executor.run(Trainer.train, Job(CELLS[2], Recipe(1, 0.05), 0))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # it has just ended
        return b""


@pytest.mark.slow
def test_a_ray_worker_that_is_killed_is_a_death() -> None:
    pytest.importorskip("ray", reason="Ray is an extra")
    executor = EXECUTORS["ray"](MAKE, 1, None)
    outcomes: list[Exception | Trained] = []

    def training() -> list[int]:
        return [
            int(file.parent.name) for file in Path("/proc").glob("[0-9]*/cmdline") if b"ray::_Here.call" in _read(file)
        ]

    def ask() -> None:
        try:
            outcomes.append(executor.run(Trainer.train, Job(CELLS[2], LONG, 0)))
        except Died as problem:
            outcomes.append(problem)

    try:
        thread = threading.Thread(target=ask)
        thread.start()
        until = time.monotonic() + 120
        while not (found := training()):
            assert time.monotonic() < until, "no worker began"
            time.sleep(0.1)
        os.kill(found[0], signal.SIGKILL)
        thread.join(60)
        assert len(outcomes) == 1
        assert isinstance(outcomes[0], Died)
    finally:
        executor.close()


SEARCH = """
import sys, time
sys.path.insert(0, {folder!r})
from test_executors import CELLS, LONG, MAKE, Job, Processes, Trainer
import threading
executor = Processes(MAKE, 1, None)
threading.Thread(target=executor.run, args=(Trainer.train, Job(CELLS[2], LONG, 0)), daemon=True).start()
while not executor.alive:
    time.sleep(0.01)
print(next(iter(executor.alive)).pid, flush=True)
time.sleep(100)
"""


@pytest.mark.slow
def test_a_search_that_is_killed_leaves_no_process_behind() -> None:
    script = SEARCH.format(folder=str(Path(__file__).parent))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as search:
        assert search.stdout is not None
        worker = Path("/proc") / search.stdout.readline().strip()
        assert worker.is_dir()
        search.kill()
    deadline = time.monotonic() + 20
    while worker.is_dir() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not worker.is_dir()


def test_a_worker_ends_once_whoever_wants_it_to() -> None:
    """A run that closes while a thread finds out that its worker died: a pool closes badly twice at a time."""
    executor = Processes(MAKE, 1)
    worker, at_once, failed = executor.begin(), threading.Barrier(8), list[BaseException]()

    def end() -> None:
        at_once.wait()
        try:
            worker.end()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=end) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with pytest.raises(Died, match="it has ended"):
        worker.call(Trainer.train, Job(CELLS[2], Recipe(1, 0.05), 0))


@pytest.mark.slow
def test_more_trainings_than_a_cluster_has_room_for_wait_for_each_other() -> None:
    ray = pytest.importorskip("ray", reason="Ray is an extra")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    executor = EXECUTORS["ray"](MAKE, 3)
    try:
        jobs = [Job(cell, Recipe(1, 0.05), 0) for cell in CELLS]
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(lambda job: executor.run(Trainer.train, job), jobs))
        assert (executor.places, len(executor.alive)) == (1, 1)
    finally:
        executor.close()
        ray.shutdown()
    here = MAKE()
    assert found == [here.train(job) for job in jobs]


def test_without_ray_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"executor: got ray, .* not installed; pip install 'darts-supernet\[ray\]'"):
        EXECUTORS["ray"].reach(None)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_without_a_cluster_is_refused(address: str) -> None:
    pytest.importorskip("ray", reason="Ray is an extra")
    with pytest.raises(ValueError, match=f"no Ray cluster at {address} "):
        EXECUTORS["ray"].reach(address)
