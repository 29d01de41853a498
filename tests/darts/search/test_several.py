"""Searches in several processes: equal to one process that evaluates its batches in as many groups."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch

from tests import several

PROCESSES = 2
OTHERS = tuple(name for name in several.CASES if name not in several.QUICK)
BOUNDS = {"20 in float64": 1e-9, "1 in float32": 1e-5}


@cache
def alone(names: tuple[str, ...]) -> dict[str, dict[str, dict[str, torch.Tensor]]]:
    return several.everything(PROCESSES, names)


@cache
def found(names: tuple[str, ...]) -> list[dict[str, dict[str, dict[str, torch.Tensor]]]]:
    """By process."""
    with tempfile.TemporaryDirectory() as folder:
        process = several.torchrun(several.__file__, folder, *names, processes=PROCESSES)
        alone(names)  # meanwhile
        error = process.communicate(timeout=300)[1]
        assert process.returncode == 0, error
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize(
    ("name", "among"),
    [(name, several.QUICK) for name in several.QUICK]
    + [pytest.param(name, OTHERS, marks=pytest.mark.slow) for name in OTHERS],
)
def test_processes_equal_groups(name: str, among: tuple[str, ...]) -> None:
    for what, bound in BOUNDS.items():
        expected = alone(among)[name][what]
        for values in (process[name][what] for process in found(among)):
            assert values.keys() == expected.keys()
            for key, value in values.items():
                assert torch.allclose(value, expected[key], rtol=bound, atol=bound), (what, key)
        first, other = (process[name][what] for process in found(among))
        assert all(torch.equal(first[key], other[key]) for key in first)


def test_groups_have_batch_statistics_of_their_own() -> None:
    """Otherwise the equality above would say little: one group is another network."""
    one, two = (several.moved(("relaxation=softmax",), groups, torch.float64, 3) for groups in (1, 2))
    assert not torch.allclose(one["alpha_EO"], two["alpha_EO"], atol=1e-6)
