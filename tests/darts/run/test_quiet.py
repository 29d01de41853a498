"""What is quiet inside talks again afterwards."""

from __future__ import annotations

import logging
import warnings

import pytest

from darts.run.quiet import quiet


@pytest.mark.parametrize("name", [None, "some.library"])
def test_libraries_are_quiet_inside_alone(name: str | None, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger(name)
    before = logger.level

    def noisy() -> None:
        with quiet(name):
            logger.warning("inside")
            logger.error("inside")
            logger.critical("grave")
            warnings.warn("inside", stacklevel=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        noisy()
    assert logger.level == before
    logger.warning("outside")
    assert [record.message for record in caplog.records] == ["grave", "outside"]
    with pytest.warns(UserWarning, match="outside"):
        warnings.warn("outside", stacklevel=1)
