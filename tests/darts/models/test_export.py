"""Files for other programs, opened by those programs: same answers, what has to be known, and nothing half written."""

from __future__ import annotations

import copy
import errno
import json
import logging
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from darts.cli import main
from darts.command.config import compose_config
from darts.models.formats.base import Format, formats
from darts.models.quantizing import quantize
from darts.run.checkpoint import load_checkpoint, save_checkpoint
from darts.run.errors import UserError
from darts.search.build import build_search
from darts.tasks.datasets.fake import Fake
from darts.training.model import About
from supernet.size import NetworkSize
from supernet.spaces.cells import CellSpace

CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
DATA = {"images": 2000, "num_classes": 5}
TINY = ["dataset=fake", *(f"dataset.{name}={value}" for name, value in DATA.items()), "data.batch_size=32"]
NETWORK = ["network.channels=4", "network.cells=1"]
SUFFIX = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}
SIZE = NetworkSize(4, 1, 5, 3, 8)
Answer = Callable[[Tensor], Tensor]
Darts = Callable[..., Any]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network, never written to by tests."""
    folder = tmp_path_factory.mktemp("export") / "run"
    words = ["retrain", f"cell={CELL}", *TINY, *NETWORK, "recipe.epochs=2", "recipe.lr=0.02", "data.held_out=0.2"]
    assert main([*words, f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def files(run: Path) -> dict[str, Path]:
    """The network in every format."""
    for name in SUFFIX:
        assert main(["export", f"run={run}", f"format={name}"]) == 0
    return {name: run / "exports" / f"model{suffix}" for name, suffix in SUFFIX.items()}


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """The run, without its files for other programs."""
    return shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("exports"))


def eager(run: Path, file: str = "model.pt") -> nn.Module:
    network = CellSpace().network(CellSpace().parse(CELL), SIZE)
    network.load_state_dict(load_checkpoint(run / "checkpoints" / file)["weights"])
    return network.eval()


def of_onnx(path: Path) -> tuple[Answer, str]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.shape[1:], given.name) == ("images", [3, 8, 8], "logits")
    note = session.get_modelmeta().custom_metadata_map["darts"]
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0]), note


def of_torch_export(path: Path) -> tuple[Answer, str]:
    logging.getLogger("torch.export").setLevel(logging.ERROR)
    extra = {"darts.json": ""}
    with path.open("rb") as stream:
        program = torch.export.load(stream, extra_files=extra)
    return program.module(), extra["darts.json"]


def of_safetensors(path: Path) -> tuple[Answer, str]:
    with safe_open(str(path), framework="pt") as file:
        note = file.metadata()["darts"]
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    about = json.loads(note)
    network = CellSpace().network(CellSpace().parse(about["cell"]), NetworkSize(**about["size"]))
    network.load_state_dict(weights)
    return network.eval(), note


OPENED = {"onnx": of_onnx, "torch_export": of_torch_export, "safetensors": of_safetensors}


@pytest.mark.parametrize("name", SUFFIX)
@torch.no_grad()
def test_a_file_answers_as_the_network_in_batches_of_any_size(files: dict[str, Path], run: Path, name: str) -> None:
    answer, _ = OPENED[name](files[name])
    network = eager(run)
    for count in (1, 3, 64):
        images = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(count))
        expected = network(images)
        torch.testing.assert_close(answer(images), expected, rtol=0, atol=1e-4)
        assert expected.abs().max() > 0.1


@pytest.mark.parametrize("name", SUFFIX)
def test_a_file_says_what_has_to_be_known(files: dict[str, Path], run: Path, name: str) -> None:
    """The same in all formats."""
    note = json.loads(OPENED[name](files[name])[1])
    result = json.loads((run / "result.json").read_text())
    assert (note["cell"], note["trained_on"]) == (CELL, "fake")
    assert note["size"] == {"channels": 4, "cells": 1, "num_classes": 5, "in_channels": 3, "image_size": 8}
    assert note["inputs"]["classes"] == ["class0", "class1", "class2", "class3", "class4"]
    assert note["judged"] == {"name": "accuracy", "unit": "%", "value": result["test_accuracy"], "on": "test images"}
    assert note["inputs"]["decoded_size"] == 8
    assert note == json.loads(of_safetensors(files["safetensors"])[1])


def test_an_onnx_file_is_whole_and_checked_by_onnx(files: dict[str, Path], tmp_path: Path) -> None:
    alone = shutil.copy(files["onnx"], tmp_path / "alone.onnx")  # nothing beside it that holds weights
    onnx.checker.check_model(str(alone), full_check=True)
    kinds = [node.op_type for node in onnx.load(str(alone)).graph.node]
    assert kinds.count("BatchNormalization") <= 1, "normalisation is folded into convolutions"
    assert kinds.count("Conv") == 1 + 3 * 3 + 2 * 3
    assert of_onnx(alone)[0](torch.zeros(2, 3, 8, 8)).shape == (2, 5)


def test_a_torch_program_holds_convolutions_and_one_normalisation(files: dict[str, Path]) -> None:
    with files["torch_export"].open("rb") as stream:
        program = torch.export.load(stream)
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert sum("batch_norm" in name for name in called) == 1
    assert sum("conv" in name for name in called) == 1 + 3 * 3 + 2 * 3


@pytest.mark.parametrize("name", SUFFIX)
def test_what_is_there_is_not_overwritten_unasked(
    darts: Darts, files: dict[str, Path], copied: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "mine"
    target.write_text("mine")
    line = ["export", f"run={copied}", f"format={name}", f"output={target}"]
    refused = darts(*line)
    assert refused.returncode == 2
    assert refused.stderr == f"darts: output: {target} is there already; give overwrite=true, or output=FILE\n"
    assert target.read_text() == "mine"
    assert darts(*line, "overwrite=true").returncode == 0
    assert OPENED[name](target)[0](torch.zeros(2, 3, 8, 8)).shape == (2, 5)
    before = target.read_bytes()

    def write(self: Format, network: nn.Module, about: About, path: Path) -> None:
        path.write_bytes(b"half of a file")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(type(formats()[name]), "write", write)
    broken = darts(*line, "overwrite=true")
    assert (broken.returncode, "No space left on device" in broken.stderr) == (2, True), broken.stderr
    assert target.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "run"}


@pytest.mark.parametrize("name", SUFFIX)
def test_a_file_that_says_something_else_is_not_kept(
    darts: Darts, copied: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = type(formats()[name])
    real = form.write

    def write(self: Format, network: nn.Module, about: About, path: Path) -> None:
        other = copy.deepcopy(network)
        with torch.no_grad():
            other.classifier.bias[3] += 0.001  # type: ignore[union-attr, index]
        real(self, other, about, path)

    monkeypatch.setattr(form, "write", write)
    done = darts("export", f"run={copied}", f"format={name}")
    assert done.returncode == 2
    assert f"format: the {name} file answers up to 0.001 off the model, more than 0.0001; it was not" in done.stderr
    assert list((copied / "exports").iterdir()) == []
    assert done.stdout == ""


def test_a_file_that_answers_with_no_number_is_not_kept(
    darts: Darts, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = type(formats()["safetensors"])
    real = form.write

    def write(self: Format, network: nn.Module, about: About, path: Path) -> None:
        other = copy.deepcopy(network)
        with torch.no_grad():
            other.classifier.bias.fill_(torch.nan)  # type: ignore[union-attr, operator]
        real(self, other, about, path)

    monkeypatch.setattr(form, "write", write)
    done = darts("export", f"run={copied}", "format=safetensors")
    assert (done.returncode, "answers up to nan off the model" in done.stderr) == (2, True), done.stderr
    assert list((copied / "exports").iterdir()) == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["format=tflite"], "format: got 'tflite'; allowed are onnx, safetensors, torch_export"),
        (["format=safetensors", "quantize=true"], "quantize: got true with format=safetensors; it is for format=onnx"),
        (["weights=worst"], "weights: got 'worst'; allowed are last, best"),
        (["run=null"], "run: darts export needs a trained network; give run=RUN_DIR"),
        (["run=nowhere"], "run: there is no nowhere; give the folder of a run, or a file of a model"),
    ],
)
def test_mistakes_are_named_and_nothing_is_left(darts: Darts, copied: Path, more: list[str], message: str) -> None:
    run = [] if more[0].startswith("run=") else [f"run={copied}"]
    done = darts("export", *run, *more)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(f"darts: {message}")
    assert not (copied / "exports").exists()


@pytest.mark.parametrize(
    ("name", "package"),
    [("onnx", "onnx"), ("onnx", "onnxscript"), ("onnx", "onnxruntime"), ("safetensors", "safetensors")],
)
def test_without_its_package_a_format_says_how_to_get_it(
    darts: Darts, copied: Path, name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    done = darts("export", f"run={copied}", f"format={name}")
    assert done.returncode == 2
    assert done.stderr == (
        f"darts: format={name} needs the package {package}; install it with: pip install 'darts-supernet[export]'\n"
    )
    assert not (copied / "exports").exists()


def test_the_best_epoch_where_images_were_held_out(darts: Darts, run: Path, copied: Path) -> None:
    file = copied / "checkpoints/best.pt"
    content = load_checkpoint(file)
    content["weights"]["classifier.bias"] += 1  # the best epoch may be the last one
    save_checkpoint(file, content)
    done = darts("export", f"run={copied}", "format=safetensors", "weights=best")
    assert done.returncode == 0, done.stderr
    assert "(images held out)" in done.stdout
    answer, note = of_safetensors(copied / "exports/model.safetensors")
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(answer(images), eager(copied, "best.pt")(images))
    result = json.loads((run / "result.json").read_text())
    best = max(record["watched"] for record in result["history"])
    assert json.loads(note)["judged"] == {"name": "accuracy", "unit": "%", "value": best, "on": "images held out"}


def test_where_nothing_was_held_out_there_is_no_best_epoch_and_all_images_give_the_normalisation(
    darts: Darts, tmp_path: Path
) -> None:
    words = ["retrain", f"cell={CELL}", "dataset=fake", "data.batch_size=32", *NETWORK, "recipe.epochs=1"]
    assert darts(*words, "run_dir=plain").returncode == 0
    done = darts("export", "run=plain", "format=safetensors", "weights=best")
    assert done.returncode == 2
    assert "run: plain holds no best.pt; nothing was held out to choose by; give weights=last" in done.stderr
    assert not (tmp_path / "plain/exports").exists()
    assert darts("export", "run=plain", "format=safetensors").returncode == 0
    inputs = json.loads(of_safetensors(tmp_path / "plain/exports/model.safetensors")[1])["inputs"]
    values = Fake().load_train().images_NCHW.double() / 255
    assert inputs["mean"] == pytest.approx(values.mean(dim=(0, 2, 3)).tolist(), abs=1e-6)
    assert inputs["deviation"] == pytest.approx(values.std(dim=(0, 2, 3), correction=0).tolist(), abs=1e-6)


def test_a_file_of_a_model_is_written_in_another_format(darts: Darts, files: dict[str, Path], tmp_path: Path) -> None:
    line = ["export", f"run={files['safetensors']}", "format=safetensors"]
    nowhere = darts(*line)
    assert (nowhere.returncode, "not the folder of a run; give output=FILE" in nowhere.stderr) == (2, True)
    assert darts(*line, "output=deep/inside/again.safetensors").returncode == 0
    assert (tmp_path / "deep/inside/again.safetensors").read_bytes() == files["safetensors"].read_bytes()


def test_the_cell_of_a_search_has_the_supernets_weights_and_says_so(darts: Darts, tmp_path: Path) -> None:
    words = ["method=plain", *TINY, "network.channels=2", "budget.steps=3", "monitor=[]", "oracle=none"]
    assert darts("search", *words, "run_dir=search").returncode == 0
    done = darts("export", "run=search", "format=safetensors")
    assert done.returncode == 0, done.stderr
    assert "inherited from the supernet of a search, on fake" in done.stdout
    assert "shared weights are a beginning; for a network to use: darts retrain run=RUN_DIR" in done.stdout
    path = tmp_path / "search/exports/model.safetensors"
    answer, note = of_safetensors(path)
    about = json.loads(note)
    assert about["origin"] == "inherited from the supernet of a search"
    assert about["cell"] == json.loads((tmp_path / "search/result.json").read_text())["cell"]
    with safe_open(str(path), framework="pt") as file:
        own = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    supernet = load_checkpoint(tmp_path / "search/checkpoints/last.pt")["state"]["network"]
    shared = [name for name in own if name in supernet]
    assert {"stem.0.weight", "classifier.weight", "layers.1.first.1.weight"} <= {*shared}
    assert all(torch.equal(own[name], supernet[name]) for name in shared if "running" not in name)
    # Statistics of the first normalisation: the means over the batches of one epoch after the search.
    search = build_search(compose_config("search", words), tmp_path / "search")
    search.resume()
    state = search.state
    batches = [state.task.train.next()[0] for _ in range(state.task.steps_per_epoch)]
    outputs = [torch.nn.functional.conv2d(images, own["stem.0.weight"], padding=1) for images in batches]
    means = torch.stack([one.mean(dim=(0, 2, 3)) for one in outputs]).mean(dim=0)
    variances = torch.stack([one.var(dim=(0, 2, 3)) for one in outputs]).mean(dim=0)
    torch.testing.assert_close(own["stem.1.running_mean"], means)
    torch.testing.assert_close(own["stem.1.running_var"], variances)
    # The accuracy that it reports, by a count of its own.
    with torch.no_grad():
        pairs = [(answer(images).argmax(dim=1), labels) for images, labels in state.task.evaluation_batches()]
    right = torch.cat([found == labels for found, labels in pairs])
    assert about["judged"]["value"] == pytest.approx(100 * float(right.double().mean()), abs=1e-9)


def test_an_unfinished_search_is_no_model(darts: Darts, tmp_path: Path) -> None:
    words = ["method=plain", *TINY, "network.channels=2", "budget.steps=3", "monitor=[]", "oracle=none"]
    assert darts("search", *words, "run_dir=search").returncode == 0
    (tmp_path / "search/result.json").unlink()
    done = darts("export", "run=search", "format=safetensors")
    assert (done.returncode, "run: search holds no result.json; finish it with" in done.stderr) == (2, True)


# In 8-bit integers


def test_an_int8_file_is_as_good_as_it_says(darts: Darts, copied: Path, run: Path) -> None:
    """By a count of its own over the test images, with onnxruntime."""
    done = darts("export", f"run={copied}", "quantize=true")
    assert done.returncode == 0, done.stderr
    int8, floats = copied / "exports/model.int8.onnx", copied / "exports/model.onnx"
    answer, note = of_onnx(int8)
    assert note == of_onnx(floats)[1]
    graph = onnx.load(str(int8)).graph
    weights = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8 and tensor.dims]
    assert sum(len(tensor.dims) == 4 for tensor in weights) == 1 + 3 * 3 + 2 * 3, "every convolution"
    test = Fake(**DATA).load_test()
    mean, deviation = (
        torch.tensor(json.loads(note)["inputs"][name])[:, None, None] for name in ("mean", "deviation")
    )  # fmt: skip
    inputs = (test.images_NCHW / 255 - mean) / deviation
    found = {name: one(inputs) for name, one in (("int8", answer), ("floats", of_onnx(floats)[0]))}
    right = {
        name: 100 * float((logits.argmax(dim=1) == test.labels_N).double().mean()) for name, logits in found.items()
    }
    said = re.search(r"accuracy +([\d.]+)%, ([\d.]+)% in floats: ([\d.]+) (lost|gained)  \(test images\)", done.stdout)
    assert said is not None, done.stdout
    lost = right["floats"] - right["int8"]
    assert said.groups() == (
        f"{right['int8']:.2f}", f"{right['floats']:.2f}", f"{abs(lost):.2f}", "lost" if lost >= 0 else "gained",
    )  # fmt: skip
    assert right["floats"] == pytest.approx(json.loads((run / "result.json").read_text())["test_accuracy"])
    gap = (found["int8"] - found["floats"]).abs()
    assert 1e-4 < gap.mean() < 0.2, "close to the floats, and not the floats"
    sizes = re.search(r"int8 +(\S+)  \((\d+\.\d\d) MB", done.stdout)
    assert sizes is not None
    assert sizes.groups() == (str(int8), f"{int8.stat().st_size / 1e6:.2f}")
    before = int8.read_bytes()
    with pytest.raises(UserError, match=r"quantize: .*model\.int8\.onnx is there already; give overwrite=true"):
        quantize(copied, floats)
    assert int8.read_bytes() == before
