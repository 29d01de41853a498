from __future__ import annotations

from typing import Any

import pytest
import torch

from darts.build import build_search
from darts.config import compose_config
from supernet.relaxations.base import EdgeWeights

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def history(device: str) -> list[dict[str, Any]]:
    words = ["dataset=fake", "network.channels=4", "budget.steps=6", "monitor=[]", "oracle=none", f"device={device}"]
    return build_search(compose_config("search", words), None).run().history


def test_a_search_on_cuda_repeats_bit_for_bit() -> None:
    assert history("cuda") == history("cuda")


def test_a_search_on_cuda_follows_the_one_on_the_cpu() -> None:
    for there, here in zip(history("cuda"), history("cpu"), strict=True):
        assert there["train_loss"] == pytest.approx(here["train_loss"], rel=1e-3)
        assert there["valid_loss"] == pytest.approx(here["valid_loss"], rel=1e-3)


def test_auto_takes_cuda() -> None:
    words = ["dataset=fake", "network.channels=2", "budget.steps=1", "monitor=[]", "oracle=none"]
    search = build_search(compose_config("search", words), None)
    assert search.state.network.classifier.weight.is_cuda
    assert not search.state.params["alpha_EO"].is_cuda


WORDS = ["dataset=fake", "network.channels=8", "budget.steps=6", "monitor=[]", "oracle=none", "device=cuda"]


def losses(*words: str) -> list[float]:
    search = build_search(compose_config("search", [*WORDS, *words]), None)
    phase = search.schedule.phases["bilevel"]
    found = []
    for _ in range(6):
        search.steps.weights.schedule(search.state)
        numbers = phase.step(search.state, search.steps)
        found += [numbers["train_loss"], numbers["valid_loss"]]
    return found


@pytest.mark.parametrize("mode", ["batch", "running"])
@pytest.mark.parametrize("step", ["first_order", "unrolled"])
def test_captured_half_steps_give_the_same_losses(step: str, mode: str) -> None:
    words = (f"arch_step={step}", f"network.batch_norm={mode}")
    assert losses("engine.cuda_graphs=true", *words) == pytest.approx(losses(*words), rel=1e-4)


def test_captured_half_steps_run_in_bfloat16() -> None:
    words = ("engine.precision=bfloat16",)
    assert losses("engine.cuda_graphs=true", *words) == pytest.approx(losses(*words), rel=1e-2)


def test_bfloat16_follows_float32() -> None:
    assert losses("engine.precision=bfloat16") == pytest.approx(losses(), rel=0.05)


def test_recomputation_changes_nothing() -> None:
    assert losses("engine.recompute=cells") == losses()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler itself
def test_a_compiled_cell_gives_the_same_losses() -> None:
    assert losses("engine.compile=true") == pytest.approx(losses(), rel=1e-3)


def test_a_step_leaves_nothing_behind() -> None:
    search = build_search(compose_config("search", WORDS), None)
    phase = search.schedule.phases["bilevel"]

    def allocated(steps: int) -> int:
        for _ in range(steps):
            phase.step(search.state, search.steps)
        return torch.cuda.memory_allocated()

    assert allocated(100) == allocated(20)


def test_choosing_what_to_compute_never_waits_for_the_device() -> None:
    """Everything between the batch and the loss, with a single path."""
    search = build_search(compose_config("search", WORDS), None)
    state = search.state
    images, _ = state.task.train.next()
    path = EdgeWeights.one_hot([3, 1, 2, 4, 0, 3], 5).to(torch.device("cuda"))
    state.compute.logits(images, path)  # indices of rows are made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        state.compute.logits(images, path).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
