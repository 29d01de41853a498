"""Optuna's databases, which several machines share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from darts.run.errors import UserError, reason


@contextmanager
def storing(storage: str) -> Iterator[None]:
    """Inside, trials are read and written.

    Args:
        storage: URL of the database.

    Raises:
        UserError: the database cannot be opened, is full, or gone.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError, ImportError) as error:
        raise UserError(
            f"storage: {storage} cannot be used ({reason(error.__cause__ or error)}); the trials that had ended are "
            "kept. Make room, or bring it back, then go on with resume="
        ) from None
