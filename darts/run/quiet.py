"""Libraries that talk while they work."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(logger: str | None = None) -> Iterator[None]:
    """Inside, no warnings, and nothing of a logger (the root if None): what fails is raised. As before afterwards."""
    found = logging.getLogger(logger)
    level = found.level
    found.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        found.setLevel(level)
