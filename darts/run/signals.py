"""Stopping a run between two steps instead of in the middle of one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from darts.run import ranks

STOPPING = (signal.SIGINT, signal.SIGTERM)
WARNING = ("SIGUSR1", "SIGUSR2")  # that a cluster sends before it takes the machine, to a handler of its launcher's
STOPPED = tuple(128 + number for number in STOPPING)  # exit statuses of runs that were asked to stop
_last = signal.SIGINT  # the signal that was noted last


def exit_status() -> int:
    """As shells have it, of a run that was asked to stop: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + _last


class Interrupted(Exception):
    """The run was asked to stop (Ctrl-C, SIGTERM); its checkpoint is written."""


class StopRequest:
    """Whether the run was asked to stop: by Ctrl-C, or by SIGTERM as clusters send it before they take a machine, or by
    a signal that a launcher listens for, to send the job again.

    Args:
        unit: after what the run stops, for the line that says so at once.
    """

    def __init__(self, unit: str) -> None:
        self.unit, self.made = unit, False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside, the first signal is noted and a second one raises KeyboardInterrupt. The handler of a launcher gets
        its signal in the end, when all is written that the run goes on from."""
        launchers = {
            number: handler
            for number in (getattr(signal, name) for name in WARNING if hasattr(signal, name))
            if callable(handler := signal.getsignal(number))
        }
        waiting: list[signal.Signals] = []

        def note(number: signal.Signals) -> None:
            if number in launchers:
                waiting.append(number)
            elif self.made:
                raise KeyboardInterrupt
            self.made = True
            if ranks.silent():
                return
            more = "" if number in launchers else "; once more stops at once"
            os.write(2, f"\nstopping after this {self.unit}{more}\n".encode())

        try:
            with forwarding(note, (*STOPPING, *launchers)):
                yield
        finally:
            for number in waiting:
                launchers[number](number, None)


@contextmanager
def forwarding(
    told: Callable[[signal.Signals], object], numbers: Sequence[signal.Signals] = STOPPING
) -> Iterator[None]:
    """Inside, signals are handed to a function, in place of what they do: those that ask to stop, or others."""
    global _last
    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread
        return
    _last = signal.SIGINT  # not that of an earlier run of this process

    def note(number: int, frame: FrameType | None) -> None:
        global _last
        _last = signal.Signals(number)
        told(_last)

    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
