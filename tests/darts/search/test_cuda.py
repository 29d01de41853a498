from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import nn

from darts.command.config import compose_config
from darts.run.seeding import torch_noise
from darts.search.build import build_search
from darts.search.loop import Search
from supernet.relaxations.base import EdgeWeights

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def history(device: str) -> list[dict[str, Any]]:
    words = [
        "dataset=fake",
        "network.channels=4",
        "budget.steps=6",
        "method=plain",
        "monitor=[]",
        "oracle=none",
        f"device={device}",
    ]
    return build_search(compose_config("search", words), None).run().history


def test_a_search_on_cuda_repeats_bit_for_bit() -> None:
    assert history("cuda") == history("cuda")


def test_a_search_on_cuda_follows_the_one_on_the_cpu() -> None:
    for there, here in zip(history("cuda"), history("cpu"), strict=True):
        assert there["train_loss"] == pytest.approx(here["train_loss"], rel=1e-3)
        assert there["valid_loss"] == pytest.approx(here["valid_loss"], rel=1e-3)


def test_auto_takes_cuda() -> None:
    words = ["dataset=fake", "network.channels=2", "budget.steps=1", "method=plain", "monitor=[]", "oracle=none"]
    search = build_search(compose_config("search", words), None)
    assert search.state.network.classifier.weight.is_cuda
    assert not search.state.params["alpha_EO"].is_cuda


WORDS = [
    "dataset=fake",
    "network.channels=8",
    "budget.steps=6",
    "method=plain",
    "monitor=[]",
    "oracle=none",
    "device=cuda",
]


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


def draws(search: Search) -> list[list[float]]:
    """From every generator that a pass may draw from."""
    numbers = torch.rand(5), torch.rand(5, device="cuda"), torch.rand(5, generator=search.state.sampling)
    return [value.tolist() for value in numbers]


def test_the_device_s_own_generator_is_kept_and_put_back() -> None:
    search = build_search(compose_config("search", WORDS), None)
    state = search.state
    draws(search)
    noise, stored = state.noise(), io.BytesIO()
    torch.save(state.state_dict(), stored)
    expected = draws(search)
    assert draws(search) != expected
    state.noise(noise)
    assert draws(search) == expected
    stored.seek(0)
    state.load_state_dict(torch.load(stored, map_location="cpu", weights_only=True))
    assert draws(search) == expected
    device = state.device
    assert len(torch_noise(device)) == 2
    torch.cuda.manual_seed(3)
    number = torch.rand(1, device=device).item()
    torch.cuda.manual_seed(3)
    torch_noise(device, torch_noise(torch.device("cpu")))
    assert torch.rand(1, device=device).item() == number, "a run on the CPU knew nothing of it"


def test_all_passes_of_an_unrolled_step_drop_the_same() -> None:
    search = build_search(compose_config("search", [*WORDS, "arch_step=unrolled"]), None)
    state, network = search.state, search.state.network
    network.classifier = nn.Sequential(nn.Dropout(0.5), network.classifier)
    before = torch.cuda.get_rng_state()
    seen: list[list[int]] = []
    network.classifier[0].register_forward_pre_hook(lambda *_: seen.append(torch.cuda.get_rng_state().tolist()))
    search.schedule.phases["bilevel"].step(state, search.steps)
    assert len(seen) == 4 + 1
    assert all(noise == before.tolist() for noise in seen[:4])
    assert seen[4] != seen[0], "the weight step draws anew"


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
