from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from darts.cli import main


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command line that must end with status 2 and one message; returns the message."""

    def run(*words: object) -> str:
        capfd.readouterr()
        assert main([str(word) for word in words]) == 2
        captured = capfd.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("darts: ") or "\ndarts: " in captured.err  # after the line about the data
        assert "Traceback" not in captured.err
        return captured.err

    return run


@pytest.fixture
def kept() -> Callable[[], AbstractContextManager[SimpleNamespace]]:
    """Counts tensors that are kept for backward passes."""
    return kept_tensors


@contextmanager
def kept_tensors() -> Iterator[SimpleNamespace]:
    """How many tensors are kept for backward passes inside: `now`, and `most` at once."""
    count = SimpleNamespace(now=0, most=0)

    class Kept:
        def __init__(self, value: Tensor) -> None:
            self.value = value.detach()  # without its history, which would hold itself
            weakref.finalize(self, release)

    def release() -> None:
        count.now -= 1

    def pack(value: Tensor) -> Kept:
        count.now += 1
        count.most = max(count.most, count.now)
        return Kept(value)

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one.value):
        yield count
