"""Models and files that somebody spoiled, and mistakes that read well: one message, no traceback, no wrong number."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from darts.cli import main
from darts.models.quantizing import Quantized
from darts.report.export_report import quantized_lines
from darts.tasks.base import Metric
from supernet.folding import folded

CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
TINY = ["dataset=fake", "network.cells=1", "recipe.epochs=1", "data.batch_size=32"]
TOYS = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("found") / "run"
    assert main(["retrain", f"cell={CELL}", *TINY, "network.channels=4", f"run_dir={folder}"]) == 0
    for name in ("onnx", "safetensors"):
        assert main(["export", f"run={folder}", f"format={name}"]) == 0
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8), (200, 0, 0)).save(tmp_path / "x.png")
    return tmp_path / "x.png"


def noted(run: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], form: str) -> Path:
    with safe_open(str(run / "exports/model.safetensors"), "pt") as f:
        note = json.loads(f.metadata()["darts"])
    change(note)
    if form == "onnx":
        proto = onnx.load(str(run / "exports/model.onnx"))
        onnx.helper.set_model_props(proto, {"darts": json.dumps(note)})
        onnx.save(proto, str(tmp_path / "m.onnx"))
        return tmp_path / "m.onnx"
    save_file(
        load_file(run / "exports/model.safetensors"),
        str(tmp_path / "m.safetensors"),
        metadata={"darts": json.dumps(note)},
    )
    return tmp_path / "m.safetensors"


def put(*path: str, value: Any = None, delete: bool = False) -> Callable[[dict[str, Any]], None]:
    """Sets or deletes what is at a path of a note."""

    def change(note: dict[str, Any]) -> None:
        place: Any = note
        for part in path[:-1]:
            place = place[part]
        if delete:
            del place[path[-1]]
        else:
            place[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("form", "change"),
    [
        ("onnx", put("inputs", value={})),
        ("onnx", put("inputs", value=None)),
        ("onnx", put("inputs", "decoded_size", delete=True)),
        ("safetensors", put("inputs", "decoded_size", delete=True)),
        ("onnx", put("inputs", "decoded_size", value="x")),
        ("onnx", put("inputs", "decoded_size", value=0)),
        ("onnx", put("inputs", "mean", value=["a", "b", "c"])),
        ("onnx", put("inputs", "deviation", value=[0, 0, 0])),
        ("onnx", put("inputs", "classes", value=[1, 2, 3, [4]])),
        ("onnx", put("size", "image_size", value="8")),
        ("onnx", put("size", "image_size", value=-1)),
        ("safetensors", put("size", "channels", value="4")),
        ("safetensors", put("size", "channels", value=4.0)),
    ],
)
def test_a_note_of_other_kinds_is_refused(
    run: Path, tmp_path: Path, image: Path, form: str, change: Callable[[dict[str, Any]], None]
) -> None:
    assert main(["predict", f"model={noted(run, tmp_path, change, form)}", str(image)]) == 2


def test_nan_weights_are_no_answer(run: Path, tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with safe_open(str(run / "exports/model.safetensors"), "pt") as f:
        meta = f.metadata()
    w = load_file(run / "exports/model.safetensors")
    w["classifier.bias"] += float("nan")
    save_file(w, str(tmp_path / "m.safetensors"), metadata=meta)
    main(["predict", f"model={tmp_path / 'm.safetensors'}", str(image)])
    for line in capsys.readouterr().out.splitlines():
        json.loads(line, parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))


def test_convolutions_that_pad_otherwise_are_not_folded() -> None:
    s = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(3)).eval()
    x = torch.randn(2, 2, 6, 6)
    torch.testing.assert_close(folded(s)(x), s(x))


def test_convolutions_of_ones_own_are_not_folded() -> None:
    class Doubled(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    s = nn.Sequential(Doubled(2, 3, 3), nn.BatchNorm2d(3)).eval()
    x = torch.randn(2, 2, 6, 6)
    torch.testing.assert_close(folded(s)(x), s(x))


def test_a_folder_is_no_output(run: Path, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    assert main(["export", f"run={run}", "format=safetensors", f"output={tmp_path / 'd'}", "overwrite=true"]) == 2


def test_below_a_file_nothing_is_written(run: Path, tmp_path: Path) -> None:
    assert main(["export", f"run={run}", "format=safetensors", f"output={run / 'config.yaml' / 'x'}"]) == 2


def test_safetensors_hold_a_space_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOYS))
    words = ["plugins=[toybox]", "space=two_nodes", "cell=skip_connect nor_conv_1x1", "network.channels=4"]
    assert main(["retrain", *words, *TINY, f"run_dir={tmp_path / 'r'}"]) == 0
    assert main(["export", "plugins=[toybox]", f"run={tmp_path / 'r'}", "format=safetensors"]) == 0


def test_an_onnx_file_of_a_task_without_classes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Path
) -> None:
    monkeypatch.syspath_prepend(str(TOYS))
    words = [
        "plugins=[toybox]",
        "space=two_nodes",
        "task=brightness",
        "~data.cutout",
        "~data.label_smoothing",
        "cell=skip_connect nor_conv_1x1",
        "network.channels=4",
        "recipe.lr=0.001",
    ]
    assert main(["retrain", *words, *TINY, f"run_dir={tmp_path / 'r'}"]) == 0
    assert main(["export", "plugins=[toybox]", f"run={tmp_path / 'r'}"]) == 0
    assert main(["predict", f"model={tmp_path / 'r/exports/model.onnx'}", str(image)]) == 2


def test_lost_and_gained_heed_the_direction_and_units_are_apart(tmp_path: Path) -> None:
    metric = Metric("error", "grey levels", higher_is_better=False)
    made = Quantized(tmp_path, 1, 2, "test images", metric, 65.0, 64.0, 1.0, 1.0)
    line = dict(quantized_lines(made))["  error"]
    assert line.startswith("65 grey levels, 64 grey levels in floats: 1.00 lost")


def test_nothing_is_said_to_be_taken_over_where_only_counters_fit(run: Path, tmp_path: Path) -> None:
    assert main(["retrain", f"init={run}", *TINY, "network.channels=6", f"run_dir={tmp_path / 'r'}"]) == 2


def test_quantize_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["method=plain", "dataset=fake", "network.channels=2", "budget.steps=2", "monitor=[]", "oracle=none"]
    assert main(["search", *words, "run_dir=s"]) == 0
    assert main(["export", "run=s", "quantize=true"]) == 2
    assert not Path("s/exports/model.onnx").exists()


def test_files_without_an_ending_count_as_in_the_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 4)):
        for place, name in enumerate("ab"):
            folder = tmp_path / "data" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.normal(80 + 90 * place, 40, (8, 8, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "data/test/a/0.png").rename(tmp_path / "data/test/a/0")
    data = ["dataset=image_folder", f"dataset.root={tmp_path / 'data'}", "dataset.image_size=8", "data.batch_size=8"]
    small = ["network.channels=2", "network.cells=1", "recipe.epochs=1"]
    assert main(["retrain", f"cell={CELL}", *data, *small, f"run_dir={tmp_path / 'r'}"]) == 0
    judged = sum(one["images"] for one in json.loads((tmp_path / "r/result.json").read_text())["classes"])
    capsys.readouterr()
    assert main(["predict", f"model={tmp_path / 'r'}", str(tmp_path / "data/test")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == judged


def broken_dds() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "DDS")
    content = bytearray(stream.getvalue())
    content[80:84] = bytes(4)  # flags of the pixel format
    return bytes(content)


def test_one_odd_file_does_not_end_it_all(run: Path, tmp_path: Path, image: Path) -> None:
    (tmp_path / "odd.dds").write_bytes(broken_dds())
    assert main(["predict", f"model={run}", str(tmp_path)]) == 0


def test_pillows_warnings_stay_inside(run: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01")
    assert main(["predict", f"model={run}", str(tmp_path / "x.jpg")]) == 0


def test_the_same_cell_with_a_blank_before_it_is_the_same_cell(run: Path, tmp_path: Path) -> None:
    assert main(["retrain", f"init={run}", f"cell= {CELL}", *TINY, f"run_dir={tmp_path / 'r'}"]) == 0


def test_modules_of_a_folded_network_are_in_evaluation_mode() -> None:
    s = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    assert not any(module.training for module in folded(s).modules())
