"""Conformance of every part that a search can be composed of, found by globbing configs/: it runs, repeats, resumes
exactly and derives. A new file is tested with no edit here."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from searching import plain

from darts.command.config import compose_config
from darts.run.errors import UserError
from darts.run.signals import Interrupted
from darts.search.build import build_search
from darts.search.loop import Search
from darts.search.monitors.base import Monitor
from supernet.relaxations.base import HALVES, Relaxation, opened

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
GROUPS = ("relaxation", "arch_step", "weight_step", "regularizer", "discretizer", "monitor", "method")
LISTS = ("regularizer", "monitor")
FILES = [file for group in GROUPS for file in sorted((CONFIGS / group).glob("*.yaml"))]
RELAXATIONS = [file.stem for file in FILES if file.parent.name == "relaxation"]
TINY = (
    "dataset=fake", "dataset.images=64", "dataset.image_size=4", "data.batch_size=8", "network.channels=4",
    "network.cells=1", "oracle=none", "space.num_nodes=3", "budget.steps=6",
)  # fmt: skip
STEPS, STOP = 6, 3  # an epoch has 4


class Stop(Monitor):
    def on_step(self, search: Search, numbers: dict[str, float]) -> None:  # type: ignore[override]
        search.stop.made |= search.state.step == STOP


def made(settings: dict[str, Any], folder: Path | None) -> Search:
    torch.manual_seed(5)
    if folder is not None:
        (folder / "checkpoints").mkdir(exist_ok=True)
    return build_search(copy.deepcopy(settings), folder)


def refused(settings: dict[str, Any]) -> bool:
    try:
        made(settings, None)
    except UserError:
        return True
    return False


EVERY = [  # in the suite, those of DARTS' space are slow: methods are in it with cells of two nodes
    pytest.param(
        file, id=f"{file.parent.name}/{file.stem}", marks=[pytest.mark.slow] if file.stem.endswith("_cells") else []
    )
    for file in FILES
]


@pytest.mark.parametrize("file", EVERY)
def test_it_runs_repeats_resumes_exactly_and_derives(file: Path, tmp_path: Path) -> None:
    group, name = file.parent.name, file.stem
    words = [f"{group}=[{name}]" if group in LISTS else f"{group}={name}"]
    words += [] if group == "monitor" else ["monitor=[]"]
    words += [] if group == "method" else ["method=plain"]
    wide = ["network.channels=12"] if name == "drnas_cells" else []  # which it divides by 6, then by 4
    settings = compose_config("search", [*words, *TINY, *wide])
    settings["phases"]["best_of_k"]["share"] = int(refused(settings))  # where a relaxation trains weights alone
    whole = made(settings, tmp_path if group == "monitor" else None)
    expected = plain(whole.run())
    stopped = made(settings, tmp_path)
    stopped.monitors = [*stopped.monitors, Stop()]
    with pytest.raises(Interrupted):
        stopped.run()
    again = made(settings, tmp_path)
    again.resume()
    assert again.state.step == STOP
    assert plain(again.run()) == expected
    result = json.loads(expected)
    state, record = again.state, result["history"][-1]
    assert result["steps"] == STEPS
    params = {name: torch.tensor(value) for name, value in record["alphas"].items()}
    weights = state.relaxation.expected(opened(params, record.get("allowed")), record["step"] / STEPS)
    derived = str(again.discretizer(weights.mean_EO, state.space))
    assert derived == record["cell"] == result["cell"] or state.found is not None


# --- relaxations


def relaxation(name: str, *words: str) -> tuple[Relaxation, Any]:
    settings = compose_config(
        "search", ["method=plain", f"relaxation={name}", "phases.best_of_k.share=1", *TINY, *words]
    )
    state = made(settings, None).state
    return state.relaxation, state.space


@pytest.mark.parametrize("name", RELAXATIONS)
def test_same_seed_same_draws_on_what_is_allowed_alone(name: str) -> None:
    """Also with single operations left; alphas are no longer small."""
    chosen, space = relaxation(name)
    params = chosen.init_params(space.architecture_shapes, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for value in params.values():
            value.normal_(generator=torch.Generator().manual_seed(1))
    before = torch.get_rng_state()
    for allowed_EO in (None, [[True] * 5, [False, True, False, True, False], [False, False, False, True, False]]):
        given = opened(params, allowed_EO)
        for half in HALVES[:2]:
            runs = [chosen(given, 0.5, torch.Generator().manual_seed(seed), half) for seed in (3, 3)]
            assert len(runs[0]) == chosen.paths(half)
            for one, other in zip(*runs, strict=True):
                assert torch.equal(one.weights, other.weights)
                assert one.active_EO == other.active_EO
                assert one.weights.isfinite().all()
                if allowed_EO is not None:
                    closed_EO = ~torch.tensor(allowed_EO)
                    assert one.weights[closed_EO].count_nonzero() == 0
        expected = chosen.expected(given, 0.5)
        assert expected.weights.isfinite().all()
        assert (expected.weights >= 0).all()
    assert torch.equal(torch.get_rng_state(), before), "draws come from the given generator alone"


@pytest.mark.parametrize("name", RELAXATIONS)
def test_gradients_are_finite_where_operations_are_closed(name: str) -> None:
    chosen, space = relaxation(name)
    params = chosen.init_params(space.architecture_shapes, torch.Generator().manual_seed(0))
    for value in params.values():
        value.requires_grad_()
    given = opened(params, [[True] * 5, [False, True, False, True, False], [False, False, False, True, False]])
    for found in chosen(given, 0.5, torch.Generator().manual_seed(2), "architecture"):
        if found.weights.requires_grad:
            factor = torch.arange(15.0).reshape(3, 5)
            gradients = torch.autograd.grad((found.weights * factor).sum(), list(params.values()), allow_unused=True)
            assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)
