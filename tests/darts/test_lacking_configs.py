"""A config.yaml from a stranger that lacks a value, whichever: a message, or the run goes on without it."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from darts.cli import main

DATA = ["dataset=fake", "dataset.images=48", "dataset.image_size=4"]
TINY = ["network.channels=2", "network.cells=1", "data.batch_size=8"]
CELL = "cell=|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"
RUNS = {
    "search": ["method=plain", *DATA, *TINY, "budget.epochs=1", "oracle=none"],
    "retrain": [CELL, *DATA, *TINY, "recipe.epochs=2"],
    "baseline": [
        "evaluator=zero_cost", "evaluator.batch_size=8", "budget.evaluations=2", "seeds=[0]", "oracle=none", *DATA,
    ],
    "tune": [CELL, *DATA, *TINY, "recipe.epochs=2", "recipe.warm_up=0", "trials=1", "parameters.network=null"],
}  # fmt: skip


def places(config: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in config.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from places(value, (*above, name))


@pytest.mark.slow
@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("command", RUNS)
def test_a_config_that_lacks_a_value_is_no_traceback(command: str, tmp_path: Path) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert main([command, *RUNS[command], f"run_dir={whole}"]) == 0
    config = yaml.safe_load((whole / "config.yaml").read_text())
    (whole / ("tune.json" if command == "tune" else "result.json")).unlink()
    refused = 0
    for *above, name in places(config):
        for spoil in (lambda part, name: part.pop(name), lambda part, name: part.update({name: None})):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(whole, folder)
            spoilt = part = copy.deepcopy(config)
            for one in above:
                part = part[one]
            spoil(part, name)
            (folder / "config.yaml").write_text(yaml.safe_dump(spoilt))
            status = main([command, f"resume={folder}"])
            assert status in (0, 2), (*above, name)
            refused += status == 2
    assert refused > 10
