"""Steps of searches in several processes, or in one with as many groups: what test_several compares.

Started by torchrun with a folder, or called in the test's own process.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from darts.command.config import compose_config
from darts.run import ranks
from darts.run.errors import UserError
from darts.search.build import build_search
from darts.search.loop import Search
from darts.training.build import build_retraining
from darts.training.fit import fit_step

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RELAXATIONS = [f"relaxation={file.stem}" for file in sorted((CONFIGS / "relaxation").glob("*.yaml"))]
OTHERS = {
    "arch_step=unrolled": (), "arch_step=aligned": (), "arch_step=reinforce": ("relaxation=gdas",),
    "weight_step=perturbed": ("weight_step.attack_steps=2",), "method=snas": (), "method=dynas": (),
    "network.batch_norm=running": (), "engine.recompute=cells": (),
    "space=recurrent_network": (
        "task=sequence_regression", "dataset=mackey_glass", "dataset.steps=300", "space.dropouts=[0.5]",
        "space.layers=[2]", "space.widths=[8]",
    ),
}  # fmt: skip
CASES = {name: (name,) for name in RELAXATIONS} | {name: (name, *words) for name, words in OTHERS.items()}
CELL = "cell='|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|'"
QUICK = ("relaxation=gdas", "arch_step=unrolled", "retrain")
STEPS = 20
TINY = (
    "dataset=fake", "dataset.images=64", "dataset.image_size=4", "network.channels=4", "network.cells=1",
    "space.num_nodes=3",
)  # fmt: skip


def torchrun(*words: object, processes: int = 2, restarts: int = 0) -> subprocess.Popen[str]:
    """Several processes of a script, or of `-m` a module, with its words."""
    own = ["--standalone", f"--nproc_per_node={processes}", f"--max-restarts={restarts}"]
    line = [sys.executable, "-m", "torch.distributed.run", *own, *map(str, words)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def made(words: tuple[str, ...], groups: int | None) -> Search:
    method = () if words[0].startswith("method=") else ("method=plain",)
    tiny = TINY if not words[0].startswith("space=") else ("network.channels=8",)
    common = ("monitor=[]", "oracle=none", "data.batch_size=8", f"budget.steps={STEPS}")
    settings = compose_config("search", [*method, *tiny, *common, *words])
    settings["engine"]["groups"] = groups
    try:
        return build_search(settings, None)
    except UserError:  # nothing would choose a cell: a relaxation that trains weights alone
        settings["phases"]["best_of_k"]["share"] = 0.01
        return build_search(settings, None)


def moved(words: tuple[str, ...], groups: int | None, dtype: torch.dtype, steps: int) -> dict[str, torch.Tensor]:
    """Weights, statistics and architecture parameters after so many steps, and what the evaluation says."""
    torch.set_default_dtype(dtype)
    try:
        search = made(words, groups)
        state = search.state
        state.network.to(dtype)
        answer = state.compute.logits
        state.compute.logits = lambda inputs, *rest, **more: answer(inputs.to(dtype), *rest, **more)  # type: ignore[method-assign]
        search.schedule.phases = {k: v for k, v in search.schedule.phases.items() if v.moves_supernet}
        state.planned_steps = STEPS
        for _ in range(steps):
            phase = search._phase()
            search.steps.weights.schedule(state)
            phase.step(state, search.steps)
            state.step += 1
        found = {name: value.detach().double() for name, value in state.network.state_dict().items()}
        found |= {name: value.detach().double() for name, value in state.params.items()}
        return found | {"evaluated": torch.tensor(state.evaluate(), dtype=torch.float64)}
    finally:
        torch.set_default_dtype(torch.float32)


def trained(groups: int | None, dtype: torch.dtype, steps: int) -> dict[str, torch.Tensor]:
    """Weights and statistics of a retraining with mixed batches."""
    torch.set_default_dtype(dtype)
    try:
        words = ("recipe.epochs=2", "recipe.mixup=0.2", "data.batch_size=8")
        settings = compose_config("retrain", ["dataset=fake", "network.channels=4", "network.cells=1", CELL, *words])
        settings["engine"]["groups"] = groups
        training = build_retraining(settings, Path())
        state, task, recipe = training.state, training.plan.task, training.plan.recipe
        training.network.to(dtype)
        for _ in range(steps):
            (inputs, targets), mixing = task.train.next(), state.mixing(recipe, 8)
            batch = inputs.to(dtype), targets
            fit_step(training.network, state.optimizer, task, batch, 0.1, mixing, grad_clip=1.0, groups=state.groups)
        return {name: value.detach().double() for name, value in training.network.state_dict().items()}
    finally:
        torch.set_default_dtype(torch.float32)


def everything(groups: int | None, names: Sequence[str]) -> dict[str, dict[str, dict[str, torch.Tensor]]]:
    """By case, by what was asked, by name of the tensor."""
    asked = {"20 in float64": (torch.float64, STEPS), "1 in float32": (torch.float32, 1)}
    made = {name: partial(moved, words) for name, words in CASES.items()} | {"retrain": trained}
    return {name: {what: made[name](groups, *how) for what, how in asked.items()} for name in names}


if __name__ == "__main__":
    with ranks.joined():
        torch.save(everything(None, sys.argv[2:]), Path(sys.argv[1]) / f"{ranks.rank()}.pt")
