"""From settings to a search: what is refused and how, what is never executed, and searches that run in this process."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from darts.cli import main
from darts.run.errors import UserError
from darts.run.parts import build_part
from supernet.spaces.cells import CellSpace

TINY = [
    "dataset=fake",
    "network.channels=2",
    "data.batch_size=32",
    "method=plain",
    "monitor=[]",
    "oracle=none",
    "space.num_nodes=2",
]
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of 6 steps, epochs of 4."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(["search", *TINY, "budget.steps=6", f"run_dir={folder}"]) == 0
    return folder


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file with its hash and its time."""
    return {
        path.relative_to(folder).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("override", "named"),
    [
        # wrong types
        ("weight_step.lr=abc", "weight_step.lr"),
        ("arch_step.betas=[a,b]", "arch_step.betas"),
        ("network.channels=x", "network.channels"),
        ("+network.depth=3", "network.depth"),
        ("data.split=half", "data.split"),
        ("data.batch_size=null", "data.batch_size"),
        ("discretizer.exclude=none", "discretizer.exclude"),
        ("phases.bilevel=null", "phases.bilevel"),
        ("budget.steps=1.5", "budget.steps"),
        ("plugins=null", "plugins"),
        ("seed=1.5", "seed"),
        ("seed=null", "seed"),
        # a section that is no section
        ("budget=null", "budget"),
        ("phases=5", "phases"),
        ("~seed", "seed"),
        ("~relaxation", "relaxation"),
        # sizes and ranges
        ("seed=-1", "seed"),
        ("seed=99999999999999999999", "seed"),
        ("network.channels=0", "network.channels"),
        ("network.cells=0", "network.cells"),
        ("space.num_nodes=1", "space.num_nodes"),
        ("space.operations=[]", "space.operations"),
        ("space.operations=[none,maxpool]", "maxpool"),
        ("dataset.image_size=0", "dataset.image_size"),
        # what no machine holds, said before it is made
        ("network.channels=1000000", "network.channels, cells: got channels=1000000"),
        ("network.cells=100000", "network.cells: got 100000; give 1 to 1000 cells a stage"),
        ("network.channels=60000", "the weights and what trains them alone would take"),
        ("network.channels=10000000000", "channels=10000000000, cells=1; no network is as large"),
        ("space.num_nodes=100000", "space.num_nodes: got 100000; give 2 to 16 nodes"),
        ("dataset.image_size=1000000", "dataset.image_size: got 1000000; a batch of 64 images alone would take"),
        ("data.split=0", "data.split"),
        ("data.split=1", "data.split"),
        ("data.split=1.5", "data.split"),
        ("data.split=nan", "data.split"),
        ("data.batch_size=0", "data.batch_size"),
        ("data.batch_size=129", "data.batch_size"),
        ("weight_step.lr=-1", "weight_step.lr"),
        ("weight_step.momentum=2", "weight_step.momentum"),
        ("arch_step.lr=0", "arch_step.lr"),
        ("+arch_step.own={beta_E: {lr: 0.1}}", "arch_step.own"),
        ("+arch_step.own={alpha_EO: {momentum: 0.1}}", "arch_step.own"),
        ("relaxation.temperature=0", "relaxation.temperature"),
        ("phases.bilevel.share=-1", "phases.bilevel.share"),
        ("phases.bilevel.share=0", "phases"),
        ("engine.threads=0", "engine.threads"),
        ("engine.checkpoint_minutes=-1", "engine.checkpoint_minutes"),
        ("discretizer.exclude=[max]", "discretizer.exclude"),
        # budgets: none, two, too small
        ("budget.epochs=2", "budget"),
        ("budget.steps=0", "budget.steps"),
        ("device=gpu", "device"),
        ("device=meta", "device"),
        ("extend=true", "extend"),
        ("oracle=csv", "oracle.path"),
    ],
)
def test_a_wrong_value_ends_with_a_message_that_names_the_option(
    override: str, named: str, refused: Refused, tmp_path: Path
) -> None:
    message = refused("search", *TINY, "budget.steps=2", f"run_dir={tmp_path / 'run'}", override)
    assert named in message
    assert len(message.splitlines()) == 1, "one clear message"
    assert list(tmp_path.iterdir()) == [], "a run that never began leaves no folder"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["auxiliary_skip", "relaxation.inner.temperature=0"], "relaxation.inner.temperature: got 0;"),
        (
            ["auxiliary_skip", "relaxation.inner.temperature=warm"],
            "relaxation.inner.temperature: got 'warm'; give a number",
        ),
        (
            ["partial_channels", "relaxation.k=3"],
            "relaxation: it splits channels by 3; give a divisor of network.channels=",
        ),
    ],
)
def test_a_wrong_value_of_a_part_within_a_part_is_named_by_its_path(
    words: list[str], message: str, refused: Refused, tmp_path: Path
) -> None:
    words = [f"relaxation={words[0]}", *words[1:]]
    assert message in refused("search", *TINY, "budget.steps=2", f"run_dir={tmp_path / 'run'}", *words)
    assert list(tmp_path.iterdir()) == []


def test_parts_within_parts_are_of_allowed_packages_too() -> None:
    inner = {"_target_": "subprocess.Popen", "args": "true"}
    settings = {"_target_": "supernet.relaxations.auxiliary_skip.AuxiliarySkip", "inner": inner}
    with pytest.raises(UserError, match=r"relaxation.inner._target_: 'subprocess.Popen' is not a class of darts"):
        build_part(settings, "relaxation")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["budget.images=63"], ["budget.images", "63", "64"]),  # a first-order step counts 2 B
        (["budget.images=159", "arch_step=unrolled"], ["budget.images", "159", "160"]),  # an unrolled one 5 B
        (["budget.epochs=0"], ["budget.epochs", "0"]),
        (["budget.seconds=0"], ["budget.seconds", "0"]),
        (["budget.seconds=-1.5"], ["budget.seconds", "-1.5"]),
        (["budget.epochs=null"], ["budget", "epochs", "steps", "images", "seconds"]),
        (["budget.epochs=2", "budget.seconds=3"], ["epochs=2", "seconds=3", "exactly one"]),
        (["budget.steps=2", "budget.images=640"], ["steps=2", "images=640", "exactly one"]),
    ],
)
def test_exactly_one_sufficient_budget_is_wanted(
    words: list[str], parts: list[str], refused: Refused, tmp_path: Path
) -> None:
    message = refused("search", *TINY, f"run_dir={tmp_path / 'run'}", *words)
    assert [part for part in parts if part not in message] == []
    assert list(tmp_path.iterdir()) == []


def test_all_problems_are_reported_at_once(refused: Refused, tmp_path: Path) -> None:
    wrong = {
        "weight_step.lr": "abc",
        "weight_step.momentum": "x",
        "arch_step.lr": "-1",
        "relaxation.temperature": "0",
        "data.split": "2",
        "network.channels": "0",
        "discretizer.exclude": "[max]",
        "budget.steps": "0",
        "engine.order": "both",
        "device": "gpu",
        "seed": "-1",
        "phases.bilevel.share": "-2",
    }
    message = refused("search", *TINY, f"run_dir={tmp_path / 'run'}", *(f"{key}={v}" for key, v in wrong.items()))
    assert [key for key in wrong if key not in message] == []
    assert len(message.splitlines()) >= 10
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_that_holds_a_run_is_left_as_it_is(finished: Path, refused: Refused) -> None:
    before = contents(finished)
    message = refused("search", *TINY, "budget.steps=3", f"run_dir={finished}")
    assert "run_dir" in message
    assert f"resume={finished}" in message
    assert contents(finished) == before


def test_a_run_that_never_ended_is_not_overwritten_either(finished: Path, refused: Refused, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    before = contents(tmp_path / "run")
    assert "run_dir" in refused("search", *TINY, "budget.steps=3", f"run_dir={tmp_path / 'run'}")
    assert contents(tmp_path / "run") == before


def test_a_run_folder_that_cannot_be_written_is_named(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("precious")
    for folder in ("/proc/x", tmp_path / "taken", tmp_path / "taken" / "below"):
        message = refused("search", *TINY, "budget.steps=2", f"run_dir={folder}")
        assert "run_dir" in message
        assert str(folder) in message
    assert (tmp_path / "taken").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_an_empty_run_folder_is_a_mistake_and_not_the_folder_one_stands_in(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "run_dir" in refused("search", *TINY, "budget.steps=2", "run_dir=")
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_leaves_the_other_files_of_a_folder_alone(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "figures").mkdir()
    refused("search", *TINY, "budget.steps=0", f"run_dir={tmp_path}")
    assert {path.name: path.is_dir() for path in tmp_path.iterdir()} in (
        {"notes.txt": False, "figures": True},
        {"notes.txt": False},
    )


def test_a_loss_that_is_not_finite_stops_at_once_and_keeps_the_last_good_checkpoint(
    refused: Refused, tmp_path: Path
) -> None:
    import torch

    folder = tmp_path / "run"
    words = ["engine.checkpoint_minutes=0", "budget.steps=50", "weight_step.lr=1e30", f"run_dir={folder}"]
    message = refused("search", *TINY, *words)
    assert "weight_step.lr" in message
    assert "step" in message
    assert "loss" in message or "weight" in message
    assert not (folder / "result.json").exists()
    state = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["state"]
    assert state["step"] < 10
    assert all(bool(value.isfinite().all()) for value in state["network"].values() if value.is_floating_point())


# --- what stands in a run folder is never believed ------------------------------------------------------------


def with_config(source: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a run that has not ended, with another config."""
    shutil.copytree(source, folder)
    (folder / "result.json").unlink()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    change(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


TARGETS = [
    "os.system",
    "subprocess.Popen",
    "builtins.eval",
    "darts.run.files.os.system",
    "darts.cli.main",
    "supernet.cell.torch.load",
    "supernet.operations.nn.Module",
    "hydra.utils.instantiate",
    "darts",
    "",
]


@pytest.mark.parametrize(
    ("part", "target"),
    [
        *(("relaxation", target) for target in TARGETS),
        *((part, "os.system") for part in ("phases.bilevel", "monitor.x", "oracle")),
    ],
)
def test_a_target_outside_the_allowed_packages_is_refused_and_nothing_is_executed(
    part: str, target: str, finished: Path, refused: Refused, tmp_path: Path
) -> None:
    marker = tmp_path / "executed"
    group, _, name = part.partition(".")

    def poison(config: dict[str, Any]) -> None:
        node = {"_target_": target, "_args_": [f"touch {marker}"], "command": f"touch {marker}", "args": ["touch"]}
        config.setdefault(group, {})
        config[group] = {**(config[group] or {}), name: node} if name else node

    folder = with_config(finished, tmp_path / "run", poison)
    before = contents(folder)
    message = refused("search", f"resume={folder}")
    assert f"{part}._target_: {target!r}" in message
    if part == "relaxation":
        assert f"{part}._target_: {target!r}" in refused("derive", f"run={folder}", ANEW)
    assert contents(folder) == before
    assert not marker.exists()


@pytest.mark.parametrize("key", ["temperature", "_partial_", "_args_", "_recursive_"])
def test_a_target_hidden_in_an_argument_is_not_executed(
    key: str, finished: Path, refused: Refused, tmp_path: Path
) -> None:
    marker = tmp_path / "executed"
    node = {"_target_": "os.system", "command": f"touch {marker}"}
    folder = with_config(
        finished, tmp_path / "run", lambda c: c["relaxation"].update({key: [node] if key == "_args_" else node})
    )
    assert main(["search", f"resume={folder}"]) in (0, 2)
    assert not marker.exists()


def test_python_tags_in_a_config_are_not_executed(finished: Path, refused: Refused, tmp_path: Path) -> None:
    folder = with_config(finished, tmp_path / "run", lambda config: None)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(f"x: !!python/object/apply:os.system ['touch {tmp_path}/executed']\n{text}")
    for words in (["search", f"resume={folder}"], ["derive", f"run={folder}"]):
        assert str(folder) in refused(*words)
    assert not (tmp_path / "executed").exists()


def test_a_pickle_in_the_place_of_a_checkpoint_is_not_executed(
    finished: Path, refused: Refused, tmp_path: Path
) -> None:
    import os

    import torch

    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {tmp_path}/executed",)

    folder = with_config(finished, tmp_path / "run", lambda config: None)
    torch.save({"schema_version": 1, "state": Bomb()}, folder / "checkpoints" / "last.pt")
    (folder / "checkpoints" / "last-1.pt").unlink()
    for words in (["search", f"resume={folder}"], ["derive", f"run={folder}"]):
        assert str(folder) in refused(*words)
    assert not (tmp_path / "executed").exists()


ANEW = "discretizer.exclude=[none]"  # asks for another cell than the one on record, so that parts are built


def test_plug_ins_named_in_a_run_folder_are_not_imported(
    finished: Path, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sleeper.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'executed')!r}).touch()\n")
    monkeypatch.syspath_prepend(tmp_path)

    def poison(config: dict[str, Any]) -> None:
        config["plugins"] = ["sleeper"]
        config["relaxation"] = {"_target_": "sleeper.Relaxation"}

    folder = with_config(finished, tmp_path / "run", poison)
    for words in (["search", f"resume={folder}"], ["derive", f"run={folder}", ANEW]):
        assert "plugins=[sleeper]" in refused(*words)
    assert not (tmp_path / "executed").exists()


def test_interpolations_in_a_run_folder_are_text(
    finished: Path, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "none")
    folder = with_config(
        finished, tmp_path / "run", lambda config: config["relaxation"].update(init_scale="${oc.env:SECRET}")
    )
    assert "relaxation.init_scale: got '${oc.env:SECRET}'" in refused("derive", f"run={folder}", ANEW)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.update(space=5),
        lambda config: config.update(network=None),
        lambda config: config.update(budget={}),
        lambda config: config.pop("discretizer"),
        lambda config: config.pop("weight_step"),
        lambda config: config.update(seed=None),
        lambda config: config.clear(),
    ],
    ids=["space", "network", "budget", "no discretizer", "no weight_step", "seed", "empty"],
)
def test_a_config_that_was_edited_badly_ends_with_a_message(
    change: Callable[[dict[str, Any]], None], finished: Path, refused: Refused, tmp_path: Path
) -> None:
    folder = with_config(finished, tmp_path / "run", change)
    before = contents(folder)
    refused("search", f"resume={folder}")
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("phases.finalists.channels=60000", "phases.finalists.channels, cells: got channels=60000"),
        ("phases.finalists.cells=100000", "phases.finalists.cells: got 100000; give 1 to 1000 cells a stage"),
        ("phases.finalists.together=1000", "phases.finalists.together: got 1000; give 1 to"),
    ],
)
def test_networks_of_phases_are_bounded_too(word: str, message: str, refused: Refused, tmp_path: Path) -> None:
    words = [*TINY, "budget.steps=2", f"run_dir={tmp_path / 'run'}", "phases.finalists.share=1", word]
    assert message in refused("search", *words)


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("relaxation", "darts.search.discretizers.argmax.Argmax"),
        ("discretizer", "supernet.relaxations.softmax.Softmax"),
        ("space", "darts.tasks.datasets.fake.Fake"),
        ("dataset", "darts.search.loop.Search"),
        ("task", "darts.tasks.datasets.fake.Fake"),
        ("oracle", "darts.run.parts.Problems"),
        ("weight_step", "darts.search.arch_steps.first_order.FirstOrder"),
        ("phases.bilevel", "darts.search.discretizers.argmax.Argmax"),
    ],
)
def test_a_class_of_ours_in_the_wrong_place_is_refused(
    place: str, target: str, finished: Path, refused: Refused, tmp_path: Path
) -> None:
    def change(config: dict[str, Any]) -> None:
        node = config
        for key in place.split("."):
            node = node.setdefault(key, {})
        node["_target_"] = target

    folder = with_config(finished, tmp_path / "run", change)
    group = place.split(".")[0]
    assert f"{place}._target_: '{target}' is no {group}; choose one, {group}=NAME" in refused(
        "search", f"resume={folder}"
    )


# --- searches that run here -----------------------------------------------------------------------------------


def test_a_part_of_the_data_with_an_awkward_name_can_be_read(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    root = tmp_path / "my ${photos}, a=b (é) 'q' \\n"
    for name in ("cats", "dogs"):
        (root / "train" / name).mkdir(parents=True)
        for number in range(8):
            pixels = np.full((8, 8, 3), 10 * number, dtype=np.uint8)
            Image.fromarray(pixels).save(root / "train" / name / f"{number}.png")
    words = ["dataset=image_folder", f"dataset.root={root}", "dataset.image_size=8", "data.batch_size=4"]
    assert main(["search", *TINY, *words, "budget.steps=1", f"run_dir={tmp_path / 'run'}"]) == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["dataset"]["root"] == str(root)


def test_an_oracle_that_cannot_be_read_costs_no_result(refused: Refused, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_bytes(b"\x00\xff not a table at all")
    words = ["oracle=csv", f"oracle.path={table}", "space.num_nodes=4", "budget.steps=1"]
    message = refused_after_search(words, tmp_path / "run")
    assert "oracle.path" in message
    assert str(table) in message
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert CellSpace().parse(result["cell"])
    assert result["oracle"] is None


def refused_after_search(words: list[str], folder: Path) -> str:
    import contextlib
    import io

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert main(["search", *TINY, *words, f"run_dir={folder}"]) == 2
    assert "|" in out.getvalue(), "the cell that was found is shown all the same"
    assert "Traceback" not in err.getvalue()
    return err.getvalue()


LATE = '''
"""A table that must not be asked before the last step is done, and a monitor that knows when that is."""
from darts.search.monitors.base import Monitor
from darts.oracle.base import Oracle

steps = []


class Count(Monitor):
    """Counts steps."""

    def on_step(self, search, numbers):
        steps.append(search.state.step)


class Late(Oracle):
    """Raises until the last step is done."""

    def __init__(self, planned: int) -> None:
        self.planned = planned

    def check(self):
        assert not steps

    def load(self, space):
        if len(steps) < self.planned:
            raise RuntimeError(f"asked after {len(steps)} steps")
        steps.append("asked")
        return None
'''


@pytest.fixture
def late_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import importlib
    import sys

    package = tmp_path / "plugins" / "late_table"
    for group, name, text in (
        ("oracle", "late", "_target_: late_table.Late\nplanned: 3\n"),
        ("monitor", "count", "# @package monitor.count\n_target_: late_table.Count\n"),
    ):
        (package / "configs" / group).mkdir(parents=True)
        (package / "configs" / group / f"{name}.yaml").write_text(text)
    (package / "__init__.py").write_text(LATE)
    monkeypatch.syspath_prepend(package.parent)
    yield importlib.import_module("late_table")
    sys.modules.pop("late_table")


def test_a_search_never_asks_the_table_before_its_last_step(late_table: Any, tmp_path: Path) -> None:
    words = ["plugins=[late_table]", "oracle=late", "monitor=count", "space.num_nodes=4", "budget.steps=3"]
    assert main(["search", *TINY, *words, f"run_dir={tmp_path / 'run'}"]) == 0
    assert late_table.steps == [1, 2, 3, "asked"]


@pytest.mark.slow
def test_a_search_on_real_images_ends_with_a_cell_of_the_space(data_dir: Path, tmp_path: Path) -> None:
    words = ["dataset=image_folder", f"dataset.root={data_dir / 'cifar10-small'}", "dataset.image_size=16"]
    words += [
        "network.channels=4",
        "data.batch_size=64",
        "budget.steps=4",
        f"run_dir={tmp_path / 'run'}",
        "method=plain",
        "monitor=[]",
    ]
    assert main(["search", *words, f"oracle.path={data_dir / 'nb201-cifar10.csv'}"]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert str(CellSpace().parse(result["cell"])) == result["cell"]
    assert (result["steps"], result["images"], result["searched_on"]) == (4, 4 * 2 * 64, "cifar10-small")
    assert {(row["dataset"], row["split"], row["epochs"]) for row in result["oracle"]["rows"]} == {
        ("cifar10", split, epochs) for split in ("valid", "test") for epochs in (12, 200)
    }
    assert result["oracle"]["table"] == "nb201-cifar10"
