"""Run folders, models, tables and images from somebody who means harm: nothing runs, nothing outside is written to, and
what they ask for is bounded. Each of these once went through."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from darts.blackbox.journal import line_of
from darts.blackbox.loop import Point, Run
from darts.blackbox.runs import finished_runs
from darts.cli import main
from darts.compare.summary import as_csv
from darts.oracle.analog import AnalogOracle
from darts.oracle.nats import NatsOracle
from darts.oracle.official import read_official
from darts.run.checkpoint import Damaged, load_checkpoint, save_checkpoint
from darts.run.errors import UserError
from darts.run.files import config_dir
from darts.run.folder import read_config
from darts.run.parts import build_part
from darts.search.result import CONFIG_KEYS
from darts.tasks.datasets.decoding import BadImage, decode
from darts.tasks.datasets.numbers import read_csv
from darts.tasks.datasets.reading import read_images
from darts.training.model import About, load_model
from supernet.spaces.cells import CellSpace

CELLS = {"_target_": "supernet.spaces.cells.CellSpace"}
SKIP = {"_target_": "supernet.relaxations.auxiliary_skip.AuxiliarySkip"}
TINY = ["dataset=fake", "method=plain", "network.channels=2", "network.cells=1", "budget.epochs=1", "oracle=none"]


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search") / "run"
    assert main(["search", *TINY, f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    cell = "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|none~0|none~1|nor_conv_1x1~2|"
    assert main(["retrain", f"cell={cell}", *TINY[:1], *TINY[2:4], "recipe.epochs=1", f"run_dir={folder}"]) == 0
    return folder


# --- parts of ours where they do not belong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "node",
    [
        CELLS | {"evil": {"_target_": "darts.training.executors.Ray", "make": "x", "workers": 1, "address": "ray://x:1"}},
        CELLS | {"operations": {"_target_": "darts.training.executors.Ray", "make": "x", "workers": 1}},
        SKIP | {"inner": {"_target_": "darts.search.discretizers.argmax.Argmax"}},
        SKIP | {"inner": {"_target_": "darts.blackbox.loop.BlackBox"}},
    ],
    ids=["unknown", "list", "discretizer", "search"],
)  # fmt: skip
def test_a_part_inside_a_part_is_what_belongs_there(node: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("darts.training.executors.Ray", "darts.search.discretizers.argmax.Argmax"):
        monkeypatch.setattr(f"{name}.__init__", lambda *args, **options: pytest.fail("it was made"))
    with pytest.raises(UserError, match="which does not belong there"):
        build_part(node, "space" if node["_target_"] == CELLS["_target_"] else "relaxation")


def test_the_command_runs_where_it_is_asked_to_alone() -> None:
    program = "import sys; sys.argv[1:] = ['--version']; import darts.__main__; print('it goes on')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "it goes on\n"


# --- links --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["search resume=", "retrain resume=", "export run="])
def test_a_finished_run_is_not_completed_through_a_link(
    command: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, option = command.split()
    folder = shutil.copytree(request.getfixturevalue("search" if name == "search" else "trained"), tmp_path / "run")
    inside = folder / ("exports" if name == "export" else "figures")
    shutil.rmtree(inside, ignore_errors=True)
    victim = tmp_path / "victim"
    victim.mkdir()
    inside.symlink_to(victim)
    assert main([name, f"{option}{folder}"]) == 2
    assert f"{inside} is a link to {victim}, and a run writes inside" in capsys.readouterr().err
    assert not list(victim.iterdir())


@pytest.mark.parametrize("name", ["search", "retrain"])
def test_nothing_is_fetched_because_a_folder_says_so(
    name: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = shutil.copytree(request.getfixturevalue("trained" if name == "retrain" else "search"), tmp_path / "run")
    (folder / "result.json").unlink()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["dataset"] = yaml.safe_load((config_dir() / "dataset" / "cifar10.yaml").read_text())
    config["dataset"] |= {"root": str(tmp_path / "victim"), "download": True}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **options: pytest.fail("a download was tried"))
    assert main([name, f"resume={folder}"]) == 2
    again = f"darts data dataset=cifar10 dataset.root={tmp_path / 'victim'} dataset.download=true"
    assert again in capsys.readouterr().err
    assert not (tmp_path / "victim").exists()


def test_links_that_lead_to_each_other_are_refused(search: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(search, tmp_path / "run")
    (folder / "loop").symlink_to("loop")
    assert main(["search", f"resume={folder}"]) == 2


# --- configs ------------------------------------------------------------------------------------------------------

BOMB = "l0: &l0 {a: 1}\n" + "".join(f"l{n}: &l{n} {{l: *l{n - 1}, r: *l{n - 1}}}\n" for n in range(1, 40))


@pytest.mark.parametrize(
    "text", ["when: 2026-99-99\n", BOMB, "me: &me {again: *me}\n", 'label: "\\e[2J"\n', "x: " + "[" * 5000],
    ids=["date", "aliases", "itself", "terminal", "deep"],
)  # fmt: skip
def test_a_config_of_odd_values_is_refused(text: str, search: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(search, tmp_path / "run")
    config = (folder / "config.yaml").read_text().replace("label: plain\n", "")
    (folder / "config.yaml").write_text(config + text)
    with pytest.raises(UserError, match=r"config\.yaml cannot be read"):
        read_config(folder, "search", CONFIG_KEYS)
    assert main(["compare", str(folder), "oracle=none", f"run_dir={tmp_path / 'out'}"]) == 2


@pytest.mark.parametrize("change", [{"space": 5}, {"dataset": {"_target_": 5}}, {"space": {"_target_": 5}}], ids=str)
def test_a_config_without_parts_ends_commands_with_a_message(
    change: dict[str, Any], search: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(search, tmp_path / "run")
    config = yaml.safe_load((folder / "config.yaml").read_text()) | change
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["compare", str(folder), "oracle=none", f"run_dir={tmp_path / 'out'}"]) in (0, 2)
    assert main(["search", f"resume={folder}"]) in (0, 2)
    (folder / "result.json").unlink()
    assert main(["search", f"resume={folder}"]) == 2


@pytest.mark.parametrize("change", [{"phases": 5}, {"identity": None}, {"state": []}, {"space": None}], ids=str)
def test_a_checkpoint_of_odd_values_ends_commands_with_a_message(
    change: dict[str, Any], search: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(search, tmp_path / "run")
    (folder / "result.json").unlink()
    file = folder / "checkpoints/last.pt"
    save_checkpoint(file, {key: value for key, value in (load_checkpoint(file) | change).items() if value is not None})
    assert main(["search", f"resume={folder}"]) == 2
    assert main(["derive", f"run={folder}"]) in (0, 2)


def test_a_record_without_a_cell_ends_derive_with_a_message(search: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(search, tmp_path / "run")
    content = json.loads((folder / "result.json").read_text())
    for change in (
        {"history": [{}]},
        {"history": [{"cell": 1}]},
        {"history": [{"epoch": 1, "cell": "a", "alphas": {}}]},
    ):
        (folder / "result.json").write_text(json.dumps(content | change))
        assert main(["derive", f"run={folder}"]) in (0, 2)
        assert main(["derive", f"run={folder}", "discretizer=argmax"]) == 2


def test_runs_of_odd_values_are_refused(tmp_path: Path) -> None:
    right = asdict(Run(0, [Point(1, 1.0, 0, 2.0, "a")], 1, seconds=[1.0, 2.0]))
    for change in ({}, {"seconds": []}, {"seed": "0"}, {"trajectory": [{"cell": "a"}]}, {"cost": float("nan")}):
        (tmp_path / "runs.jsonl").write_text(line_of(right | change))
        if not change:
            assert finished_runs(tmp_path)[0].seconds == [1.0, 2.0]
            continue
        with pytest.raises(UserError, match="is not what darts baseline writes"):
            finished_runs(tmp_path)


def test_a_table_without_wanted_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"dataset.columns: got \[\]; give some of a, b"):
        read_csv(tmp_path / "a.csv", [], "dataset")


# --- what is shown ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["\x1b]0;owned\x07", "a\ud800", "\x9b2J"], ids=["title", "half", "c1"])
def test_texts_that_do_something_to_a_terminal_are_refused(text: str, search: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(search, tmp_path / "run")
    content = json.loads((folder / "result.json").read_text())
    content["history"][0]["cell"] = content["searched_on"] = text
    (folder / "result.json").write_text(json.dumps(content))
    assert main(["derive", f"run={folder}"]) == 2
    assert main(["compare", str(folder), "oracle=none", f"run_dir={tmp_path / 'out'}"]) == 2


def test_labels_are_no_markup_and_no_formulas(
    search: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(search, tmp_path / "run")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"label": "=x[/x][red]"}))
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["compare", str(folder), "oracle=none", f"run_dir={tmp_path / 'out'}"]) == 0
    assert "=x[/x][red]" in capsys.readouterr().out
    assert "\n'=x[/x][red]," in (tmp_path / "out/compare.csv").read_text()
    assert as_csv([{"method": "-a", "value": -1.5}]) == "method,value\n'-a,-1.5\n"


# --- images -------------------------------------------------------------------------------------------------------


def test_no_image_is_handed_to_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostScript is a language; Pillow would ask Ghostscript."""
    log, script = tmp_path / "log", tmp_path / "bin/gs"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\necho asked >> {log}\n")
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    image = tmp_path / "a.png"
    image.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(BadImage, match="no image of a known format"):
        decode(image, 8)
    assert not log.exists()


def test_pipes_and_devices_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    read = read_images([tmp_path / "a.png", tmp_path / "b.png"], 8)
    assert read.bad == dict.fromkeys([0, 1], "no file, but a pipe or a device")
    with pytest.raises(UserError, match="a pipe or a device"):
        read_csv(tmp_path / "a.png", None, "dataset")


# --- tables, checkpoints, models ----------------------------------------------------------------------------------


def peak(function: Callable[[], object]) -> int:
    """Bytes of Python's at most, meanwhile; what is raised has to be ours."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError):
            function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", [b"\x80\x02K\x01r\xff\xff\xff\x0f.", b"\x80\x04\x95" + b"\xff" * 8])
def test_a_table_of_some_bytes_does_not_ask_for_gigabytes(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "table.pth"
    file.write_bytes(content)
    assert peak(lambda: AnalogOracle(str(file)).load(CellSpace())) < 2**26
    assert peak(lambda: read_official(file)) < 2**26


def test_a_packed_table_is_not_unpacked_to_any_size(tmp_path: Path) -> None:
    file = tmp_path / "bomb.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**26,)})
        archive.writestr("columns.npy", header.getvalue() + bytes(2**29))
    assert file.stat().st_size < 2**20
    assert peak(lambda: NatsOracle(str(file)).load(CellSpace())) < 2**26


def test_a_tensor_has_the_elements_that_it_says(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", {"images": torch.zeros(1).as_strided((6, 1, 40_000, 40_000), (0, 0, 0, 0))})
    with pytest.raises(Damaged, match="cannot be read"):
        load_checkpoint(tmp_path / "a.pt")
    save_checkpoint(tmp_path / "b.pt", {"half": torch.arange(6)[::2], "none": [torch.empty(0)]})
    assert load_checkpoint(tmp_path / "b.pt")["half"].tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": {}, "size": {"num_classes": 10**12}}, r"do not fit the network that it describes .* has the shape"),
        ({"inputs": {"decoded_size": 30_000}}, "decoded_size: 30000"),
        ({"inputs": {"mean": [10**400] * 3}}, "is no model of this program"),
        ({"judged": 5}, "about, judged: got 5"),
        ({"origin": 5}, "about, origin: got 5, not str"),
        ({"inputs": {"classes": ["\x1b[2J"] * 10}}, "control characters"),
    ],
)
def test_a_model_is_as_large_as_its_weights(
    change: dict[str, Any], message: str, trained: Path, tmp_path: Path
) -> None:
    content = load_checkpoint(trained / "checkpoints/model.pt")
    about: dict[str, Any] = content["about"]
    for key, value in change.items():
        about[key] = about[key] | value if value and isinstance(value, dict) else value
    save_checkpoint(tmp_path / "model.pt", content)
    with pytest.raises(UserError, match=message):
        load_model(tmp_path / "model.pt", "model")
    assert isinstance(load_model(trained / "checkpoints/model.pt", "model").about, About)
