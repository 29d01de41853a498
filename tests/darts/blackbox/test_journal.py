"""Slow evaluations as a table, and how their values rank cells."""

from __future__ import annotations

import numpy as np
import pytest

from darts.blackbox.evaluators.base import Outcome
from darts.blackbox.journal import as_csv, rank_correlation
from darts.blackbox.loop import Answer
from darts.oracle.base import Column, Table
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
