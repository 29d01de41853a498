"""When checkpoints are due, and what tells the bits of processes apart."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from darts.run import together
from darts.run.signals import StopRequest
from darts.run.together import Clock, fingerprint


@pytest.fixture
def sparing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "SHARE", 0.01)


@pytest.mark.usefixtures("sparing")
@pytest.mark.parametrize(
    ("waited", "epoch_ends", "due"),
    [(1, False, False), (19, True, False), (21, True, True), (21, False, False), (301, False, True)],
)
def test_a_checkpoint_at_an_epochs_end_costs_a_hundredth_at_most(waited: float, epoch_ends: bool, due: bool) -> None:
    """The last one took 0.2 s; after five minutes one is due anyway."""
    clock, seconds = Clock(5.0), {"total": 7.0}
    clock.keeping(99.8, 100.0)
    assert clock.met(seconds, StopRequest("step"), 100.0 + waited, epoch_ends) == (due, False)
    assert seconds == {"total": 7.0}


@pytest.mark.usefixtures("sparing")
def test_the_share_holds_over_a_whole_run() -> None:
    """Epochs of 0.05 s and checkpoints of 0.02 s, for two minutes."""
    clock, now, spent = Clock(5.0), 0.0, 0.0
    clock.keeping(0.0, 0.02)
    while now < 120:
        now += 0.05
        if clock.met({"total": now}, StopRequest("step"), now, True)[0]:
            clock.keeping(now, now + 0.02)
            now, spent = now + 0.02, spent + 0.02
    assert 0.005 < spent / now <= 0.01


def test_a_stop_is_told() -> None:
    stop = StopRequest("step")
    stop.made = True
    assert Clock(5.0).met({"total": 0.0}, stop, 1.0, False) == (False, True)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20), st.integers(0, 19), st.integers(0, 31))
def test_one_bit_changes_the_fingerprint(values: list[float], place: int, bit: int) -> None:
    before = torch.tensor(values)
    after = before.clone()
    after.view(torch.int32)[place % len(values)] ^= 1 << bit if bit < 31 else -(2**31)
    assert fingerprint(before) == fingerprint(before.clone())
    assert fingerprint(before) != fingerprint(after)
    assert fingerprint(before, after) != fingerprint(after, before)
