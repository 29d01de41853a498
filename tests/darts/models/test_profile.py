"""What a network costs: counts against other counts, memory against tensors added up by hand."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from darts.cli import main
from darts.models.profiling import counted, peak_bytes
from darts.run.timing import timed
from supernet.size import NetworkSize
from supernet.spaces.cells import CellSpace

SPACE = CellSpace()
CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
SMALL = ["network.channels=4", "network.cells=1", "network.image_size=8", "batches=[1,4]", "repeats=3"]


def test_peak_memory_is_what_lives_at_once() -> None:
    """A chain of 1,000-value tensors: input outside, at most the one before and the new one."""

    class Chain(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(10):
                x = x + 1
            return x

    class Kept(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x + number for number in range(10)]).sum(0)

    values = torch.zeros(1000)
    assert peak_bytes(Chain(), values) == 2 * 4000
    assert peak_bytes(Kept(), values) == 20 * 4000  # ten, and all of them stacked


def test_counts_agree_with_the_spaces_own() -> None:
    size = NetworkSize(4, 1, 10, 3, 8)
    genotype = SPACE.parse(CELL)
    network = SPACE.network(genotype, size).eval()
    found = counted(network, partial(size.input_shape, "images"))
    assert found["flops"]["conv"] + found["flops"]["linear"] == SPACE.cost(genotype, size).flops
    outputs = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda module, inputs, output: outputs.append(output.numel()))
    network(torch.zeros(1, 3, 8, 8))
    assert found["activations"] == sum(outputs)


def test_warm_up_is_not_timed() -> None:
    calls: list[int] = []
    assert len(timed(lambda: calls.append(1), 5, torch.device("cpu"))) == 5
    assert len(calls) == 7


def test_the_command_says_it_and_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", f"cell={CELL}", *SMALL, "table=true", f"run_dir={tmp_path / 'p'}"]) == 0
    out = capsys.readouterr().out
    assert "| classifier" in out
    assert "images/s" in out
    found = json.loads((tmp_path / "p/profile.json").read_text())
    size = NetworkSize(4, 1, 10, 3, 8)
    assert found["flops"] == SPACE.cost(SPACE.parse(CELL), size).flops
    assert found["params"] == SPACE.cost(SPACE.parse(CELL), size).params
    assert [one["images"] for one in found["timing"]] == [1, 4]
    for one in found["timing"]:
        assert 0 < one["ms_median"] <= one["ms_p95"]
        assert one["images_per_second"] == pytest.approx(1e3 * one["images"] / one["ms_median"])
    assert found["timing"][1]["peak_mb"] == pytest.approx(4 * found["timing"][0]["peak_mb"], rel=0.05)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give one of them"), ([f"cell={CELL}", "model=x"], "give one of them"),
        (["model=nowhere"], "there is no nowhere"),
        ([f"cell={CELL}", "batches=[0]"], "batches: got [0]"), ([f"cell={CELL}", "repeats=0"], "repeats: got 0"),
        (["cell=|x|"], "cell"), ([f"cell={CELL}", "network.channels=1000000"], "network.channels"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_said(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", *words]) == 2
    assert message in capsys.readouterr().err
