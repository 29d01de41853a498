"""`darts predict`: images of every kind, a trained network in every form, and the accuracy that judged it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image, ImageOps
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from darts.cli import main
from supernet.size import NetworkSize
from supernet.spaces.cells import CellSpace

CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
COLOURS = {"blue": (40, 60, 200), "grün": (60, 190, 50), "red": (210, 50, 40)}
SIDE = 8
Darts = Callable[..., subprocess.CompletedProcess[str]]
Lines = list[dict[str, Any]]


def picture(colour: str, seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """Of about that colour, with much noise."""
    noise = np.random.default_rng(seed).normal(0, 60, (size[1], size[0], 3))
    return Image.fromarray((np.array(COLOURS[colour]) + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of several sizes; two of eight test images of a class are of another one's colour, so that nobody is always
    right."""
    root = tmp_path_factory.mktemp("predict") / "photos"
    names = [*COLOURS]
    for place, name in enumerate(names):
        for part, count in (("train", 12), ("test", 8)):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                shown = names[(place + 1) % 3] if part == "test" and number < 2 else name
                seed = 1000 * place + 10 * number + (part == "test")
                picture(shown, seed, (SIDE + number % 3, SIDE + number % 5)).save(folder / f"{number:02}.png")
    deeper = root / "test" / "red" / "from the lake"
    deeper.mkdir()
    (root / "test" / "red" / "07.png").rename(deeper / "a.png")
    return root


@pytest.fixture(scope="module")
def run(photos: Path) -> Path:
    """Trained on them."""
    folder = photos.parent / "run"
    data = ["dataset=image_folder", f"dataset.root={photos}", f"dataset.image_size={SIDE}", "dataset.crop_padding=1"]
    small = ["network.channels=4", "network.cells=1", "recipe.epochs=8", "data.batch_size=12"]
    assert main(["retrain", f"cell={CELL}", *data, *small, f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def models(run: Path) -> dict[str, Path]:
    """The network as a run, an ONNX file and a file of tensors."""
    for name in ("onnx", "safetensors"):
        assert main(["export", f"run={run}", f"format={name}"]) == 0
    return {"run": run, **{name: run / "exports" / f"model.{name}" for name in ("onnx", "safetensors")}}


def lines_of(done: subprocess.CompletedProcess[str]) -> Lines:
    return [json.loads(line) for line in done.stdout.splitlines()]


def accuracy_of(run: Path) -> float:
    value: float = json.loads((run / "result.json").read_text())["test_accuracy"]
    return value


def about(file: Path) -> dict[str, Any]:
    with safe_open(str(file), framework="pt") as opened:
        content: dict[str, Any] = json.loads(opened.metadata()["darts"])
    return content


@pytest.mark.parametrize("form", ["run", "onnx", "safetensors"])
def test_the_accuracy_over_the_test_folder_is_the_one_that_judged_the_network(
    darts: Darts, models: dict[str, Path], photos: Path, form: str
) -> None:
    done = darts("predict", f"model={models[form]}", photos / "test")
    assert done.returncode == 0, done.stderr
    lines = lines_of(done)
    assert [line["path"] for line in lines] == [str(path) for path in sorted((photos / "test").rglob("*.png"))]
    right = sum(line["label"] == Path(line["path"]).relative_to(photos / "test").parts[0] for line in lines)
    judged = accuracy_of(models["run"])
    assert 100 * right / 24 == pytest.approx(judged)
    assert done.stderr == f"accuracy {judged:.2f}%  ({right} of 24 in folders of a class)\n"
    assert 40 < judged < 100, "it learned, and a quarter of the images lie in another class's folder"


def test_probabilities_are_those_of_the_network(darts: Darts, models: dict[str, Path], photos: Path) -> None:
    """Image by image: decoded by Pillow, normalised by hand."""
    known = about(models["safetensors"])
    network = CellSpace().network(CellSpace().parse(CELL), NetworkSize(4, 1, 3, 3, SIDE))
    network.load_state_dict(load_file(models["safetensors"]))
    network.eval()
    mean, deviation = (np.array(known["inputs"][name])[:, None, None] for name in ("mean", "deviation"))
    expected = {}
    for path in sorted((photos / "test").rglob("*.png")):
        with Image.open(path) as opened:
            values = np.asarray(ImageOps.fit(opened.convert("RGB"), (SIDE, SIDE))).transpose(2, 0, 1) / 255
        inputs = torch.from_numpy((values - mean) / deviation).float()[None]
        with torch.no_grad():
            expected[str(path)] = dict(zip(sorted(COLOURS), network(inputs).softmax(1)[0].tolist(), strict=True))
    for name, model in models.items():
        for line in lines_of(darts("predict", f"model={model}", "top=3", photos / "test")):
            assert [label for label, _ in line["top"]] == sorted(COLOURS, key=lambda c: -expected[line["path"]][c])
            assert dict(line["top"]) == pytest.approx(expected[line["path"]], abs=1e-5), name
            assert [line["label"], line["probability"]] == line["top"][0]


def test_the_likeliest_classes_that_were_asked_for(darts: Darts, models: dict[str, Path], photos: Path) -> None:
    whole, two, one, many = (
        lines_of(darts("predict", f"model={models['safetensors']}", photos / "test" / "red", *more))
        for more in (["top=3"], ["top=2"], [], ["top=99"])
    )
    for all_of_them, first, alone in zip(whole, two, one, strict=True):
        assert first["top"] == all_of_them["top"][:2]
        assert all_of_them["top"][0][1] >= all_of_them["top"][1][1] >= all_of_them["top"][2][1]
        assert sum(sure for _, sure in all_of_them["top"]) == pytest.approx(1, abs=1e-6)
        assert alone == {name: first[name] for name in ("path", "label", "probability")}
    assert many == whole


@pytest.mark.parametrize("form", ["run", "onnx"])
def test_answers_do_not_depend_on_the_batch(darts: Darts, models: dict[str, Path], photos: Path, form: str) -> None:
    single, seven, together = (
        lines_of(darts("predict", f"model={models[form]}", f"batch_size={size}", photos / "test"))
        for size in (1, 7, 64)
    )
    assert len(together) == 24
    for other in (single, seven):
        for one, two in zip(other, together, strict=True):
            assert (one["path"], one["label"]) == (two["path"], two["label"])
            assert one["probability"] == pytest.approx(two["probability"], abs=1e-6)


def test_files_and_folders_in_the_order_given(darts: Darts, models: dict[str, Path], photos: Path) -> None:
    first, second = photos / "test/red/03.png", photos / "test/blue"
    done = darts("predict", f"model={models['safetensors']}", second, first, second / "05.png")
    expected = [*sorted(second.iterdir()), first, second / "05.png"]
    assert [line["path"] for line in lines_of(done)] == [*map(str, expected)]
    assert done.stderr == "", "these say of no image what it shows"


# Images of every kind


def probabilities(darts: Darts, model: Path, *paths: Path) -> list[dict[str, float]]:
    done = darts("predict", f"model={model}", "top=3", *paths)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return [dict(line["top"]) for line in lines_of(done)]


Kinds = tuple[Path, Image.Image, Image.Image]  # a file, what it looks like, and what it would if a part was not heeded


def grey(folder: Path) -> Kinds:
    one = picture("red", 5).convert("L")
    one.save(folder / "odd.png")
    return folder / "odd.png", Image.merge("RGB", (one, one, one)), picture("red", 5)


def of_16_bits(folder: Path) -> Kinds:
    values = np.asarray(picture("blue", 6).convert("L"))
    Image.fromarray(values.astype(np.uint16) * 257).save(folder / "odd.png")
    return folder / "odd.png", Image.fromarray(values).convert("RGB"), Image.new("RGB", (SIDE, SIDE), (255, 255, 255))


def transparent(folder: Path) -> Kinds:
    """The upper half cannot be seen: white is behind it."""
    plain = picture("blue", 7)
    alpha = np.full((SIDE, SIDE), 255, np.uint8)
    alpha[: SIDE // 2] = 0
    Image.merge("RGBA", (*plain.split(), Image.fromarray(alpha))).save(folder / "odd.png")
    seen = np.asarray(plain).copy()
    seen[: SIDE // 2] = 255
    return folder / "odd.png", Image.fromarray(seen), plain


def grey_and_transparent(folder: Path) -> Kinds:
    one = picture("red", 8).convert("L")
    Image.merge("LA", (one, Image.new("L", one.size, 0))).save(folder / "odd.png")
    return folder / "odd.png", Image.new("RGB", one.size, (255, 255, 255)), one.convert("RGB")


def animated(folder: Path) -> Kinds:
    """Of several frames the first counts."""
    frames = [picture(colour, 9).quantize(16) for colour in ("red", "blue", "grün")]
    frames[0].save(folder / "odd.gif", save_all=True, append_images=frames[1:])
    return folder / "odd.gif", frames[0].convert("RGB"), frames[2].convert("RGB")


def palette(folder: Path) -> Kinds:
    one = picture("red", 10).quantize(16)
    one.save(folder / "odd.PNG")
    places = Image.fromarray(np.asarray(one) * 16)
    return folder / "odd.PNG", one.convert("RGB"), places.convert("RGB")


def turned_by_its_camera(folder: Path) -> Kinds:
    """By 90 degrees to the right."""
    values = np.asarray(picture("red", 11)).copy()
    values[: SIDE // 2] = COLOURS["blue"]
    one = Image.fromarray(values)
    exif = one.getexif()
    exif[0x0112] = 6
    one.save(folder / "odd.png", exif=exif)
    return folder / "odd.png", one.rotate(-90), one


@pytest.mark.parametrize(
    "make", [grey, of_16_bits, transparent, grey_and_transparent, animated, palette, turned_by_its_camera]
)
def test_an_image_of_another_kind_is_what_it_looks_like(
    darts: Darts, models: dict[str, Path], tmp_path: Path, make: Callable[[Path], Kinds]
) -> None:
    odd, looks, wrong = make(tmp_path)
    looks.save(tmp_path / "looks.png")
    wrong.save(tmp_path / "wrong.png")
    paths = (odd, tmp_path / "looks.png", tmp_path / "wrong.png")
    found, expected, other = probabilities(darts, models["safetensors"], *paths)
    assert found == pytest.approx(expected, abs=1e-6)
    assert found != pytest.approx(other, abs=1e-4)


def test_a_model_of_grey_images_sees_grey(darts: Darts, tmp_path: Path) -> None:
    words = ["retrain", f"cell={CELL}", "dataset=fake", "dataset.channels=1", "data.batch_size=32", "recipe.epochs=1"]
    assert darts(*words, "network.channels=2", "network.cells=1", "run_dir=run").returncode == 0
    coloured = picture("red", 13)
    coloured.save(tmp_path / "coloured.png")
    coloured.convert("L").save(tmp_path / "grey.png")
    one, two = lines_of(darts("predict", "model=run", "top=4", "coloured.png", "grey.png"))
    assert one["top"] == two["top"]


# Files that are no images


def spoiled(folder: Path, count: int = 4) -> list[str]:
    """Files that cannot be read, in order of their names."""
    whole = folder / "whole.png"
    picture("red", 14, (40, 40)).save(whole)
    content = whole.read_bytes()
    whole.unlink()
    makers: dict[str, bytes] = {"a.png": b"no picture", "b.png": content[: len(content) // 2], "c.jpg": b""}
    for name, inside in makers.items():
        (folder / name).write_bytes(inside)
    (folder / "d.png").symlink_to(folder / "nowhere.png")
    for number in range(count - 4):
        (folder / f"e{number}.gif").write_bytes(b"GIF89a")
    return sorted(path.name for path in folder.iterdir())


def test_files_that_cannot_be_read_are_counted_and_named(darts: Darts, models: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    names = spoiled(folder)
    for place, colour in enumerate(COLOURS):
        picture(colour, place).save(folder / f"{'abc'[place]}{place}.png")
    done = darts("predict", f"model={models['onnx']}", "batch_size=2", folder)
    assert done.returncode == 0
    assert [Path(line["path"]).name for line in lines_of(done)] == ["a0.png", "b1.png", "c2.png"]
    assert done.stderr.startswith("4 files cannot be read: ")
    assert done.stderr.count("\n") == 1
    assert re.findall(rf"{re.escape(str(folder))}/([^:;]+): ", done.stderr) == names
    together = lines_of(darts("predict", f"model={models['onnx']}", *sorted(folder.glob("[abc][012].png"))))
    for one, two in zip(lines_of(done), together, strict=True):
        assert one["label"] == two["label"]
        assert one["probability"] == pytest.approx(two["probability"], abs=1e-6)


def test_five_of_many_are_named(darts: Darts, models: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    names = spoiled(folder, 8)
    picture("red", 0).save(folder / "z.png")
    done = darts("predict", f"model={models['safetensors']}", folder)
    assert done.returncode == 0
    assert done.stderr.startswith("8 files cannot be read: ")
    assert done.stderr.endswith("; and 3 more\n")
    assert [name for name in names if f"/{name}: " in done.stderr] == names[:5]


def test_nothing_that_can_be_read_is_a_mistake(darts: Darts, models: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    spoiled(folder)
    done = darts("predict", f"model={models['safetensors']}", folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("4 files cannot be read: ")


def test_other_files_are_passed_by(darts: Darts, models: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    (folder / ".thumbnails").mkdir(parents=True)
    picture("red", 0).save(folder / "one.png")
    picture("red", 0).save(folder / ".thumbnails/one.png")
    picture("red", 0).save(folder / ".hidden.png")
    for name in ("notes.txt", "table.csv"):
        (folder / name).write_text("no picture")
    done = darts("predict", f"model={models['safetensors']}", folder)
    assert done.returncode == 0
    assert [line["path"] for line in lines_of(done)] == [str(folder / "one.png")]
    assert done.stderr == "2 other files passed by\n"
    (folder / "one.png").unlink()
    none = darts("predict", f"model={models['safetensors']}", folder)
    assert (none.returncode, none.stdout, none.stderr) == (2, "", f"darts: {folder}: no images there\n")


# Models that are none


def foreign_onnx(folder: Path, models: dict[str, Path]) -> Path:
    """Somebody else's: it adds one."""
    floats = onnx.TensorProto.FLOAT
    given = onnx.helper.make_tensor_value_info("images", floats, ["batch", 3, SIDE, SIDE])
    taken = onnx.helper.make_tensor_value_info("logits", floats, ["batch", 3, SIDE, SIDE])
    one = onnx.helper.make_tensor("one", floats, [1], [1.0])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["images", "one"], ["logits"])], "plus one", [given], [taken], [one]
    )
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, ir_version=9, opset_imports=[opset]), str(folder / "model.onnx"))
    return folder / "model.onnx"


def foreign_onnx_with_our_note(folder: Path, models: dict[str, Path]) -> Path:
    path = foreign_onnx(folder, models)
    content = onnx.load(str(path))
    onnx.helper.set_model_props(content, {"darts": json.dumps(about(models["safetensors"]))})
    content.graph.output[0].name = content.graph.node[0].output[0] = "sums"
    onnx.save(content, str(path))
    return path


def foreign_safetensors(folder: Path, models: dict[str, Path]) -> Path:
    save_file({"weight": torch.zeros(3)}, str(folder / "model.safetensors"), metadata={"format": "pt"})
    return folder / "model.safetensors"


def without_classes(folder: Path, models: dict[str, Path]) -> Path:
    """Of another task."""
    note = about(models["safetensors"]) | {"inputs": {}, "trained_on": "waves"}
    weights = load_file(models["safetensors"])
    save_file(weights, str(folder / "model.safetensors"), metadata={"darts": json.dumps(note)})
    return folder / "model.safetensors"


def with_a_class_too_many(folder: Path, models: dict[str, Path]) -> Path:
    note = about(models["safetensors"])
    note["inputs"]["classes"].append("yellow")
    weights = load_file(models["safetensors"])
    save_file(weights, str(folder / "model.safetensors"), metadata={"darts": json.dumps(note)})
    return folder / "model.safetensors"


def of_other_code(folder: Path, models: dict[str, Path]) -> Path:
    note = about(models["safetensors"])
    note["space"] = {"_target_": "os.system", "command": f"touch {folder / 'ran'}"}
    weights = load_file(models["safetensors"])
    save_file(weights, str(folder / "model.safetensors"), metadata={"darts": json.dumps(note)})
    return folder / "model.safetensors"


def cut(name: str, share: float) -> Callable[[Path, dict[str, Path]], Path]:
    def make(folder: Path, models: dict[str, Path]) -> Path:
        content = models[name].read_bytes()
        (folder / models[name].name).write_bytes(content[: int(share * len(content))])
        return folder / models[name].name

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (foreign_onnx, "was not written by darts export: it says nothing of classes and image size"),
        (foreign_onnx_with_our_note, "does not answer as it says"),
        (foreign_safetensors, "is no model of this program"),
        (without_classes, "darts predict needs a classifier of images; this model is of waves"),
        (with_a_class_too_many, "is no model of this program"),
        (of_other_code, "'os.system' is not a class of darts, supernet"),
        *[(cut(name, share), "cannot be read") for name in ("onnx", "safetensors") for share in (0, 0.1, 0.6, 0.99)],
        (lambda folder, models: folder / "nowhere.onnx", "there is no"),
        (lambda folder, models: models["run"] / "result.json", "give the folder of a run, or a .safetensors file"),
        (lambda folder, models: folder, "is no run folder"),
    ],
)
def test_what_is_no_model_gets_one_message(
    darts: Darts,
    models: dict[str, Path],
    photos: Path,
    tmp_path: Path,
    make: Callable[[Path, dict[str, Path]], Path],
    message: str,
) -> None:
    done = darts("predict", f"model={make(tmp_path, models)}", photos / "test")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("darts: ")
    assert message in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["top=0"], "top: got 0; give 1 or more"),
        (["batch_size=0"], "batch_size: got 0; give 1 or more"),
        (["batch_size=2.5"], "batch_size: got 2.5; give 1 or more"),
        (["nowhere.png"], "nowhere.png: there is no such file or folder"),
        (["weights=best"], "model: {run} holds no best.pt; nothing was held out to choose by"),
    ],
)
def test_mistakes_are_named(darts: Darts, run: Path, photos: Path, words: list[str], message: str) -> None:
    done = darts("predict", f"model={run}", photos / "test", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith(f"darts: {message.format(run=run)}")


def test_a_model_and_images_are_needed(darts: Darts, run: Path, photos: Path) -> None:
    for words, message in ((["."], "model: darts predict needs one"), ([f"model={run}"], "darts predict: give images")):
        done = darts("predict", *words)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_without_its_package_an_onnx_file_says_how_to_get_it(
    darts: Darts, models: dict[str, Path], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = darts("predict", f"model={models['onnx']}", photos / "test")
    assert done.returncode == 2
    assert done.stderr == (
        "darts: model.onnx needs the package onnxruntime; install it with: pip install 'darts-supernet[export]'\n"
    )


def test_in_a_pipe_lines_are_json_and_the_accuracy_stands_beside_them(
    console: list[str], models: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    line = [*console, "predict", f"model={models['safetensors']}", str(photos / "test")]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len(lines_of(done)) == 24
    assert {line["label"] for line in lines_of(done)} == {*COLOURS}
    assert re.fullmatch(
        rf"accuracy {accuracy_of(models['run']):.2f}%  \(\d+ of 24 in folders of a class\)\n", done.stderr
    )


def test_a_table_on_a_terminal(
    models: dict[str, Path], photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["predict", f"model={models['safetensors']}", "top=2", str(photos / "test")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 24
    width = max(len(str(path)) for path in (photos / "test").rglob("*.png"))
    for line in lines:
        assert re.fullmatch(r"  (\S+ \d+\.\d%)  (\S+ \d+\.\d%)", line[width:])


def test_a_search_of_smaller_images_decodes_them_as_it_did(darts: Darts, photos: Path, tmp_path: Path) -> None:
    """First to the size of its data set, then smaller."""
    data = ["dataset=image_folder", f"dataset.root={photos}", f"dataset.image_size={SIDE}", "dataset.crop_padding=0"]
    small = ["method=plain", "network.channels=2", "budget.steps=2", "data.batch_size=6", "data.resolution=5"]
    assert darts("search", *data, *small, "monitor=[]", "oracle=none", "run_dir=search").returncode == 0
    assert darts("export", "run=search", "format=safetensors").returncode == 0
    file = tmp_path / "search/exports/model.safetensors"
    known = about(file)
    assert (known["size"]["image_size"], known["inputs"]["decoded_size"]) == (5, SIDE)
    network = CellSpace().network(CellSpace().parse(known["cell"]), NetworkSize(2, 1, 3, 3, 5))
    network.load_state_dict(load_file(file))
    network.eval()
    mean, deviation = (torch.tensor(known["inputs"][name])[:, None, None] for name in ("mean", "deviation"))
    for line in lines_of(darts("predict", f"model={file}", "top=3", photos / "test")):
        with Image.open(line["path"]) as opened:
            values = np.asarray(ImageOps.fit(opened.convert("RGB"), (SIDE, SIDE))).transpose(2, 0, 1).copy()
        images = torch.from_numpy(values)[None].float()
        less = torch.nn.functional.interpolate(images, (5, 5), mode="bilinear", antialias=True).round()
        with torch.no_grad():
            expected = network((less / 255 - mean) / deviation).softmax(1)[0].tolist()
        assert dict(line["top"]) == pytest.approx(dict(zip(sorted(COLOURS), expected, strict=True)), abs=1e-5)


def test_a_run_moved_elsewhere_still_answers(darts: Darts, run: Path, photos: Path, tmp_path: Path) -> None:
    """What it was trained on is not needed."""
    moved = shutil.copytree(run, tmp_path / "moved")
    config = moved / "config.yaml"
    config.write_text(config.read_text().replace(str(photos), "/gone"))
    done = darts("predict", f"model={moved}", photos / "test")
    assert (done.returncode, len(lines_of(done))) == (0, 24)
