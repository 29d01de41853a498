"""Hypothesis feeds what reads texts and files of strangers: right ones with pieces changed, and anything at all."""

from __future__ import annotations

import functools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import fuzzing

QUICK = settings(max_examples=30, deadline=20_000, derandomize=True, suppress_health_check=list(HealthCheck))


@functools.cache
def examples(name: str) -> list[bytes]:
    return fuzzing.seeds(name)


@st.composite
def spoiled(draw: st.DrawFn, name: str) -> bytes:
    """Cuts, doubles, flips and insertions of a right input, or bytes that have nothing to do with one."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    content = draw(st.sampled_from(examples(name)))
    for _ in range(draw(st.integers(1, 4))):
        first, last = sorted(draw(st.integers(0, len(content))) for _ in range(2))
        last = min(last, first + draw(st.sampled_from([1, 8, 200, 10**6])))
        piece = draw(st.one_of(st.binary(max_size=8), st.just(content[first:last] * 2), st.just(b"9" * 400)))
        content = content[:first] + piece + content[last:]
    return content


@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_only_our_own_errors_come_out(name: str) -> None:
    for right in examples(name):
        fuzzing.TARGETS[name](right)

    @QUICK
    @given(spoiled(name))
    def fed(content: bytes) -> None:
        fuzzing.TARGETS[name](content)

    fed()
