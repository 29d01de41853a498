"""`darts retrain` as users run it: from a cell or a run to a judged network, killed and resumed to the same bits."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from darts.cli import main
from darts.run.checkpoint import load_checkpoint
from darts.run.signals import Interrupted
from darts.tasks.datasets.fake import Fake
from darts.training.build import build_retraining
from darts.training.fit import FitState
from darts.training.retraining import Retraining
from supernet.size import NetworkSize
from supernet.spaces.cells import CellSpace
from tests.quickly import slow_but

Run = Callable[..., subprocess.CompletedProcess[str]]
SPACE = CellSpace()
CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
DEAD = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|none~2|"
TINY = ["dataset=fake", "network.channels=4", "network.cells=1", "recipe.epochs=3", "data.batch_size=32"]


def words(*more: str, cell: str = CELL) -> list[str]:
    return ["retrain", f"cell={cell}", *TINY, *more]


def result_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return content


def plain(folder: Path) -> dict[str, Any]:
    return {key: value for key, value in result_of(folder).items() if key not in ("seconds", "timing")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main([*words("recipe.mixup=0.2", "recipe.average=0.9", "data.cutout=2"), f"run_dir={folder}"]) == 0
    return folder


def test_it_says_what_was_trained_and_how_good_it_is(darts: Run) -> None:
    done = darts(*words("recipe.epochs=6", "run_dir=run"))
    assert done.returncode == 0, done.stderr
    lines = {line[:14].strip(): line[14:].strip() for line in done.stdout.splitlines()}
    assert lines["cell"] == CELL
    assert lines["parameters"].endswith("(C=4, N=1, 8x8, 4 classes)")
    assert "(of fake, test images, once)" in lines["test accuracy"]
    assert float(lines["test accuracy"].split("%")[0]) > 60
    assert "class" in lines["worst classes"]
    assert "6 epochs, 48 steps" in lines["time"]
    assert "epoch   6/6  train loss" in done.stderr


@pytest.mark.usefixtures("pictures")
def test_it_leaves_a_result_pictures_and_curves(darts: Run, tmp_path: Path) -> None:
    assert darts(*words("run_dir=run")).returncode == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.yaml", "result.json", "report.html", "checkpoints", "figures", "tensorboard",
    }  # fmt: skip
    for name in ("training.png", "confusion.png", "calibration.png"):
        with Image.open(tmp_path / "run/figures" / name) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 10
    result = result_of(tmp_path / "run")
    assert (result["kind"], result["epochs"], result["steps"], result["images"]) == ("retrain", 3, 24, 768)
    assert [record["epoch"] for record in result["history"]] == [1, 2, 3]
    assert result["history"][0]["train_loss"] > result["history"][-1]["train_loss"]


def test_the_accuracy_is_that_of_the_weights_in_the_checkpoint_on_the_test_images(whole: Path) -> None:
    """By a loop of its own, image by image; every class, and the whole."""
    data = Fake()
    network = SPACE.network(SPACE.parse(CELL), NetworkSize(4, 1, 4, 3, 8))
    averaged = load_checkpoint(whole / "checkpoints" / "last.pt")["state"]["averaged"]
    network.load_state_dict({k.removeprefix("module."): v for k, v in averaged.items() if k.startswith("module.")})
    network.eval()
    train, test = data.load_train(), data.load_test()
    values = train.images_NCHW.double() / 255
    mean, deviation = values.mean(dim=(0, 2, 3)), values.std(dim=(0, 2, 3), correction=0)
    right: dict[int, list[bool]] = {label: [] for label in range(4)}
    for image, label in zip(test.images_NCHW, test.labels_N.tolist(), strict=True):
        inputs = ((image.double() / 255 - mean[:, None, None]) / deviation[:, None, None])[None].float()
        right[label].append(int(network(inputs).argmax()) == label)
    result = result_of(whole)
    assert result["test_accuracy"] == pytest.approx(100 * sum(map(sum, right.values())) / len(test))
    for one, found in zip(result["classes"], right.values(), strict=True):
        assert (one["images"], one["accuracy"]) == (len(found), pytest.approx(100 * sum(found) / len(found)))
    assert sum(map(sum, result["confusion"])) == len(test)


@pytest.mark.parametrize("step", slow_but([13], [1, 8, 13, 24]))
def test_a_stopped_training_goes_on_to_the_same_bits(
    whole: Path, tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(whole / "config.yaml", folder)
    (folder / "checkpoints").mkdir()
    real = Retraining.on_step

    def on_step(self: Retraining, state: FitState, loss: torch.Tensor) -> None:
        self.stop.made = state.step == step
        real(self, state, loss)

    with monkeypatch.context() as patch:
        patch.setattr(Retraining, "on_step", on_step)
        settings = yaml.safe_load((folder / "config.yaml").read_text())
        training = build_retraining(settings, folder)
        if step < 24:
            with pytest.raises(Interrupted):
                training.run()
            assert training.state.step == step
        else:
            training.run()  # all steps are done, and the result is not written yet
    (folder / "figures").mkdir()
    assert main(["retrain", f"resume={folder}"]) == 0
    assert plain(folder) == plain(whole)
    mine, theirs = (load_checkpoint(place / "checkpoints/last.pt")["state"] for place in (folder, whole))
    for name, value in theirs["network"].items():
        assert torch.equal(mine["network"][name], value), name


@pytest.mark.slow
def test_a_kill_costs_what_came_after_the_last_checkpoint(darts: Run, tmp_path: Path, console: list[str]) -> None:
    line = [*words("recipe.epochs=14", "engine.checkpoint_minutes=0"), "engine.threads=1"]
    assert darts(*line, "run_dir=whole").returncode == 0
    process = subprocess.Popen([*console, *line, "run_dir=killed"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "killed/checkpoints/last.pt"
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed/result.json").exists()
    assert darts("retrain", "resume=killed").returncode == 0
    assert plain(tmp_path / "killed") == plain(tmp_path / "whole")


def test_resume_of_a_finished_one_reports_and_completes_it(darts: Run, whole: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "figures" / "confusion.png").unlink()
    before = (run / "result.json").read_bytes()
    done = darts("retrain", f"resume={run}")
    assert done.returncode == 0
    assert CELL in done.stdout
    assert (run / "figures" / "confusion.png").exists()
    assert (run / "result.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["resume=run", "seed=1"], "seed: a resumed training keeps its settings"),
        (["resume=nowhere"], "nowhere is no run folder"),
    ],
)
def test_resume_refuses(darts: Run, whole: Path, tmp_path: Path, change: list[str], message: str) -> None:
    shutil.copytree(whole, tmp_path / "run")
    done = darts("retrain", *change)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_changed_settings_are_refused_by_name(darts: Run, whole: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "result.json").unlink()
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("mixup: 0.2", "mixup: 0.3"))
    done = darts("retrain", f"resume={run}")
    assert done.returncode == 2
    assert "recipe.mixup is 0.3, was 0.2" in done.stderr


def test_the_cell_of_a_search_or_of_a_baseline(darts: Run, tmp_path: Path) -> None:
    tiny = ["method=plain", "dataset=fake", "network.channels=2", "budget.steps=2", "monitor=[]", "oracle=none"]
    assert darts("search", *tiny, "run_dir=search").returncode == 0
    few = ["baseline=random_search", "evaluator=zero_cost", "evaluator.proxy=params", "budget.evaluations=3"]
    assert darts("baseline", *few, "seeds=0-1", "dataset=fake", "oracle=none", "run_dir=baseline").returncode == 0
    best = max((run["trajectory"][-1] for run in result_of(tmp_path / "baseline")["runs"]), key=lambda p: p["signal"])
    for run, cell in (("search", result_of(tmp_path / "search")["cell"]), ("baseline", best["cell"])):
        done = darts("retrain", f"run={run}", *TINY, "recipe.epochs=1", f"run_dir=of_{run}", "force=true")
        assert done.returncode == 0, done.stderr
        assert result_of(tmp_path / f"of_{run}")["cell"] == cell
    both = darts("retrain", "run=search", f"cell={CELL}", *TINY)
    assert (both.returncode, "cell, run: both were given" in both.stderr) == (2, True)


def test_without_test_images_a_tenth_is_held_out(darts: Run, tmp_path: Path) -> None:
    for number in range(40):
        path = tmp_path / "photos" / "train" / ("a" if number % 2 else "b") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (6 * number, 200 * (number % 2), 0)).save(path)
    data = ["dataset=image_folder", "dataset.root=photos", "dataset.image_size=8"]
    tiny = [*TINY[1:-1], "data.batch_size=8", f"cell={CELL}"]
    done = darts("retrain", *data, *tiny, "run_dir=run")
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path / "run")
    assert result["judged_on"] == "images held out (10% of the training images)"
    assert sum(one["images"] for one in result["classes"]) == 4
    assert result["images"] == 3 * (36 // 8) * 8
    none = darts("retrain", *data, *tiny, "data.held_out=0", "run_dir=other")
    assert (none.returncode, "data.held_out: got 0; photos has no test images" in none.stderr) == (2, True)


def test_what_is_held_out_is_watched_and_the_best_epoch_kept(darts: Run, tmp_path: Path) -> None:
    done = darts(*words("data.held_out=0.25", "run_dir=run"))
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path / "run")
    watched = [record["watched"] for record in result["history"]]
    assert result["best_epoch"] == 1 + watched.index(max(watched))
    assert (tmp_path / "run/checkpoints/best.pt").is_file()
    assert result["images"] == 3 * (192 // 32) * 32
    assert "held out" in done.stdout
    assert result["judged_on"] == "test images"


def test_a_cell_that_carries_nothing_is_refused_unless_forced(darts: Run, tmp_path: Path) -> None:
    done = darts(*words("run_dir=run", cell=DEAD))
    assert done.returncode == 2
    assert "nothing of an image reaches its output" in done.stderr
    assert not (tmp_path / "run").exists()
    assert darts(*words("run_dir=run", "force=true", "recipe.epochs=1", cell=DEAD)).returncode == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["cell=|x|"], "cell:"),
        (["cell=null"], "cell: none was given; give cell='...', or run=RUN_DIR of a search"),
        (["network.channels=0"], "network.channels: got 0"),
        (["network.channels=100000000"], "network.channels, cells: got channels=100000000"),
        (["recipe.epochs=0"], "recipe.epochs: got 0"),
        (["recipe.warm_up=9"], "recipe.warm_up: got 9"),
        (["data.batch_size=999"], "data.batch_size: got 999"),
        (["data.held_out=1.5"], "data.held_out: got 1.5"),
        (["data.label_smoothing=2"], "data.label_smoothing: got 2"),
        (["data.cutout=-1"], "data.cutout: got -1"),
        (["seed=-1"], "seed: got -1"),
    ],
)
def test_mistakes_are_named_and_nothing_is_left(darts: Run, tmp_path: Path, more: list[str], message: str) -> None:
    given = {word.partition("=")[0] for word in more}
    kept = [word for word in words("run_dir=run") if word.partition("=")[0] not in given]
    done = darts(*kept, *more)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_training_that_diverges_says_what_to_do_and_does_it(darts: Run, tmp_path: Path) -> None:
    done = darts(*words("recipe.lr=1e30", "run_dir=run"))
    assert done.returncode == 2
    assert "training diverged: the loss is" in done.stderr
    assert "with smaller learning rates: darts retrain resume=run engine.retries=1; or" in done.stderr
    done = darts("retrain", "resume=run", "engine.retries=20", "engine.retry_rate=1e-4")
    assert done.returncode == 0, done.stderr
    back = result_of(tmp_path / "run")["rolled_back"]
    assert [one["rate"] for one in back] == pytest.approx([1e-4 ** (place + 1) for place in range(len(back))])
    assert done.stdout.count("rolled back") == len(back) >= 7
    rates = [record["lr"] for record in result_of(tmp_path / "run")["history"]]
    assert rates[-1] < 1e30 * back[-1]["rate"]
