"""A command in a process of its own, which does not outlive the one that waits for it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence

from darts.run.signals import forwarding

CHILD = """
import sys
from darts.run.child import end_with_parent
end_with_parent()
from darts.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run_child(words: Sequence[str]) -> int:
    """Run a command line; returns its exit status. Ctrl-C and SIGTERM reach it through this process, once each.

    Args:
        words: of the command, its name first.
    """
    line = [sys.executable, "-c", CHILD, *words]
    with (
        subprocess.Popen(line, stdin=subprocess.PIPE, start_new_session=True) as process,
        forwarding(process.send_signal),
    ):
        return process.wait()


def end_with_parent() -> None:
    """Let this process be killed when its standard input ends, as it does however the parent ends."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
