"""A command in several processes, as torchrun starts them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from darts.command.base import Call, Command
from darts.run import ranks
from darts.run.errors import UserError


def run_several(command: Command, call: Call) -> int:
    """Run a command in this process, as one of several; after torchrun has started them again, go on with the run.

    Raises:
        UserError: a command that runs in one process alone, or a run that could not be found again.
    """
    with ranks.joined():
        ranks.agreed(partial(_check, command, call))
        if ranks.restarted() and call.settings["resume"] is None:
            folder = Path(call.settings["run_dir"])
            if ranks.from_first((folder / "config.yaml").is_file()):
                call = Call(call.settings | {"resume": str(folder)}, {"resume"}, own_configs=call.own_configs)
        return command.run(call)


def _check(command: Command, call: Call) -> None:
    if not command.several:
        raise UserError(
            f"torchrun: darts {command.name} runs in one process; start it without torchrun. darts search and darts "
            "retrain share a run among several"
        )
    if ranks.restarts() and call.settings["run_dir"] is None and call.settings["resume"] is None:
        raise UserError("run_dir: with --max-restarts the run has to be found again; give run_dir=FOLDER")
