"""The one exception that ends a command with a message instead of a traceback."""

from __future__ import annotations


class UserError(Exception):
    """A mistake the user can mend; the message names the option, what was given, what is allowed and the mend.

    The command prints it and exits with status 2.
    """
