"""Files for other programs, read by those programs: they answer as the model does, or are not kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from darts.cli import main
from darts.models.formats.base import formats
from darts.models.formats.safetensors import Safetensors
from darts.training.build import tasks_of
from darts.training.model import load_model
from supernet.size import NetworkSize
from supernet.spaces.cells import CellSpace

CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
TINY = ["dataset=fake", "network.channels=4", "network.cells=1", "recipe.epochs=3", "data.batch_size=32"]
SUFFIX = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A retraining with an exported file of every format."""
    folder = tmp_path_factory.mktemp("model") / "run"
    assert main(["retrain", f"cell={CELL}", *TINY, f"run_dir={folder}"]) == 0
    for name in SUFFIX:
        assert main(["export", f"run={folder}", f"format={name}"]) == 0
    return folder


def read_onnx(path: Path) -> tuple[Callable[[Tensor], Tensor], dict[str, Any]]:
    session = onnxruntime.InferenceSession(str(path))
    note = json.loads(session.get_modelmeta().custom_metadata_map["darts"])
    return lambda x: torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]), note


def read_program(path: Path) -> tuple[Callable[[Tensor], Tensor], dict[str, Any]]:
    extra = {"darts.json": ""}
    program = torch.export.load(path, extra_files=extra)
    return program.module(), json.loads(extra["darts.json"])


def read_weights(path: Path) -> tuple[Callable[[Tensor], Tensor], dict[str, Any]]:
    with safe_open(str(path), "pt") as file:
        note = json.loads(file.metadata()["darts"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    network = CellSpace().network(CellSpace().parse(note["cell"]), NetworkSize(**note["size"]))
    network.load_state_dict(weights)
    return network.eval(), note


READ = {"onnx": read_onnx, "torch_export": read_program, "safetensors": read_weights}


@pytest.mark.parametrize("name", SUFFIX)
def test_other_programs_get_the_models_answers(name: str, model: Path) -> None:
    answer, note = READ[name](model / f"exports/model{SUFFIX[name]}")
    own = load_model(model / "checkpoints/model.pt", "run")
    for batch in (1, 3, 64):
        images = torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            torch.testing.assert_close(answer(images), own.network(images), rtol=0, atol=1e-4)
    assert note["cell"] == CELL
    assert len(note["inputs"]["classes"]) == note["size"]["num_classes"] == 4
    assert note["inputs"]["decoded_size"] == note["size"]["image_size"] == 8
    judged = json.loads((model / "result.json").read_text())["test_accuracy"]
    assert note["judged"] == {"name": "accuracy", "unit": "%", "value": judged, "on": "test images"}


def test_mean_and_deviation_are_those_of_what_was_trained_on(model: Path) -> None:
    from darts.tasks.datasets.fake import Fake

    _, note = read_onnx(model / "exports/model.onnx")
    pixels = Fake(256, 4, 3, image_size=8).load_train().images_NCHW.double() / 255
    own = load_model(model / "checkpoints/model.pt", "run").about
    assert note["inputs"] == own.inputs
    if len(pixels) == 256 and list(pixels.shape[1:]) == [3, 8, 8]:
        assert note["inputs"]["mean"] == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), abs=0.05)
        assert note["inputs"]["deviation"] == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist(), abs=0.05)


def test_nothing_is_overwritten_unless_asked(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = model / "exports/model.safetensors"
    before = (file.read_bytes(), file.stat().st_mtime_ns)
    assert main(["export", f"run={model}", "format=safetensors"]) == 2
    assert "give overwrite=true, or output=FILE" in capsys.readouterr().err
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    assert main(["export", f"run={model}", "format=safetensors", "overwrite=true"]) == 0
    assert file.stat().st_mtime_ns != before[1]


@pytest.mark.parametrize("odd", ["other weights", "not a number"])
def test_a_file_that_disagrees_is_not_kept(
    odd: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Safetensors.write

    def spoiled(self: Safetensors, network: nn.Module, about: Any, path: Path) -> None:
        value = float("nan") if odd == "not a number" else 0.01
        with torch.no_grad():
            network.classifier.bias.add_(value)  # type: ignore[union-attr, operator]
            real(self, network, about, path)
            network.classifier.bias.sub_(value)  # type: ignore[union-attr, operator]

    monkeypatch.setattr(Safetensors, "write", spoiled)
    monkeypatch.setattr(Safetensors, "folds", True)  # a copy is spoiled, not the model
    monkeypatch.setattr("darts.models.exporting.folded", lambda network: __import__("copy").deepcopy(network))
    output = tmp_path / "out" / "model.safetensors"
    assert main(["export", f"run={model}", "format=safetensors", f"output={output}"]) == 2
    assert "it was not kept" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_package_is_said_with_how_to_install_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, package in (("onnx", "onnxscript"), ("safetensors", "safetensors")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            assert main(["export", f"run={model}", f"format={name}", f"output={tmp_path / 'm'}"]) == 2
        error = capsys.readouterr().err
        assert package in error
        assert "pip install 'darts-supernet[export]'" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run={model}", "format=doc"], "allowed are onnx, safetensors, torch_export"), ([], "give run=RUN_DIR"),
        (["run=nowhere"], "there is no nowhere"), (["run={model}", "weights=best"], "nothing was held out"),
        (["run={model}", "weights=first"], "allowed are last, best"),
        (["run={model}", "quantize=true", "format=safetensors"], "it is for format=onnx"),
        (["run={model}/exports/model.safetensors"], "give output=FILE"),
        (["run={model}/result.json"], "give the folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_said(
    words: list[str], message: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *(word.replace("{model}", str(model)) for word in words)]) == 2
    assert message in capsys.readouterr().err


def test_a_finished_search_is_written_and_called_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dataset=fake", "method=plain", "network.channels=4", "budget.epochs=2", "monitor=[]", "oracle=none"]
    for mode in ("batch", "running"):
        folder = tmp_path / mode
        assert main(["search", *words, f"network.batch_norm={mode}", f"run_dir={folder}"]) == 0
        assert main(["export", f"run={folder}", "format=safetensors"]) == 0
        assert "inherited from the supernet of a search" in capsys.readouterr().out
        _, note = read_weights(folder / "exports/model.safetensors")
        assert note["cell"] == json.loads((folder / "result.json").read_text())["cell"]
        assert "architecture part" in note["judged"]["on"]


def test_int8_is_judged_truthfully(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "model.onnx"
    assert main(["export", f"run={model}", f"output={output}", "quantize=true"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("  accuracy"))
    import yaml

    from darts.run.parts import build_one

    stored = yaml.safe_load((model / "config.yaml").read_text())
    final = tasks_of(stored, build_one(stored, "dataset"), 0, torch.device("cpu")).final
    counted = []
    for path in (tmp_path / "model.int8.onnx", output):
        answer, note = read_onnx(path)
        assert note["cell"] == CELL
        right = [(answer(images).argmax(1) == labels).numpy() for images, labels in final.evaluation_batches()]
        counted.append(100 * np.concatenate(right).mean())
    assert f"{counted[0]:.2f}%, {counted[1]:.2f}% in floats" in line
    assert (tmp_path / "model.int8.onnx").stat().st_size < output.stat().st_size
    assert main(["export", f"run={model}", f"output={tmp_path / 'b.onnx'}", "quantize=true", "overwrite=true"]) == 0


def test_every_format_says_its_name_and_ending() -> None:
    assert {name: form.suffix for name, form in formats().items()} == SUFFIX
