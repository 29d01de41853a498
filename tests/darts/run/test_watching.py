"""Progress of long work, on a clock of its own."""

from __future__ import annotations

import pytest

from darts.run.watching import watched


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("darts.run.watching.time.perf_counter", lambda: now[0])
    return now


def test_a_line_now_and_then_where_nobody_sees_a_bar(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """Items of 4 seconds: a line after 12, 24 and 36."""
    for _ in watched(range(10), 10, "reading"):
        clock[0] += 4
    assert capsys.readouterr().err.splitlines() == ["reading: 3 of 10", "reading: 6 of 10", "reading: 9 of 10"]


def test_what_is_soon_done_says_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    assert list(watched("abc", 3, "reading")) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")
