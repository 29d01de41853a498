"""Finalists wherever they are trained: the same bits, also where workers are killed, and what is refused."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from searching import After, plain

from darts.cli import main
from darts.command.config import compose_config
from darts.run.errors import UserError
from darts.run.signals import Interrupted
from darts.search.build import build_search
from darts.search.finalists import Finalists
from darts.search.loop import Search
from darts.search.short_trainings import ALLOWED, ShortTrainings
from darts.tasks.base import Batch
from darts.tasks.classification import Classification
from darts.tasks.datasets.fake import Fake
from darts.training.short import ShortTraining
from darts.training.workers import Executor
from supernet.spaces.cells import CellSpace
from tests.quickly import slow_but

WORDS = (
    "dataset=fake", "dataset.images=64", "dataset.image_size=4", "data.batch_size=8", "network.channels=2",
    "network.cells=1", "method=plain", "monitor=[]", "oracle=none", "space.num_nodes=2", "phases.bilevel.share=2",
    "phases.finalists.share=18", "phases.finalists.channels=2", "phases.finalists.cells=1",
    "phases.finalists.rungs=[2,6]", "phases.finalists.eta=3", "budget.steps=20",
)  # fmt: skip
CELLS = ["|nor_conv_3x3~0|", "|nor_conv_1x1~0|", "|skip_connect~0|"]
OTHERS = [name for name in ALLOWED if name != "thread"]


def made(*words: str, folder: Path | None = None) -> Search:
    torch.manual_seed(3)
    if folder is not None:
        (folder / "checkpoints").mkdir(exist_ok=True)
    return build_search(compose_config("search", [*WORDS, *words]), folder)


def with_executor(name: str) -> str:
    if name == "ray":
        pytest.importorskip("ray", reason="Ray is an extra")
    return f"phases.finalists.executor={name}"


@pytest.mark.parametrize("name", slow_but(["serial"], OTHERS))
def test_a_search_gives_the_same_bits_by_every_executor_and_goes_on_by_it(name: str, tmp_path: Path) -> None:
    """A round and a half of two rungs: stopped in the second rung of the first, within a group."""
    word = with_executor(name)
    expected = plain(made().run())
    stopped = made(word, folder=tmp_path)
    stopped.monitors = [After(lambda search: setattr(search.stop, "made", search.state.step >= 10))]
    with pytest.raises(Interrupted):
        stopped.run()
    again = made(word, folder=tmp_path)
    again.resume()
    assert again.state.step == 10
    assert plain(again.run()) == expected
    phase = again.schedule.phases["finalists"]
    assert isinstance(phase, Finalists)
    assert name == "serial" or phase.trainings.executor is None, "its workers end with it"


class Course:
    """Steps of a group, with what happens between them."""

    def __init__(self, name: str) -> None:
        self.trainings = ShortTrainings(2, 1, 0.01, 0.05, 2, 2, name)
        self.trainings.begin("a course")
        self.state = made().state
        self.batches = copy.deepcopy(self.state.task.train)

    def step(self, cells: list[str], done: int) -> list[float]:
        return self.trainings.step(self.state, cells, self.batches.next(), done, 8)

    def pid(self, place: int) -> int:
        return self.trainings.workers[place].pid  # type: ignore[attr-defined, no-any-return]


def test_a_worker_that_is_killed_is_replaced_and_its_network_is_where_it_was(caplog: pytest.LogCaptureFixture) -> None:
    """After a checkpoint, between steps and before the states are asked for; the other of the group goes on."""
    expected, course = Course("thread"), Course("process")
    try:
        for done in range(8):
            if done == 4:
                before, now = expected.trainings.state_dict(), course.trainings.state_dict()
                assert same(before, now)
            if done in (2, 5):
                os.kill(course.pid(done % 2), signal.SIGKILL)
            assert course.step(CELLS[:2], done) == expected.step(CELLS[:2], done)
        os.kill(course.pid(1), signal.SIGKILL)
        expected.trainings.end_group(keep=True)
        course.trainings.end_group(keep=True)
        assert caplog.text.count("died: it was killed, or ran out of memory") == 3
        assert set(course.trainings.kept) == set(CELLS[:2])
        assert same(expected.trainings.kept, course.trainings.kept)
        course.trainings.end_group(keep=False)
        assert course.step(CELLS[2:], 0) == expected.step(CELLS[2:], 0)
    finally:
        course.trainings.close()


def test_trainings_draw_nothing_from_the_generator_of_the_search() -> None:
    """Layers of new networks do, in several threads at a time; it would be another one after a kill."""
    course, cells = Course("thread"), [str(cell) for cell in map(CellSpace().genotype, range(3000, 3040))]
    course.trainings = ShortTrainings(2, 1, 0.01, 0.05, 2, 4)
    course.state.space = CellSpace()
    before = torch.get_rng_state()
    for start in range(0, len(cells), 4):
        course.step(cells[start : start + 4], 0)
    assert torch.equal(torch.get_rng_state(), before)


def same(one: Any, other: Any) -> bool:
    """Bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def killed(self: ShortTraining, batch: Batch, rate: float) -> float:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0.0


def test_a_network_whose_workers_always_die_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loss would be one of the machine's; what went before is in the checkpoint."""
    course = Course("process")
    monkeypatch.setattr(ShortTraining, "step", killed)
    try:
        with pytest.raises(UserError, match=r"the worker that trained .* died 2 times \(it was killed.*resume=RUN_DIR"):
            course.step(CELLS[:1], 0)
    finally:
        course.trainings.close()


PLUGIN = """
from torch import nn
from supernet.operations import register_operation

register_operation("nearby", lambda channels, stride, norm: nn.Sequential(
    nn.Conv2d(channels, channels, 3, stride, 1, groups=channels), nn.Tanh(), norm(channels)))
"""


def test_workers_know_the_operations_of_a_plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "near_operations").mkdir()
    (tmp_path / "near_operations/__init__.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["plugins=[near_operations]", "space.operations=[none,skip_connect,nearby]", "budget.steps=6"]
    try:
        found = [plain(made(*words, f"phases.finalists.executor={name}").run()) for name in ("thread", "process")]
    finally:
        sys.modules.pop("near_operations", None)
    assert found[0] == found[1]


def test_a_task_without_data_is_small_and_has_its_loss() -> None:
    task = Classification(Fake(images=4000, num_classes=3), 0.5, 16, 0, label_smoothing=0.2)
    sent = pickle.dumps(task.without_data())
    assert 5 * len(sent) < task.train.images_NCHW.numel()
    there = pickle.loads(sent)
    _, targets = task.train.next()
    outputs = torch.randn(len(targets), 3)
    assert torch.equal(there.loss(outputs, targets), task.loss(outputs, targets))
    assert (there.device, there.network_size(4, 1)) == (task.device, task.network_size(4, 1))


def test_executors_that_there_are_none_of() -> None:
    with pytest.raises(UserError, match=r"finalists\.executor: got 'dask'; allowed are thread, serial, process, ray"):
        made("phases.finalists.executor=dask")


@pytest.mark.parametrize("size", ["8", "auto"])
def test_a_cluster_that_is_not_there_is_said_before_the_search_begins(
    size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No folder is made. Who only reads the run's config, to export its cell, needs none."""
    pytest.importorskip("ray", reason="Ray is an extra")
    words = ["phases.finalists.executor=ray", "ray_address=127.0.0.1:1", "phases.finalists.together=500"]
    assert main(["search", *WORDS, *words, f"data.batch_size={size}", f"run_dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert "phases.finalists: no Ray cluster at 127.0.0.1:1 (" in said
    assert not (tmp_path / "run").exists()
    made(*words)


@pytest.mark.parametrize(
    "words", [["search", *WORDS], ["baseline", "budget.evaluations=3"]], ids=lambda words: words[0]
)
def test_a_cluster_is_not_ignored_where_nothing_runs_on_one(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "ray_address=127.0.0.1:6379", f"run_dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert "ray_address: got 127.0.0.1:6379, where nothing runs on Ray; leave it out, or give executor=ray" in said
    assert not (tmp_path / "run").exists()


def test_workers_begin_where_they_are_first_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A phase without a share, which every method has, starts no process."""
    begun: list[str] = []
    monkeypatch.setattr(Executor, "begin", lambda self: begun.append("a worker"))
    made("phases.finalists.share=0", "phases.finalists.executor=process").run()
    assert begun == []


@pytest.mark.slow
def test_a_cluster_with_too_little_room_is_refused_before_the_search_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An actor without a place would wait for ever."""
    ray = pytest.importorskip("ray", reason="Ray is an extra")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        words = ["phases.finalists.executor=ray", "phases.finalists.together=3"]
        assert main(["search", *WORDS, *words, f"run_dir={tmp_path / 'run'}"]) == 2
    finally:
        ray.shutdown()
    assert "phases.finalists.together: got 3; the cluster has room for 2" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_folder_is_not_believed_about_a_cluster(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What a cluster answers is unpickled: its address counts where it is given, as a plug-in does."""
    folder = tmp_path / "run"
    assert main(["search", *WORDS, f"run_dir={folder}"]) == 0
    (folder / "result.json").unlink()
    config = folder / "config.yaml"
    text = config.read_text()
    assert "\nray_address: null\n" in text
    config.write_text(text.replace("\nray_address: null\n", "\nray_address: 127.0.0.1:1\n"))
    assert main(["search", f"resume={folder}"]) == 0
    assert "the run was made with ray_address=127.0.0.1:1, which a folder cannot bring along" in caplog.text
    (folder / "result.json").unlink()
    assert main(["search", f"resume={folder}", "ray_address=127.0.0.1:1"]) == 2, "there is none, and threads need none"
