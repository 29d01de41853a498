from __future__ import annotations

from typing import Any

import pytest
import torch

from darts.build import build_search
from darts.config import compose_config

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
