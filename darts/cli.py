"""The command `darts`: from words to a command; turns mistakes into messages.

Nothing heavy is imported here before it is needed, so that `darts --help` answers at once.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from darts.command.base import INTERRUPTED
from darts.command.several import run_several
from darts.command.words import read
from darts.run import ranks
from darts.run.errors import Everywhere, UserError, reason
from darts.run.lock import release
from darts.run.memory import is_full
from darts.run.signals import exit_status
from darts.run.waiting import wait_briefly

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status: 0, 2 for a mistake of the user's, 130 or 143 when
    Ctrl-C or SIGTERM stopped it."""
    begun = time.perf_counter()
    wait_briefly()
    command = None
    try:
        typed = list(sys.argv[1:] if words is None else words)
        asked = read(typed)
        if isinstance(asked, int):
            return asked
        command, call = asked
        call = replace(call, begun=begun, typed=typed)
        status = run_several(command, call) if ranks.started() else command.run(call)
        return exit_status() if status == INTERRUPTED else status
    except UserError as error:
        if not ranks.silent() or (command is not None and not isinstance(error, Everywhere)):
            print(f"darts: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            print(f"darts: {str(error.filename)[:80]}...: {error.strerror}; give a shorter one", file=sys.stderr)
            return 2
        if error.errno not in UNWRITABLE:
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(
            f"darts: {place}{error.strerror}; what was complete before is kept. Make room, or give a folder that can "
            "be written, then go on with resume= or start anew",
            file=sys.stderr,
        )
        return 2
    except (MemoryError, RuntimeError) as error:
        if not is_full(error):
            raise
        print(
            f"darts: there is not enough memory ({reason(error)}); give a smaller data.batch_size (auto finds "
            "one; of a baseline evaluator.batch_size), network.channels or dataset.image_size, fewer workers, or, "
            "to a search, engine.recompute=cells. What was complete before is kept",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return exit_status()
    finally:
        release()
