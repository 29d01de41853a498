"""Stopping a run between two steps instead of in the middle of one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from darts.run import ranks

STOPPING = (signal.SIGINT, signal.SIGTERM)
STOPPED = tuple(128 + number for number in STOPPING)  # exit statuses of runs that were asked to stop
_last = signal.SIGINT  # the signal that was noted last


def exit_status() -> int:
    """As shells have it, of a run that was asked to stop: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + _last


class Interrupted(Exception):
    """The run was asked to stop (Ctrl-C, SIGTERM); its checkpoint is written."""


class StopRequest:
    """Whether the run was asked to stop: by Ctrl-C, or by SIGTERM as clusters send it before they take a machine.

    Args:
        unit: after what the run stops, for the line that says so at once.
    """

    def __init__(self, unit: str) -> None:
        self.unit, self.made = unit, False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside, the first signal is noted and a second one raises KeyboardInterrupt."""
        global _last
        if threading.current_thread() is not threading.main_thread():
            yield  # signals belong to the main thread
            return
        _last = signal.SIGINT  # not that of an earlier run of this process

        def note(number: int, frame: FrameType | None) -> None:
            global _last
            _last = signal.Signals(number)
            if self.made:
                raise KeyboardInterrupt
            self.made = True
            if ranks.silent():
                return
            os.write(2, f"\nstopping after this {self.unit}; once more stops at once\n".encode())

        before = {number: signal.signal(number, note) for number in STOPPING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
