"""Slow evaluations as a table, and how their values rank cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from darts.blackbox.evaluators.base import Outcome
from darts.blackbox.journal import as_csv, line_of, rank_correlation, read_answers
from darts.blackbox.loop import Answer
from darts.oracle.base import Column, Table
from darts.run.errors import UserError
from supernet.spaces.cells import CellSpace

SPACE = CellSpace()


@pytest.fixture(scope="module")
def small() -> Table:
    """Accuracies that are the cell's index."""
    return Table("made", {Column("cifar10", "valid", 200): np.arange(15_625.0)})


def answer(index: int, value: float | None, epochs: int = 200, curve: tuple[float, ...] = ()) -> Answer:
    return Answer(str(SPACE.genotype(index)), epochs, Outcome(value, len(curve) or epochs, curve), None, 0.5)


def test_rank_correlations_are_of_what_was_trained_longest_and_to_its_end(small: Table) -> None:
    column = Column("cifar10", "valid", 200)
    given = [answer(1, 10.0), answer(2, 30.0), answer(3, 20.0)]
    more = [answer(4, 0.0, 12), answer(5, 0.0, 200, (0.0,) * 50), answer(6, None)]
    found = rank_correlation({0: given, 1: more}, small, column)
    assert found == pytest.approx({"spearman": 1 / 2, "kendall": 1 / 3, "cells": 3})
    assert rank_correlation({0: given[:2]}, small, column) is None
    assert rank_correlation({0: [answer(index, 5.0) for index in range(4)]}, small, column) is None


def test_evaluations_are_written_a_line_each(small: Table) -> None:
    given = [answer(1, 10.0), answer(5, 0.5, 200, (0.25, 0.5))._replace(made_by="swap")]
    lines = as_csv({7: given}, small, Column("cifar10", "valid", 200)).splitlines()
    assert lines[1:] == [
        f"7,0,{given[0].cell},200,200,10.0,,1.0,0.500,,",
        f"7,1,{given[1].cell},200,2,0.5,,5.0,0.500,0.25 0.5,swap",
    ]


def journal(path: Path) -> list[Answer]:
    given = [answer(index, 10.0 + index, 200, (0.5, 10.0 + index)) for index in range(4)]
    path.write_text("".join(map(line_of, given)))
    return given


def test_a_line_that_a_crash_tore_is_cut_off_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "answers-0.jsonl"
    given = journal(file)
    whole = file.read_bytes()
    for end in range(len(whole) - len(whole.splitlines()[-1]) - 1, len(whole)):
        file.write_bytes(whole[:end])
        assert read_answers(file) == given[:3]
        assert file.read_bytes() == b"".join(whole.splitlines(keepends=True)[:3])
    assert not caplog.text
    assert list(tmp_path.iterdir()) == [file]


def test_no_flipped_bit_changes_an_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every bit of a line in the middle: the answers before it stay, it and those after it are asked for again."""
    file = tmp_path / "answers-0.jsonl"
    given = journal(file)
    whole = file.read_bytes()
    begin, length = len(whole.splitlines()[0]) + 1, len(whole.splitlines()[1]) + 1
    for bit in range(8 * length):
        damaged = bytearray(whole)
        damaged[begin + bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        assert read_answers(file) == given[:1]
        assert (tmp_path / "answers-0.jsonl.damaged").read_bytes() == damaged
        assert read_answers(file) == given[:1]
    assert f"{file}: damaged; going on from its first 1 lines" in caplog.text


def test_answers_of_version_0_1_have_no_checksums(tmp_path: Path) -> None:
    file = tmp_path / "answers-0.jsonl"
    given = journal(file)
    file.write_text("".join(line.split("\t")[0] + "\n" for line in file.read_text().splitlines()))
    assert read_answers(file) == given


@pytest.mark.parametrize("text", ["[1]\n", "{}\n", '["a", 1, [1, 1, 3], null, 1.0]\n'])
def test_lines_of_something_else_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "answers-0.jsonl").write_text(text)
    with pytest.raises(UserError, match="is not what darts baseline writes"):
        read_answers(tmp_path / "answers-0.jsonl")


@pytest.mark.parametrize("text", ["[" * 100_000, "\xff", "no JSON"])
def test_lines_that_cannot_be_read_are_damage(text: str, tmp_path: Path) -> None:
    (tmp_path / "answers-0.jsonl").write_bytes(text.encode("latin-1") + b"\n")
    assert read_answers(tmp_path / "answers-0.jsonl") == []
