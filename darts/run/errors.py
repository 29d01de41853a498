"""The one exception that ends a command with a message instead of a traceback."""

from __future__ import annotations


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
