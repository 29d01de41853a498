"""Who gets which signal, and when."""

from __future__ import annotations

import os
import signal

import pytest

from darts.run.child import run_child
from darts.run.signals import StopRequest


def test_a_launcher_hears_of_its_signal_when_all_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    events: list[str] = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: events.append(f"launcher {number}"))
    try:
        stop = StopRequest("step")
        with stop.listening():
            os.kill(os.getpid(), signal.SIGUSR2)
            assert stop.made
            events.append("written")
        assert events == ["written", f"launcher {signal.SIGUSR2}"]
        assert capfd.readouterr().err == "\nstopping after this step\n"  # once more would not stop it at once
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_signal_that_nobody_waits_for_does_what_it_did() -> None:
    numbers = (signal.SIGUSR2, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    with StopRequest("step").listening():
        assert [signal.getsignal(number) is one for number, one in zip(numbers, before, strict=True)] == [True, False]
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_second_request_is_not_waited_for() -> None:
    with StopRequest("step").listening():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_child_gives_its_status() -> None:
    assert run_child(["query", "no cell"]) == 2
    assert run_child(["--version"]) == 0
