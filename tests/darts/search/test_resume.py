"""Runs that are killed, interrupted, resumed, extended and repeated; `darts derive` on what they leave.

Where a process proves something it is a real one, killed from outside; the rest runs in this process.
"""

from __future__ import annotations

import hashlib
import json
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from darts.cli import main
from tests.quickly import slow_but

# 128 images for the weights: 8 steps an epoch; the run ends in the middle of the third.
TINY = [
    "dataset=fake",
    "network.channels=2",
    "data.batch_size=16",
    "space.num_nodes=3",
    "method=plain",
    "monitor=[]",
    "oracle=none",
]
SEARCH = ["search", *TINY, "budget.steps=20"]
SIGNALS = {"SIGKILL": 0, "SIGINT": 3}  # and the seed of the run that gets it
Refused = Callable[..., str]
Stopped = dict[str, tuple[Path, int, str]]


def result_of(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def repeatable(folder: Path) -> str:
    """result.json without its wall-clock values, as text: floats differ in text if they differ in one bit."""
    return json.dumps({key: value for key, value in result_of(folder).items() if key not in ("seconds", "timing")})


def checkpoint_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    return content["state"]  # type: ignore[no-any-return]


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file with its hash and its time."""
    return {
        path.relative_to(folder).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def copied(folder: Path, target: Path) -> Path:
    """A copy to play with, without what a killed process left of its lock; times of the files are kept."""
    return shutil.copytree(folder, target / "copy of it", ignore=shutil.ignore_patterns(".lock"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, console: list[str]) -> Path:
    """Two equal runs to their end: `whole` in a process of its own, `again` in this one, at once."""
    root = tmp_path_factory.mktemp("runs")
    words = [*SEARCH, "seed=0"]
    process = subprocess.Popen([*console, *words, f"run_dir={root / 'whole'}"], stdout=subprocess.DEVNULL)
    assert main([*words, f"run_dir={root / 'again'}"]) == 0
    assert process.wait(timeout=200) == 0
    return root


def stop(console: list[str], root: Path, signals: dict[str, int]) -> Stopped:
    """Runs that get a signal in the middle of their second epoch: folder, exit status, standard error."""
    processes, waiting = {}, set(signals)
    deadline = time.monotonic() + 250
    for name, seed in signals.items():
        words = [f"seed={seed}", "engine.checkpoint_minutes=0", f"run_dir={root / name}"]
        processes[name] = subprocess.Popen(
            [*console, *SEARCH, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    while waiting:
        for name in list(waiting):
            process, file = processes[name], root / name / "checkpoints" / "last.pt"
            assert process.poll() is None, f"ended before it was stopped: {process.communicate()[1]}"
            assert time.monotonic() < deadline
            step = checkpoint_of(root / name)["step"] if file.exists() else 0
            if step > 8 and step % 8 in (1, 2, 3):
                process.send_signal(getattr(signal, name))
                waiting.remove(name)
        time.sleep(0.02)
    errors = {name: process.communicate(timeout=60)[1] for name, process in processes.items()}
    return {name: (root / name, process.returncode, errors[name]) for name, process in processes.items()}


@pytest.fixture(scope="module")
def stopped(console: list[str], tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    """A run that was killed and one that got Ctrl-C, both in the middle of their second epoch."""
    return stop(console, tmp_path_factory.mktemp("it's stopped (é) = $a, b"), SIGNALS)


def test_one_seed_gives_one_result_in_two_processes(runs: Path) -> None:
    assert repeatable(runs / "whole") == repeatable(runs / "again")
    first, second = ((runs / name / "config.yaml").read_text().replace(name, "") for name in ("whole", "again"))
    assert first == second


@pytest.fixture(scope="module")
def other_seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same search with seed 3."""
    folder = tmp_path_factory.mktemp("other") / "run"
    assert main([*SEARCH, "seed=3", f"run_dir={folder}"]) == 0
    return folder


def test_another_seed_gives_another_result(runs: Path, other_seed: Path) -> None:
    mine, other = result_of(other_seed), result_of(runs / "whole")
    assert (mine["seed"], other["seed"]) == (3, 0)
    assert mine["alphas"] != other["alphas"]
    assert mine["history"][0]["train_loss"] != other["history"][0]["train_loss"]


@pytest.mark.parametrize("name", SIGNALS)
def test_a_stopped_run_goes_on_to_the_result_of_the_uninterrupted_one(
    name: str, stopped: Stopped, runs: Path, other_seed: Path, tmp_path: Path
) -> None:
    folder = copied(stopped[name][0], tmp_path)
    state = checkpoint_of(folder)
    assert 8 < state["step"] < 20
    assert state["step"] % 8, "stopped in the middle of an epoch"
    assert not (folder / "result.json").exists()
    assert main(["search", f"resume={folder}"]) == 0
    assert repeatable(folder) == repeatable(runs / "whole" if SIGNALS[name] == 0 else other_seed)
    assert [record["step"] for record in result_of(folder)["history"]] == [8, 16, 20]


def test_a_killed_process_leaves_nothing_half_written(stopped: Stopped) -> None:
    folder, status, _ = stopped["SIGKILL"]
    assert status == -signal.SIGKILL
    assert checkpoint_of(folder)["planned_steps"] == 20
    left = {path.name for path in (folder / "checkpoints").iterdir()}
    assert len(left - {"last.pt", "last-1.pt"}) <= 1, "at most the temporary file that was being written"


@pytest.mark.parametrize(
    "change", [("seed: 0", "seed: 7"), ("lr: 0.025", "lr: 0.03"), ("batch_size: 16", "batch_size: 8")]
)
def test_a_changed_config_is_refused_and_named(
    change: tuple[str, str], stopped: Stopped, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(stopped["SIGKILL"][0], tmp_path)
    text = (folder / "config.yaml").read_text()
    assert change[0] in text
    (folder / "config.yaml").write_text(text.replace(*change, 1))
    assert main(["search", f"resume={folder}"]) == 2
    errors = capsys.readouterr().err
    (name, before), (_, now) = (part.split(": ") for part in change)
    assert f"{name} is {now}, was {before}" in errors
    (folder / "config.yaml").write_text(text)
    assert main(["search", f"resume={folder}"]) == 0


def test_other_images_are_refused_and_moved_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos/train" / name).mkdir(parents=True)
        for number in range(16):
            pixels = rng.integers(256, size=(4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"photos/train/{name}/{number}.png")
    stopper(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    words = [
        "method=plain", "dataset=image_folder", "dataset.root=photos", "dataset.image_size=4", "data.batch_size=4",
        "network.channels=2", "oracle=none", "budget.steps=6", "plugins=[stopper]", "monitor=stop_at",
        "monitor.stop_at.step=3",
    ]  # fmt: skip
    assert main(["search", *words, "run_dir=run"]) == 130
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # the relative root is that of the first start
    train = tmp_path / "photos/train"
    for source, target in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
        (train / source).rename(train / target)
    assert main(["search", f"resume={tmp_path / 'run'}", "monitor=[]"]) == 2
    assert "data pixels is" in capsys.readouterr().err
    for source, target in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
        (train / source).rename(train / target)
    (tmp_path / "photos").rename(tmp_path / "moved")
    assert main(["search", f"resume={tmp_path / 'run'}", "monitor=[]"]) == 2
    assert f"there is no folder {tmp_path / 'photos/train'}" in capsys.readouterr().err
    assert main(["search", f"resume={tmp_path / 'run'}", "monitor=[]", "dataset.root=../moved"]) == 0
    assert result_of(tmp_path / "run")["steps"] == 6


def check_message(folder: Path, status: int, errors: str) -> None:
    assert status in (130, 143)
    assert "Traceback" not in errors
    command = next(line for line in errors.splitlines() if "resume=" in line)
    words = shlex.split(command[command.index("darts search") :])
    assert words == ["darts", "search", f"resume={folder}"], "the shell reads it as it was meant"
    assert f"step {checkpoint_of(folder)['step']}" in errors


def test_an_interrupted_run_tells_how_to_go_on(stopped: Stopped) -> None:
    check_message(*stopped["SIGINT"])


@pytest.mark.slow
def test_a_terminated_run_may_be_stopped_again_and_again(
    console: list[str], runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, status, errors = stop(console, tmp_path, {"SIGTERM": 0})["SIGTERM"]
    check_message(folder, status, errors)
    words = ["search", f"resume={folder}", "plugins=[stopper]", "monitor=stop_at"]
    stopper(tmp_path, monkeypatch)
    for step in (16, 17, 19):
        assert main([*words, f"monitor.stop_at.step={step}"]) == 130
        assert checkpoint_of(folder)["step"] == step
    assert main(["search", f"resume={folder}"]) == 0
    assert repeatable(folder) == repeatable(runs / "whole")


def stopper(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plug-in whose monitor sends Ctrl-C to its own process at a chosen step."""
    package = folder / "plugins" / "stopper"
    (package / "configs" / "monitor").mkdir(parents=True)
    (package / "configs" / "monitor" / "stop_at.yaml").write_text(
        "# @package monitor.stop_at\n_target_: stopper.StopAt\nstep: 1\n"
    )
    (package / "__init__.py").write_text(
        "import signal\nfrom darts.search.monitors.base import Monitor\n\n\nclass StopAt(Monitor):\n"
        "    def __init__(self, step: int) -> None:\n        self.step = step\n\n"
        "    def on_step(self, search, numbers):\n        if search.state.step == self.step:\n"
        "            signal.raise_signal(signal.SIGINT)\n"
    )
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "stopper", raising=False)


def test_a_finished_run_prints_its_result_and_writes_nothing(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = contents(runs / "whole")
    assert main(["search", f"resume={runs / 'whole'}"]) == 0
    printed = capfd.readouterr().out
    result = result_of(runs / "whole")
    assert result["cell"] in printed
    assert f"{result['params']:,}" in printed
    assert contents(runs / "whole") == before


def test_a_run_folder_holds_what_the_design_promises(runs: Path) -> None:
    folder = runs / "whole"
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml", "result.json", "checkpoints", "tensorboard", "figures",
    }  # fmt: skip
    for name in ("alphas.png", "cell.png"):
        assert (folder / "figures" / name).read_bytes().startswith(b"\x89PNG")
    result = result_of(folder)
    promised = (
        "schema_version kind cell seed planned_steps stopped_by epochs steps images seconds history alphas "
        "supernet_valid_accuracy flops params versions oracle timing"
    )
    assert set(promised.split()) <= result.keys()
    fields = {"epoch", "step", "alphas", "cell", "train_loss", "valid_loss", "valid_accuracy"}
    assert all(fields <= record.keys() for record in result["history"])
    assert (result["kind"], result["stopped_by"]) == ("search", "steps")
    assert result["planned_steps"] == result["steps"] == 20
    assert result["images"] == 20 * 2 * 16, "a first-order step with batch B counts 2 B"
    assert result["seconds"]["total"] > 0
    assert [len(row) for row in result["alphas"]["alpha_EO"]] == [5] * 3
    assert result["cell"] == result["history"][-1]["cell"]
    assert result["versions"]["torch"] == str(torch.__version__)


@pytest.mark.parametrize("foreign", ["seed=0", "weight_step.lr=0.1", "method=darts_v1", "run_dir=elsewhere"])
def test_a_resumed_run_takes_no_other_settings(foreign: str, stopped: Stopped, refused: Refused) -> None:
    folder = stopped["SIGINT"][0]
    before = contents(folder)
    assert foreign.split("=")[0] in refused("search", f"resume={folder}", foreign, "device=cpu")
    assert contents(folder) == before


@pytest.mark.parametrize("words", [["budget.epochs=3"], ["budget.images=672"]])
def test_a_longer_budget_without_extend_is_refused(
    words: list[str], stopped: Stopped, runs: Path, refused: Refused
) -> None:
    for folder in (stopped["SIGINT"][0], runs / "whole"):
        before = contents(folder)
        message = refused("search", f"resume={folder}", *words)
        assert "budget" in message
        assert "extend=true" in message
        assert contents(folder) == before


def test_a_shorter_budget_ends_there(stopped: Stopped, tmp_path: Path) -> None:
    folder = copied(stopped["SIGINT"][0], tmp_path)
    assert main(["search", f"resume={folder}", "budget.steps=18", "device=cpu"]) == 0
    result = result_of(folder)
    assert (result["steps"], result["planned_steps"]) == (18, 18)
    assert [record["step"] for record in result["history"]] == [8, 16, 18]


def test_a_budget_that_is_spent_already_is_refused(stopped: Stopped, refused: Refused) -> None:
    folder = stopped["SIGINT"][0]
    before = contents(folder)
    assert "budget" in refused("search", f"resume={folder}", "budget.steps=5")
    assert contents(folder) == before


def test_an_extended_run_goes_on(runs: Path, tmp_path: Path) -> None:
    folder = copied(runs / "whole", tmp_path)
    before = result_of(folder)
    assert main(["search", f"resume={folder}", "budget.steps=26", "extend=true"]) == 0
    after = result_of(folder)
    assert (after["steps"], after["planned_steps"], after["images"]) == (26, 26, 26 * 2 * 16)
    assert [record["step"] for record in after["history"]] == [8, 16, 24, 26]
    assert after["history"][:2] == before["history"][:2]
    assert [record["epoch"] for record in after["history"]] == [1, 2, 3, 4]
    assert after["seconds"]["total"] > before["seconds"]["total"], "time counts across resumes"
    assert after["alphas"] != before["alphas"]


def test_the_same_words_for_a_longer_budget_once_more_change_nothing(runs: Path, tmp_path: Path) -> None:
    folder = copied(runs / "whole", tmp_path)
    words = ["search", f"resume={folder}", "budget.steps=26", "extend=true"]
    assert main(words) == 0
    before = contents(folder)
    assert main(words) == 0
    assert contents(folder) == before


def test_a_run_that_was_killed_before_the_first_checkpoint_of_its_longer_budget_takes_that(
    runs: Path, tmp_path: Path
) -> None:
    folder, other = copied(runs / "whole", tmp_path), copied(runs / "again", tmp_path / "other")
    (folder / "result.json").unlink()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["budget"] = {"epochs": None, "steps": 26, "images": None, "seconds": None}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["search", f"resume={folder}"]) == 0
    assert main(["search", f"resume={other}", "budget.steps=26", "extend=true"]) == 0
    assert repeatable(folder) == repeatable(other)


def test_what_a_killed_process_had_begun_goes_when_the_run_has_ended(runs: Path, tmp_path: Path) -> None:
    folder = copied(runs / "whole", tmp_path)
    before = contents(folder)
    for name in (".result.json.k2.tmp", "figures/.alphas.png.k2.tmp", "checkpoints/.last-1.pt.tmp", ".lock"):
        (folder / name).write_bytes(b"begun")
    (folder / "figures" / "alphas.png").unlink()
    assert main(["search", f"resume={folder}"]) == 0
    assert contents(folder).keys() == before.keys()


def test_an_extended_run_that_is_interrupted_goes_on_too(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, other = copied(runs / "whole", tmp_path), copied(runs / "again", tmp_path / "other")
    stopper(tmp_path, monkeypatch)
    longer = ["budget.steps=26", "extend=true"]
    words = ["plugins=[stopper]", "monitor=stop_at", "monitor.stop_at.step=23"]
    assert main(["search", f"resume={folder}", *longer, *words]) == 130
    assert main(["search", f"resume={folder}"]) == 0
    assert main(["search", f"resume={other}", *longer]) == 0
    assert result_of(folder)["steps"] == 26
    assert repeatable(folder) == repeatable(other)


@pytest.mark.parametrize("seed", slow_but(range(4), range(16)))
def test_a_flipped_bit_never_leads_to_another_result(seed: int, stopped: Stopped, runs: Path, tmp_path: Path) -> None:
    """Of its copies before checksums, two thirds went on in silence."""
    folder, rng = copied(stopped["SIGKILL"][0], tmp_path), random.Random(seed)
    file = folder / "checkpoints" / "last.pt"
    content = bytearray(file.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    assert main(["search", f"resume={folder}"]) == 0
    assert repeatable(folder) == repeatable(runs / "whole")


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins(
    stopped: Stopped, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(stopped["SIGKILL"][0], tmp_path)
    for inside in ("checkpoints", "tensorboard"):
        shutil.rmtree(folder / inside)
        (folder / inside).mkdir()
    assert main(["search", f"resume={folder}"]) == 0
    assert capsys.readouterr().err.startswith("no checkpoint was written yet: from the beginning\n")
    assert repeatable(folder) == repeatable(runs / "whole")


def with_one_checkpoint(folder: Path, tmp_path: Path) -> Path:
    copy = copied(folder, tmp_path)
    (copy / "checkpoints" / "last-1.pt").unlink(missing_ok=True)
    return copy


def spoil_nothing(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def spoil_truncated(folder: Path) -> None:
    file = folder / "checkpoints" / "last.pt"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    change(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_nothing,
        lambda folder: (folder / "config.yaml").write_text("a: [b"),
        lambda folder: (folder / "config.yaml").write_bytes(b"\xff\xfe\x00"),
        spoil_truncated,
        lambda folder: (folder / "checkpoints" / "last.pt").write_bytes(b""),
        lambda folder: torch.save([1, 2], folder / "checkpoints" / "last.pt"),
        lambda folder: torch.save({"schema_version": 1}, folder / "checkpoints" / "last.pt"),
        lambda folder: torch.save({"schema_version": 99}, folder / "checkpoints" / "last.pt"),
        lambda folder: edit(folder, lambda config: config["space"].update(num_nodes=4)),
        lambda folder: edit(folder, lambda config: config["space"]["operations"].reverse()),
        lambda folder: edit(folder, lambda config: config["network"].update(channels=3)),
    ],
    ids=[
        "empty folder", "broken config", "binary config",
        "truncated", "empty", "a list", "parts missing", "other schema", "other space",
        "other order of operations", "other network",
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_resumed_is_named_and_left_alone(
    spoil: Callable[[Path], Any],
    stopped: Stopped,
    refused: Refused,
    tmp_path: Path,
) -> None:
    folder = with_one_checkpoint(stopped["SIGKILL"][0], tmp_path)
    spoil(folder)
    if (folder / "checkpoints").exists():
        (folder / "checkpoints" / ".last.pt.8z1k.tmp").write_bytes(b"begun when it was killed")
    before = contents(folder) if folder.exists() else None
    message = refused("search", f"resume={folder}")
    assert "resume" in message
    assert str(folder) in message
    assert "\x1b" not in message
    assert before == (contents(folder) if folder.exists() else None)


def test_a_folder_that_cannot_be_written_is_left_alone(stopped: Stopped, console: list[str], tmp_path: Path) -> None:
    """No file may hold a byte in that process, as on a full disk."""
    folder = copied(stopped["SIGKILL"][0], tmp_path)
    before = contents(folder)
    for words in ([], ["extend=true", "budget.steps=99"]):
        done = subprocess.run(
            [*console, "search", f"resume={folder}", *words], capture_output=True, text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"darts: resume: cannot write to {folder} (File too large); ")
        assert "Traceback" not in done.stderr
    assert contents(folder) == before


def test_a_checkpoint_of_another_space_is_recognised(stopped: Stopped, refused: Refused, tmp_path: Path) -> None:
    assert main([*SEARCH, "budget.steps=1", "space.num_nodes=2", f"run_dir={tmp_path / 'small'}"]) == 0
    folder = copied(stopped["SIGKILL"][0], tmp_path)
    shutil.copy(tmp_path / "small" / "checkpoints" / "last.pt", folder / "checkpoints" / "last.pt")
    assert "space" in refused("search", f"resume={folder}").replace(str(tmp_path), "")


def test_a_resume_under_another_thread_count_says_that_it_is_not_exact(
    stopped: Stopped, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = copied(stopped["SIGINT"][0], tmp_path)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        assert main(["search", f"resume={folder}", f"budget.steps={checkpoint_of(folder)['step'] + 1}"]) == 0
    finally:
        torch.set_num_threads(before)
    notes = capfd.readouterr().err
    assert f"threads: {before} -> {before + 1}" in notes
    assert "not the same bits" in notes


@pytest.mark.slow  # test_loop.py has it without the command
def test_a_budget_of_seconds_is_repeated_by_its_planned_steps(tmp_path: Path) -> None:
    words = ["search", *TINY, "space.num_nodes=2", "seed=5"]
    for attempt in range(5):  # a machine that slows down ends at the clock, before the planned steps
        timed = tmp_path / f"timed {attempt}"
        assert main([*words, "budget.seconds=1", f"run_dir={timed}"]) == 0
        result = result_of(timed)
        assert result["stopped_by"] in ("steps", "seconds")
        if result["stopped_by"] == "steps":
            break
    assert result["steps"] == result["planned_steps"] > 3
    assert result["seconds"]["total"] < 2.5
    assert main([*words, f"budget.steps={result['planned_steps']}", f"run_dir={tmp_path / 'counted'}"]) == 0
    assert repeatable(timed) == repeatable(tmp_path / "counted")


# --- derive ---------------------------------------------------------------------------------------------------


def derived(capfd: pytest.CaptureFixture[str], *words: object) -> str:
    """What `darts derive` prints, which must be one line and nothing else."""
    capfd.readouterr()
    assert main(["derive", *map(str, words)]) == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    assert captured.out.count("\n") == 1
    return captured.out.removesuffix("\n")


def best(record: dict[str, Any], allowed: list[int]) -> str:
    """The cell of a record, from the specification: the heaviest allowed operation on each edge."""
    names = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    rows = record["alphas"]["alpha_EO"]
    chosen = iter([names[max(allowed, key=row.__getitem__)] for row in rows])
    return "+".join("|" + "".join(f"{next(chosen)}~{s}|" for s in range(t)) for t in (1, 2))


def test_derive_prints_the_cell_alone(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = runs / "whole"
    before = contents(folder)
    result = result_of(folder)
    assert derived(capfd, f"run={folder}") == result["cell"] == best(result["history"][-1], [0, 1, 2, 3, 4])
    for record in result["history"]:
        assert derived(capfd, f"run={folder}", f"epoch={record['epoch']}") == record["cell"]
    assert contents(folder) == before


@pytest.mark.parametrize("choice", [["discretizer=argmax"], []])
def test_derive_takes_another_discretizer(choice: list[str], runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    record = result_of(runs / "whole")["history"][1]
    words = [f"run={runs / 'whole'}", "epoch=2", *choice, "discretizer.exclude=[none,skip_connect,avg_pool_3x3]"]
    assert derived(capfd, *words) == best(record, [2, 3]) != record["cell"]


def test_derive_works_on_a_run_that_has_not_ended(
    stopped: Stopped, runs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = stopped["SIGKILL"][0]
    before = contents(folder)
    cells = [record["cell"] for record in result_of(runs / "whole")["history"]]
    assert derived(capfd, f"run={folder}") == cells[len(checkpoint_of(folder)["history"]) - 1]
    assert derived(capfd, f"run={folder}", "epoch=1") == cells[0]
    assert contents(folder) == before


PHASES = '''
"""A phase that leaves out the heaviest operations, one that finds a cell of its own, and weights that turn round."""
from darts.search.phases import Bilevel
from supernet.relaxations.base import EdgeWeights
from supernet.relaxations.softmax import Softmax


class Narrow(Bilevel):
    """Closes the heaviest operation of every edge."""

    def enter(self, state):
        rows = state.expected_weights().mean_EO
        state.allow([[bool(weight < max(row)) for weight in row] for row in rows])


class Own(Bilevel):
    """Ends the search with a cell."""

    def exit(self, state):
        return state.space.parse("|avg_pool_3x3~0|+|none~0|avg_pool_3x3~1|")


class Turning(Softmax):
    """In the second half of a search the lightest operation is the heaviest."""

    def expected(self, params, progress):
        sign = 1 if progress < 0.5 else -1
        return super().expected({"alpha_EO": sign * params["alpha_EO"]}, progress)
'''


@pytest.fixture
def phases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words of a search that may name classes of the plug-in `late_phases`, whose alphas hardly move."""
    package = tmp_path / "plugins" / "late_phases"
    (package / "configs" / "relaxation").mkdir(parents=True)
    (package / "configs" / "relaxation" / "turning.yaml").write_text("_target_: late_phases.Turning\n")
    (package / "__init__.py").write_text(PHASES)
    monkeypatch.syspath_prepend(tmp_path / "plugins")
    monkeypatch.delitem(sys.modules, "late_phases", raising=False)
    return [*SEARCH, "plugins=[late_phases]", "arch_step.lr=1e-9", f"run_dir={tmp_path / 'run'}"]


@pytest.mark.parametrize("name", ["Narrow", "Own"])
def test_derive_knows_what_phases_left_and_found(
    name: str, phases: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*phases, "phases.bilevel.share=0", f"+phases.mine={{_target_: late_phases.{name}, share: 1}}"]) == 0
    result = result_of(tmp_path / "run")
    assert result["cell"] != best(result["history"][-1], [0, 1, 2, 3, 4]), "the alphas alone say another cell"
    assert derived(capfd, f"run={tmp_path / 'run'}", "plugins=[late_phases]") == result["cell"]


def test_derive_asks_relaxations_at_the_progress_of_the_search(
    phases: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also where the run has not ended: its first epoch is eight of twenty steps."""
    stopper(tmp_path / "more", monkeypatch)
    words = ["plugins=[late_phases,stopper]", "relaxation=turning"]
    folder = tmp_path / "run"
    assert main([*phases, *words, "monitor=stop_at", "monitor.stop_at.step=9"]) == 130
    record = checkpoint_of(folder)["history"][0]
    assert record["cell"] == best(record, [0, 1, 2, 3, 4])
    assert derived(capfd, f"run={folder}", "plugins=[late_phases,stopper]") == record["cell"]


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("epoch=0", ["epoch", "0", "1", "3"]),
        ("epoch=4", ["epoch", "4", "1", "3"]),
        ("epoch=last", ["epoch", "last"]),
        ("epoch=1.5", ["epoch", "1.5"]),
        ("discretizer=max", ["discretizer", "max", "argmax"]),
        ("discretizer.exclude=[max]", ["discretizer.exclude", "max"]),
    ],
)
def test_derive_says_what_it_cannot_do(word: str, parts: list[str], runs: Path, refused: Refused) -> None:
    choice = ["discretizer=argmax"] if word.startswith("discretizer.") else []
    message = refused("derive", f"run={runs / 'whole'}", *choice, word)
    assert [part for part in parts if part not in message.replace(str(runs), "")] == []


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_nothing,
        shutil.rmtree,
        lambda folder: shutil.rmtree(folder / "checkpoints"),
        spoil_truncated,
        lambda folder: torch.save({"schema_version": 1}, folder / "checkpoints" / "last.pt"),
        lambda folder: (folder / "result.json").write_text("{"),
        lambda folder: (folder / "result.json").write_text("{}"),
        lambda folder: (folder / "result.json").write_text('{"schema_version": 1}'),
    ],
    ids=["empty", "no folder", "no checkpoint", "truncated", "parts missing", "broken", "empty result", "other result"],
)
def test_derive_names_the_option_of_a_folder_that_is_no_run(
    spoil: Callable[[Path], Any], stopped: Stopped, refused: Refused, tmp_path: Path
) -> None:
    folder = with_one_checkpoint(stopped["SIGKILL"][0], tmp_path)
    spoil(folder)
    message = refused("derive", f"run={folder}")
    assert message.startswith("darts: run: "), "the option that was given is run, not resume"
    assert str(folder) in message


def test_a_run_before_its_first_epoch_has_no_cell_yet(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopper(tmp_path, monkeypatch)
    words = ["plugins=[stopper]", "monitor=stop_at", "monitor.stop_at.step=3", f"run_dir={tmp_path / 'run'}"]
    assert main([*SEARCH, *words]) == 130
    message = refused("derive", f"run={tmp_path / 'run'}")
    assert message.startswith("darts: run: ")
    assert "epoch" in message
