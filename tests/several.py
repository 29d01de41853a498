"""Steps of searches in several processes, or in one with as many groups: what test_several compares.

Started by torchrun with a folder, or called in the test's own process.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from darts.command.config import compose_config
from darts.run import ranks
from darts.run.errors import UserError
from darts.search.build import build_search
from darts.search.loop import Search

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RELAXATIONS = [f"relaxation={file.stem}" for file in sorted((CONFIGS / "relaxation").glob("*.yaml"))]
OTHERS = {
    "arch_step=unrolled": (), "arch_step=aligned": (), "arch_step=reinforce": ("relaxation=gdas",),
    "weight_step=perturbed": ("weight_step.attack_steps=2",), "method=snas": (), "method=dynas": (),
    "network.batch_norm=running": (), "engine.recompute=cells": (),
    "space=recurrent_network": ("task=sequence_regression", "dataset=mackey_glass", "space.dropouts=[0.5]"),
}  # fmt: skip
CASES = {name: (name,) for name in RELAXATIONS} | {name: (name, *words) for name, words in OTHERS.items()}
STEPS = 20
TINY = (
    "dataset=fake", "dataset.images=64", "dataset.image_size=4", "network.channels=4", "network.cells=1",
    "space.num_nodes=3",
)  # fmt: skip


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


def everything(groups: int | None) -> dict[str, dict[str, dict[str, torch.Tensor]]]:
    asked = {"20 in float64": (torch.float64, STEPS), "1 in float32": (torch.float32, 1)}
    return {name: {what: moved(words, groups, *how) for what, how in asked.items()} for name, words in CASES.items()}


if __name__ == "__main__":
    with ranks.joined():
        torch.save(everything(None), Path(sys.argv[1]) / f"{ranks.rank()}.pt")
