"""Searches in several processes: equal to one process that evaluates its batches in as many groups."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import pytest
import torch

from tests import several

PROCESSES = 2
BOUNDS = {"20 in float64": 1e-9, "1 in float32": 1e-5}


def torchrun(*words: object, processes: int = PROCESSES) -> list[str]:
    own = ["--standalone", f"--nproc_per_node={processes}"]
    return [sys.executable, "-m", "torch.distributed.run", *own, *map(str, words)]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, dict[str, torch.Tensor]]]]:
    """By process."""
    folder = tmp_path_factory.mktemp("several")
    process = subprocess.Popen(torchrun(several.__file__, folder), stderr=subprocess.PIPE, text=True)
    alone()  # meanwhile
    error = process.communicate(timeout=300)[1]
    assert process.returncode == 0, error
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


@cache
def alone() -> dict[str, dict[str, dict[str, torch.Tensor]]]:
    return several.everything(PROCESSES)


@pytest.mark.parametrize("name", [*several.CASES, "retrain"])
def test_processes_equal_groups(name: str, found: list[dict[str, dict[str, dict[str, torch.Tensor]]]]) -> None:
    for what, bound in BOUNDS.items():
        expected = alone()[name][what]
        for values in (process[name][what] for process in found):
            assert values.keys() == expected.keys()
            for key, value in values.items():
                assert torch.allclose(value, expected[key], rtol=bound, atol=bound), (what, key)
        first, other = (process[name][what] for process in found)
        assert all(torch.equal(first[key], other[key]) for key in first)


def test_groups_have_batch_statistics_of_their_own() -> None:
    """Otherwise the equality above would say little: one group is another network."""
    one, two = (several.moved(("relaxation=softmax",), groups, torch.float64, 3) for groups in (1, 2))
    assert not torch.allclose(one["alpha_EO"], two["alpha_EO"], atol=1e-6)
