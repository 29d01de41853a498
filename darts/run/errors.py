"""What ends a command with a message instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def reason(error: BaseException) -> str:
    """The first line of what an error says, or its type if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


class UserError(Exception):
    """A mistake the user can mend; the message names the option, what was given, what is allowed and the mend.

    The command prints it and exits with status 2.
    """


class Everywhere(UserError):
    """One that all processes of a run have; the first one prints it."""


UNFIT = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)


@contextmanager
def understood(path: Path, command: str) -> Iterator[None]:
    """Inside, what stands in a result.json is made something of; what it is not fit for is not our mistake.

    Raises:
        UserError: values that are missing, of another type, or out of range.
    """
    try:
        yield
    except UNFIT as error:
        raise UserError(
            f"run: {path} is no result of darts {command} ({reason(error)}); give the folder of a run"
        ) from None


@contextmanager
def configured(folder: Path, command: str) -> Iterator[None]:
    """Inside, a run is built from the config of its folder; what that is not fit for is not our mistake.

    Raises:
        UserError: values that are missing, or of another type.
    """
    try:
        yield
    except UNFIT as error:
        raise UserError(
            f"resume: {folder / 'config.yaml'} is not as darts {command} writes it ({type(error).__name__}: "
            f"{reason(error)}); put back the one that the run was begun with"
        ) from None
