"""`darts data`, and folders that come split."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from darts.run.errors import UserError
from darts.tasks.classification import Classification
from darts.tasks.datasets.base import Smaller
from darts.tasks.datasets.image_folder import ImageFolder

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Reds and blues: 6 and 4 to train, 2 and 2 to validate, of 20x10 pixels and one of 40x30."""
    folder = tmp_path / "photos"
    for part, counts in {"train": (6, 4), "val": (2, 2)}.items():
        for name, colour, count in zip(("red", "blue"), ((200, 0, 0), (0, 0, 200)), counts, strict=True):
            for number in range(count):
                path = folder / part / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                size = (40, 30) if (part, name, number) == ("train", "red", 0) else (20, 10)
                Image.new("RGB", size, (colour[0], number, colour[2])).save(path)
    return folder


def lines_of(printed: str) -> dict[str, str]:
    """Name to value."""
    return dict(re.findall(r"^ *(\S.*?) {2,}(\S.*)$", printed, re.MULTILINE))


def test_it_says_what_is_in_a_folder(darts: Run, photos: Path, tmp_path: Path) -> None:
    (photos / "train" / "red" / "Thumbs.db").write_bytes(b"")
    done = darts("data", "dataset=image_folder", f"dataset.root={photos}", "dataset.image_size=8", "run_dir=out")
    assert done.returncode == 0, done.stderr
    lines = lines_of(done.stdout)
    assert lines["train"] == "2 classes, 10 images (smallest class 4)"
    assert lines["val"] == "2 classes, 4 images (smallest class 2)"
    assert (lines["red"], lines["blue"]) == ("6 train, 2 val", "4 train, 2 val")
    assert lines["image"] == "8x8 pixels, 3 channels, made of 20x10 to 40x30, median 20x10"
    mean = [0.6 * 200 / 255, (15 + 6) / 10 / 255, 0.4 * 200 / 255]
    assert lines["mean"].startswith(" ".join(f"{value:.3f}" for value in mean))
    assert lines["left out"] == "1 files: see out/data.txt"
    assert "Thumbs.db" in (tmp_path / "out" / "data.txt").read_text()
    assert (tmp_path / lines["picture"]).is_file()


@pytest.mark.usefixtures("pictures")
def test_the_picture_shows_images_of_every_class(darts: Run, photos: Path, tmp_path: Path) -> None:
    darts("data", "dataset=image_folder", f"dataset.root={photos}", "dataset.image_size=8", "run_dir=out")
    with Image.open(tmp_path / "out/figures/classes.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}
    assert {(200, number, 0) for number in range(6)} | {(0, number, 200) for number in range(4)} <= colours


def test_it_shows_what_a_search_sees(darts: Run, photos: Path) -> None:
    data = ["data", "dataset=image_folder", f"dataset.root={photos}"]
    assert "4x4 pixels" in darts(*data, "data.resolution=4", "run_dir=out").stdout
    wrong = darts(*data, "data.resolution=none", "run_dir=other")
    assert (wrong.returncode, "data.resolution: got 'none'" in wrong.stderr) == (2, True)


def test_without_originals_of_other_sizes_none_are_named(darts: Run) -> None:
    done = darts("data", "dataset=fake", "run_dir=out")
    assert done.returncode == 0, done.stderr
    assert "made of" not in done.stdout


def test_a_validation_folder_is_the_architecture_s_part(photos: Path) -> None:
    task = Classification(ImageFolder(str(photos), image_size=8), split=0.9, batch_size=2)
    assert task.sizes == (10, 4)
    assert task.settings == {"split": "given"}
    assert torch.bincount(task.train.labels_N).tolist() == [4, 6]
    assert torch.bincount(task.valid.labels_N).tolist() == [2, 2]
    assert "14 images" in task.about
    assert "4 of them, the validation folder, for the architecture" in task.about
    assert Classification(Smaller(ImageFolder(str(photos), image_size=8), 4), batch_size=2).sizes == (10, 4)
    whole = ImageFolder(str(photos), image_size=8)
    assert torch.equal(task.valid.images_NCHW, whole.load_valid().images_NCHW)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_other_names_of_that_folder(photos: Path, name: str) -> None:
    (photos / "val").rename(photos / name)
    assert Classification(ImageFolder(str(photos), image_size=8), batch_size=2).sizes == (10, 4)


def test_without_one_the_images_are_split(photos: Path) -> None:
    for file in sorted((photos / "val").rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    (photos / "val").rmdir()
    task = Classification(ImageFolder(str(photos), image_size=8), batch_size=2)
    assert (task.sizes, task.settings) == ((5, 5), {"split": 0.5})


def test_folders_that_contradict_each_other(photos: Path) -> None:
    (photos / "val" / "green").mkdir()
    with pytest.raises(UserError, match="train lacks the classes green that val has"):
        ImageFolder(str(photos)).load_train()
    (photos / "val" / "green").rmdir()
    (photos / "valid").mkdir()
    with pytest.raises(UserError, match="holds val and valid; keep one"):
        ImageFolder(str(photos)).load_valid()


def test_a_result_has_the_cost_of_the_user_s_network_and_the_benchmark_s(darts: Run, photos: Path) -> None:
    """The head of 64 channels has 65 parameters less for each class that is missing; FLOPs grow with the area."""
    tiny = ["network.channels=2", "budget.steps=2", "data.batch_size=2", "method=plain", "monitor=[]", "oracle=none"]
    words = ["search", "dataset=image_folder", f"dataset.root={photos}", "dataset.image_size=64", "data.resolution=8"]
    done = darts(*words, *tiny, "run_dir=run")
    assert done.returncode == 0, done.stderr
    lines = lines_of(done.stdout)
    own, benchmark = (int(lines[name].split()[0].replace(",", "")) for name in ("parameters", "in the benchmark"))
    assert benchmark - own == 65 * 8
    assert lines["parameters"].endswith("(C=16, N=5, 64x64, 2 classes)")
    assert lines["in the benchmark"].endswith("(C=16, N=5, 32x32, 10 classes)")
    flops = float(lines["FLOPs"].split()[0]), float(lines["in the benchmark"].split()[2])
    assert flops[0] == pytest.approx(4 * flops[1], rel=1e-3)
