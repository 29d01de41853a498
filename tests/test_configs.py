"""Conformance of every YAML file under configs/, found by globbing: a new file is tested with no edit here."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.utils import get_class

from darts.blackbox.methods.base import Baseline
from darts.command.compare import SHARED
from darts.command.config import compose_config
from darts.run.parts import build_one, build_part
from darts.search.build import build_search
from darts.tasks.datasets.base import Source
from darts.training.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
PRIMARY = sorted(CONFIGS.glob("*.yaml"))
CHOICES = sorted(CONFIGS.glob("*/**/*.yaml"))
TINY = ["dataset=fake", "network.channels=4", "network.cells=1", "data.batch_size=16", "monitor=[]", "oracle=none"]
# The published settings: "Common" and a row a method.
COMMON: dict[str, Any] = {
    "network.channels": 16,
    "network.cells": 5,
    "data.split": 0.5,
    "data.batch_size": 64,
    "relaxation.init_scale": 1e-3,
    "weight_step.momentum": 0.9,
    "dataset.image_size": 32,
    "dataset.crop_padding": 4,
    "dataset.flip": True,
    "regularizer": None,
}
DARTS: dict[str, Any] = {
    "relaxation._target_": "supernet.relaxations.softmax.Softmax",
    "budget": {"epochs": 50, "steps": None, "images": None, "seconds": None},
    "weight_step.lr": 0.025,
    "weight_step.lr_min": 0.001,
    "weight_step.nesterov": True,
    "weight_step.weight_decay": 5e-4,
    "arch_step.lr": 3e-4,
    "arch_step.betas": [0.5, 0.999],
    "arch_step.weight_decay": 1e-3,
    "engine.order": "architecture_first",
}


def row(relaxation: str, epochs: int, weight_decay: float = 3e-4) -> dict[str, Any]:
    """What most rows differ in; their gradients are clipped to 5."""
    return {
        "relaxation._target_": f"supernet.relaxations.{relaxation}",
        "budget": {"epochs": epochs, "steps": None, "images": None, "seconds": None},
        "weight_step.weight_decay": weight_decay,
        "weight_step.grad_clip": 5,
        "arch_step._target_": "darts.search.arch_steps.first_order.FirstOrder",
    }


PUBLISHED: dict[str, dict[str, Any]] = {
    "darts_v1": DARTS
    | {"arch_step._target_": "darts.search.arch_steps.first_order.FirstOrder", "weight_step.grad_clip": None},
    "darts_v2": DARTS
    | {
        "arch_step._target_": "darts.search.arch_steps.unrolled.Unrolled",
        "arch_step.radius": 1e-2,
        "arch_step.exact_nesterov": False,
        "weight_step.grad_clip": 5,
    },
    "gdas": DARTS
    | row("gdas.GDAS", 250, weight_decay=5e-4)
    | {"relaxation.temperature": 10.0, "relaxation.temperature_end": 0.1},
    "drnas": DARTS
    | row("dirichlet.Dirichlet", 100)
    | {
        "weight_step.nesterov": None,
        "arch_step.weight_decay": None,
        "regularizer": {
            "dirichlet_anchor": {
                "_target_": "darts.search.regularizers.dirichlet_anchor.DirichletAnchor",
                "weight": 1e-3,
            }
        },
    },
    "beta_darts": DARTS
    | row("softmax.Softmax", 100)
    | {"regularizer": {"beta_decay": {"_target_": "darts.search.regularizers.beta_decay.BetaDecay", "weight": 50.0}}},
    "pc_darts": DARTS
    | row("partial_channels.PartialChannels", 50)
    | {
        "relaxation.init_scale": None,
        "relaxation.inner.init_scale": 1e-3,
        "relaxation.k": 4,
        "relaxation.edge_normalisation": True,
        "data.batch_size": 256,
        "weight_step.lr": 0.1,
        "weight_step.lr_min": None,
        "weight_step.nesterov": None,
        "arch_step.lr": 6e-4,
        "phases.warm_up.share": 15,
        "phases.bilevel.share": 35,
    },
    "darts_minus": DARTS
    | row("auxiliary_skip.AuxiliarySkip", 50)
    | {"relaxation.init_scale": None, "relaxation.inner.init_scale": 1e-3, "relaxation.end": 0.98},
    "enas": DARTS
    | row("gdas.GDAS", 250, weight_decay=2.5e-4)
    | {
        "data.batch_size": 128,
        "weight_step.lr": 0.05,
        "weight_step.lr_min": 0.0005,
        "arch_step._target_": "darts.search.arch_steps.reinforce.Reinforce",
        "arch_step.lr": 1e-3,
        "arch_step.betas": [0.0, 0.999],
        "arch_step.weight_decay": None,
    },
    "spos": DARTS
    | row("single_path.SinglePath", 250, weight_decay=5e-4)
    | {"phases.warm_up.share": 9, "phases.bilevel.share": None, "phases.evolution.share": 1},
}


PUBLISHED["lambda_darts"] = (
    DARTS
    | row("softmax.Softmax", 100)
    | {
        "arch_step._target_": "darts.search.arch_steps.aligned.Aligned",
        "arch_step.weight": 0.25,
        "arch_step.epsilon": 1e-4,
        "arch_step.lr": 1e-4,
    }
)
PUBLISHED["darts_pt"] = DARTS | row("softmax.Softmax", 125) | {"phases.bilevel.share": 4, "phases.projection.share": 1}
PUBLISHED["is_darts"] = (
    DARTS
    | row("softmax.Softmax", 30)
    | {
        "phases.warm_up.share": 22,
        "phases.bilevel.share": None,
        "phases.information_pruning.share": 8,
        "data.split": 0.9,
        "relaxation.init_scale": None,
        "weight_step.grad_clip": None,
    }
)
PUBLISHED["sdarts"] = (
    DARTS
    | row("softmax.Softmax", 50, weight_decay=5e-4)
    | {"weight_step._target_": "darts.search.weight_steps.perturbed.PerturbedSGD", "weight_step.epsilon_end": 0.3}
)
PUBLISHED["fairnas"] = (
    DARTS
    | row("fair_paths.FairPaths", 250, weight_decay=5e-4)
    | {"phases.warm_up.share": 9, "phases.bilevel.share": None, "phases.evolution.share": 1}
)
PUBLISHED["dynas"] = PUBLISHED["spos"] | {
    "weight_step._target_": "darts.search.weight_steps.dynas.DynasSGD",
    "weight_step.gamma_max": 4.0,
    "weight_step.lr_min": None,
}
PUBLISHED["snas"] = (
    DARTS
    | row("gumbel_softmax.GumbelSoftmax", 150)
    | {"phases.bilevel.share": None, "phases.single_level.share": 1, "weight_step.nesterov": None}
    | {"relaxation.temperature": 1.0, "relaxation.temperature_end": 0.03}
)
PUBLISHED["fair_darts"] = (
    DARTS
    | row("sigmoid.Sigmoid", 50)
    | {"data.batch_size": 128, "weight_step.lr": 0.005, "weight_step.nesterov": None}
    | {"arch_step.lr": 3e-3, "arch_step.betas": [0.9, 0.999]}
    | {"regularizer": {"zero_one": {"_target_": "darts.search.regularizers.zero_one.ZeroOne", "weight": 10.0}}}
)
PUBLISHED["proxyless"] = (
    DARTS
    | row("binary_gates.BinaryGates", 160, weight_decay=4e-5)
    | {"data.batch_size": 256, "phases.warm_up.share": 40, "phases.bilevel.share": 120, "weight_step.lr_min": None}
    | {"arch_step.lr": 1e-3, "arch_step.betas": [0.0, 0.999], "arch_step.weight_decay": None}
    | {"relaxation.paths_compared": 2, "weight_step.grad_clip": None}
)
PAIRS = DARTS | {
    "space._target_": "supernet.spaces.darts_cells.DartsCells", "network.cells": 8, "weight_step.nesterov": None,
}  # fmt: skip
PUBLISHED["darts_v1_cells"] = PAIRS | row("softmax.Softmax", 50)
PUBLISHED["darts_v2_cells"] = PUBLISHED["darts_v1_cells"] | {
    "arch_step._target_": "darts.search.arch_steps.unrolled.Unrolled"
}
PUBLISHED["sdarts_cells"] = PUBLISHED["darts_v1_cells"] | {
    "weight_step._target_": "darts.search.weight_steps.perturbed.PerturbedSGD", "weight_step.epsilon_end": 0.3,
}  # fmt: skip
PUBLISHED["pc_darts_cells"] = PUBLISHED["pc_darts"] | {"network.cells": 8}
PUBLISHED["drnas_cells"] = (
    PUBLISHED["pc_darts_cells"]
    | {"network.channels": 36, "network.cells": 20, "data.batch_size": 64, "relaxation.inner.init_scale": 1e-3}
    | {"phases.warm_up.share": 10, "phases.bilevel.share": 15, "regularizer": PUBLISHED["drnas"]["regularizer"]}
    | {"relaxation.k": 6, "phases.widening.k": 4, "phases.widening.operations": 4, "phases.widening.share": 10}
    | {"phases.second_bilevel.share": 15}
)
OURS = ("finalists", "plain", "shared_weights")  # settings of this project's own


def label(file: Path) -> str:
    return file.relative_to(CONFIGS).with_suffix("").as_posix()


def primary_of(group: str) -> tuple[str, bool]:
    """The command that a group belongs to, and whether its defaults list has the group."""
    for command in ("search", *(file.stem for file in PRIMARY)):
        defaults = yaml.safe_load((CONFIGS / f"{command}.yaml").read_text(encoding="utf-8")).get("defaults", [])
        if any(isinstance(entry, dict) and group in entry for entry in defaults):
            return command, True
    return "search", False


def composed(file: Path, folder: Path, tiny: bool) -> dict[str, Any]:
    """Settings with one choice made; what a choice cannot know, a path, is given."""
    group, name = label(file).rsplit("/", 1)
    command, listed = primary_of(group)
    text = file.read_text(encoding="utf-8")
    if own := re.search(r"^# darts (\w+):", text, re.MULTILINE):
        command = own[1]
    example = re.search(r"^# darts (\w+) (\S+=.*)$", text, re.MULTILINE)
    if example:
        return compose_config(example[1], example[2].split())
    content = yaml.safe_load(text) or {}
    paths = [f"{group}.{key}='{folder}'" for key in ("root", "path", "run") if content.get(key, 0) in (None, "???")]
    tiny_words = wide(name) if tiny and command == "search" else []
    return compose_config(command, [*tiny_words, f"{'' if listed else '+'}{group}={name}", *paths])


def wide(name: str) -> list[str]:
    """Tiny, but for a method that divides its channels by 6 and by 4."""
    return [*TINY, "network.channels=12"] if name == "drnas_cells" else TINY


def targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from targets(value)


def at(settings: dict[str, Any], path: str) -> Any:
    value: Any = settings
    for key in path.split("."):
        value = None if value is None else value.get(key)
    return value


def test_the_globs_see_the_files() -> None:
    assert {"search", "derive", "query"} <= {file.stem for file in PRIMARY}
    groups = {label(file).split("/")[0] for file in CHOICES}
    assert {"arch_step", "weight_step", "relaxation", "dataset", "discretizer", "method", "monitor"} <= groups
    assert {"oracle", "regularizer", "space", "task"} <= groups


@pytest.mark.parametrize("file", PRIMARY, ids=label)
def test_every_command_composes_with_its_defaults(file: Path) -> None:
    defaults = yaml.safe_load(file.read_text(encoding="utf-8"))["defaults"]
    assert defaults[0] == "_self_", "last or missing, the primary file silently wins over presets"
    settings = compose_config(file.stem, [])
    assert settings["plugins"] == []
    if file.stem == "search":
        assert build_search(settings, None).state.task.name == "digits"


@pytest.mark.parametrize("file", CHOICES, ids=label)
def test_every_choice_composes_and_builds(file: Path, tmp_path: Path) -> None:
    if label(file).startswith("cluster/"):
        pytest.skip("launchers are extras: tests/darts/command/test_clusters.py")
    settings = composed(file, tmp_path, tiny=True)
    group, name = label(file).rsplit("/", 1)
    own = settings.get(group) or {}
    part = own if "_target_" in own else own.get(name, {})
    if group == "oracle":
        assert type(build_one(settings, "oracle")) is get_class(part["_target_"])
    elif group == "dataset":
        assert isinstance(build_part(part, group), Source)
    elif group in ("baseline", "evaluator", "objective", "space"):
        assert type(build_part(part, group)) is get_class(part["_target_"])
    elif group == "recipe":
        assert Recipe(**settings["recipe"]).epochs > 0
    elif group == "experiment":
        assert settings["study"]
        for words in settings["study"].values():
            if words[0] == "search":
                shared = [word for word in settings["common"] if word.partition("=")[0].partition(".")[0] in SHARED]
                assert build_search(compose_config("search", [*shared, *words[1:]]), None).state.task.sizes[0] > 0
                continue
            composed_run = compose_config("baseline", [*settings["common"], *words])
            assert isinstance(build_part(composed_run["baseline"], "baseline"), Baseline)
    else:
        search = build_search(settings, None)
        assert search.state.space.size > 1
        if group == "task":
            assert type(search.state.task) is get_class(part["_target_"])
        elif "_target_" in part:
            built = build_part(part, group if part is own else f"{group}.{name}")
            assert type(built) is get_class(part["_target_"])
    if "_target_" in part and not (Path(inspect.getfile(get_class(part["_target_"]))).parent / "base.py").exists():
        return  # the only one of its kind
    bases = [base.__module__.rsplit(".", 1)[-1] for base in get_class(part["_target_"]).__mro__] if part else ["base"]
    assert "base" in bases, "a part derives from the ABC in its folder's base.py"


@pytest.mark.parametrize("file", [*PRIMARY, *CHOICES], ids=label)
def test_every_target_has_a_docstring_and_every_file_says_what_it_is(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert re.search(r"^# (?!@package)\S", text, re.MULTILINE), "--help shows the first comment line of a choice"
    for target in targets(yaml.safe_load(text)):
        assert target.split(".")[0] in ("darts", "supernet")
        assert (get_class(target).__doc__ or "").strip(), f"{target} has no docstring of its own"


@pytest.mark.parametrize("file", sorted((CONFIGS / "method").glob("*.yaml")), ids=label)
def test_every_preset_has_the_published_settings(file: Path) -> None:
    if file.stem in OURS:
        return
    assert file.stem in PUBLISHED, "write down the published row of this method"
    settings = compose_config("search", ["dataset=cifar10", f"method={file.stem}"])
    expected = COMMON | PUBLISHED[file.stem]
    assert {path: at(settings, path) or None for path in expected} == {
        path: value or None for path, value in expected.items()
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings_reach_the_optimizers(name: str) -> None:
    row = COMMON | PUBLISHED[name]
    state = build_search(compose_config("search", [f"method={name}", *wide(name)]), None).state
    weights, alphas = state.weight_optimizer.param_groups, state.arch_optimizer.param_groups
    assert type(state.weight_optimizer).__name__ == "SGD"
    assert type(state.arch_optimizer).__name__ == "Adam"
    for group in weights:
        assert (group["lr"], group["momentum"]) == (row["weight_step.lr"], 0.9)
        assert group["nesterov"] == bool(row["weight_step.nesterov"])
        assert group["weight_decay"] == row["weight_step.weight_decay"]
    for group in alphas:
        assert (group["lr"], list(group["betas"])) == (row["arch_step.lr"], row["arch_step.betas"])
        assert group["weight_decay"] == (row["arch_step.weight_decay"] or 0)
    deviation = state.params["alpha_EO"].std()
    assert 2e-4 < deviation < 5e-3 or deviation == (row["relaxation.init_scale"] or 0)


def test_what_the_command_line_says_beats_a_preset() -> None:
    settings = compose_config("search", ["weight_step.lr=0.5", "budget.steps=7", "network.cells=2", "method=darts_v2"])
    assert settings["weight_step"]["lr"] == 0.5
    assert settings["network"] == {"channels": 16, "cells": 2, "batch_norm": "batch"}
    assert settings["budget"] == {"epochs": None, "steps": 7, "images": None, "seconds": None}
