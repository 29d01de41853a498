"""Answers about image files: the same from every file of a model, and with the accuracy it was judged with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from darts.cli import main
from darts.training.model import load_model

CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
COLOURS = {"blue": (30, 40, 200), "green": (40, 190, 60), "red": (200, 30, 30)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 7)):
        for name, colour in COLOURS.items():
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.array(colour) + rng.integers(-90, 90, (9, 12, 3))
                Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def model(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "run"
    words = ["dataset=image_folder", f"dataset.root={photos}", "dataset.image_size=8", "dataset.crop_padding=0"]
    words += ["network.channels=4", "network.cells=1", "recipe.epochs=8", "data.batch_size=8"]
    assert main(["retrain", f"cell={CELL}", *words, f"run_dir={folder}"]) == 0
    for name in ("onnx", "safetensors"):
        assert main(["export", f"run={folder}", f"format={name}"]) == 0
    return folder


@pytest.fixture
def predict(capsys: pytest.CaptureFixture[str]) -> Any:
    """The command; exit status, one dict a line of its answer, standard error."""

    def run(*words: object) -> tuple[int, list[dict[str, Any]], str]:
        capsys.readouterr()
        status = main(["predict", *map(str, words)])
        found = capsys.readouterr()
        return status, [json.loads(line) for line in found.out.splitlines()], found.err

    return run


@pytest.mark.parametrize("file", ["", "exports/model.onnx", "exports/model.safetensors", "checkpoints/model.pt"])
def test_every_file_of_a_model_has_the_accuracy_that_was_judged(
    file: str, model: Path, photos: Path, predict: Any
) -> None:
    status, answers, errors = predict(f"model={model / file}", photos / "test")
    judged = json.loads((model / "result.json").read_text())["test_accuracy"]
    assert status == 0
    assert f"accuracy {judged:.2f}%  (" in errors
    assert [one["path"] for one in answers] == [str(path) for path in sorted((photos / "test").rglob("*.png"))]
    right = [one["label"] == Path(one["path"]).parent.name for one in answers]
    assert 100 * sum(right) / len(right) == pytest.approx(judged, abs=1e-9)
    own = load_model(model / "checkpoints/model.pt", "run")
    with Image.open(photos / "test/blue/0.png") as image:
        square = image.resize((11, 8), Image.Resampling.BICUBIC).crop((1, 0, 9, 8))
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None]
    assert own(pixels).shape == (1, 3)
    assert all(1 / 3 <= one["probability"] <= 1 for one in answers)


def test_batches_and_the_number_of_classes_change_nothing_else(model: Path, photos: Path, predict: Any) -> None:
    _, plain, _ = predict(f"model={model}", photos / "test")
    _, single, _ = predict(f"model={model}", photos / "test", "batch_size=1", "top=2")
    for one, other in zip(plain, single, strict=True):
        assert (one["path"], one["label"]) == (other["path"], other["label"])
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-6)
        assert [other["label"], other["probability"]] == other["top"][0]
        assert len(other["top"]) == 2
        assert other["top"][0][1] >= other["top"][1][1]


def test_images_of_all_kinds_are_looked_at_and_the_rest_is_counted(
    model: Path, photos: Path, tmp_path: Path, predict: Any
) -> None:
    folder = tmp_path / "all, sorts = of (things)"
    (folder / "deep/er").mkdir(parents=True)
    Image.new("L", (20, 9), 80).save(folder / "deep/er/grey.png")
    Image.new("RGBA", (9, 9), (200, 30, 30, 128)).save(folder / "alpha.png")
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(folder / "deep/sixteen.png")
    frames = [Image.new("P", (9, 9), value) for value in (0, 50)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    (folder / "broken.jpg").write_bytes(b"\xff\xd8nothing")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"x")
    shutil.copy(photos / "test/red/0.png", folder / "a red one.png")
    status, answers, errors = predict(f"model={model}", folder, photos / "test/blue/1.png")
    assert status == 0
    names = [Path(one["path"]).name for one in answers]
    assert names == ["a red one.png", "alpha.png", "grey.png", "sixteen.png", "moving.gif", "1.png"]
    assert "1 files cannot be read" in errors
    assert "broken.jpg" in errors
    assert "1 other files passed by" in errors
    assert "accuracy" not in errors


def test_nothing_that_can_be_read_is_a_failure(model: Path, tmp_path: Path, predict: Any) -> None:
    (tmp_path / "x.png").write_bytes(b"no")
    status, answers, errors = predict(f"model={model}", tmp_path)
    assert (status, answers) == (2, [])
    assert "cannot be read" in errors


def foreign(path: Path, note: str | None) -> None:
    value = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [None, 3, 8, 8])
    answer = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [None, 3, 8, 8])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["images"], ["logits"])], "g", [value], [answer])
    made = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 17)])
    if note is not None:
        onnx.helper.set_model_props(made, {"darts": note})
    onnx.save(made, str(path))


@pytest.mark.parametrize(
    "make",
    [
        lambda path, model: foreign(path / "m.onnx", None), lambda path, model: foreign(path / "m.onnx", "{}"),
        lambda path, model: foreign(path / "m.onnx", "[1"), lambda path, model: (path / "m.onnx").write_bytes(b"abc"),
        lambda path, model: (path / "m.onnx").write_bytes((model / "exports/model.onnx").read_bytes()[:9000]),
        lambda path, model: (path / "m.safetensors").write_bytes(b"abc"),
        lambda path, model: (path / "m.safetensors").write_bytes(
            (model / "exports/model.safetensors").read_bytes()[:9000]
        ),
        lambda path, model: (path / "m.pt").write_bytes((model / "checkpoints/model.pt").read_bytes()[:5000]),
        lambda path, model: shutil.copy(model / "checkpoints/last.pt", path / "m.pt"),
        lambda path, model: (path / "m.txt").write_text("x"),
    ],
    ids=["no note", "empty note", "broken note", "no onnx", "half an onnx", "no safetensors", "half a safetensors",
         "half a model", "a checkpoint", "text"],
)  # fmt: skip
def test_files_that_are_no_model_are_refused(
    make: Any, model: Path, photos: Path, tmp_path: Path, predict: Any
) -> None:
    make(tmp_path, model)
    (file,) = tmp_path.glob("m.*")
    status, answers, errors = predict(f"model={file}", photos / "test")
    assert (status, answers) == (2, [])
    assert "model: " in errors
    assert "Traceback" not in errors


def test_an_onnx_file_that_answers_otherwise_than_it_says_is_refused(
    model: Path, photos: Path, tmp_path: Path, predict: Any
) -> None:
    real = onnx.load(str(model / "exports/model.onnx"))
    note = json.loads(next(prop.value for prop in real.metadata_props if prop.key == "darts"))
    foreign(tmp_path / "m.onnx", json.dumps(note))
    status, answers, errors = predict(f"model={tmp_path / 'm.onnx'}", photos / "test")
    assert (status, answers) == (2, [])
    assert "does not answer as it says" in errors


def test_weights_of_another_network_are_refused(model: Path, photos: Path, tmp_path: Path, predict: Any) -> None:
    from safetensors.torch import load_file, save_file

    about = load_model(model / "checkpoints/model.pt", "run").about.stored()
    weights = load_file(str(model / "exports/model.safetensors"))
    wide = weights | {"stem.0.weight": torch.zeros(9, 3, 3, 3)}
    few = {name: value for name, value in weights.items() if not name.startswith("classifier")}
    huge = about | {"size": about["size"] | {"channels": 10**7}}
    evil = about | {"space": {"_target_": "os.system", "command": "true"}}
    for number, (content, told, message) in enumerate(
        [(wide, about, "has the shape (9, 3, 3, 3)"), (few, about, "classifier.weight is missing"),
         (weights, huge, "describes no network"), (weights, evil, "is not a class of")]
    ):  # fmt: skip
        file = tmp_path / f"{number}.safetensors"
        save_file(content, str(file), metadata={"darts": json.dumps(told)})
        status, _, errors = predict(f"model={file}", photos / "test")
        assert status == 2
        assert message in errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{photos}/test"], "give model=FILE"), (["model={model}"], "give images"),
        (["model={model}", "nowhere"], "nowhere: there is no such file"),
        (["model={model}", "top=0", "x"], "top: got 0"),
        (["model={model}", "batch_size=x", "x"], "batch_size: got"),
        (["model=nowhere", "{photos}/test"], "there is no"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(words: list[str], message: str, model: Path, photos: Path, predict: Any) -> None:
    status, _, errors = predict(*(word.format(model=model, photos=photos) for word in words))
    assert status == 2
    assert message in errors
