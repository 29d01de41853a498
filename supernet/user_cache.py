"""The folder in the user's cache for what can be made again: compiled kernels, decoded images."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """``$XDG_CACHE_HOME/darts``, else ``~/.cache/darts``, made if it is not there.

    Raises:
        OSError: it cannot be made.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "darts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
