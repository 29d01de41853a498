"""Why single-path weights rank cells badly: one experiment a cause.

    python benchmarks/shared_weights.py --images DIR --oracle CSV --folder RUNS --json benchmarks/results/FILE.json

Each variant is a `darts search` that trains shared weights; as `darts rank` does, 200 cells, drawn uniformly with seed
100, are judged with them and compared with the table's validation accuracies. `sgd` is where the others start from;
each changes one thing:

short               a fifth of the steps
slow, fast          a learning rate of .025, of .4, instead of .1
uniform             paths drawn uniformly, dead and shallow cells as they come, not balanced by depth
moved               momentum and weight decay move the weights of a layer that a path leaves out, too
running             cells are judged with running statistics instead of each batch's own
dynas               rate and momentum by the drawn cell (DYNAS), otherwise as sgd
dynas_uniform       as dynas without balanced paths
dynas_fast          as dynas, at .2
dynas_deep          as dynas, with three cells a stage
dynas_wide          as dynas, with 16 channels
dynas_narrow        as dynas, with 5 channels, 24,000 steps

Two variants run at a time, a thread each. Runs whose ranking lies in the folder are not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from darts.blackbox.evaluators.base import Context
from darts.blackbox.evaluators.supernet import SupernetEvaluator
from darts.compare.rank import as_content, drawn, rank
from darts.oracle.base import Column
from darts.oracle.csv import CsvOracle
from darts.run.environment import environment
from darts.run.files import write_text
from darts.run.folder import read_config
from darts.run.parts import build_one
from darts.search.result import CONFIG_KEYS
from darts.search.state import SearchState
from darts.search.weight_steps.sgd import SGDStep
from darts.tasks.build import build_task
from supernet.relaxations.base import EdgeWeights
from supernet.spaces.base import Genotype
from supernet.spaces.cells import CellSpace

STEPS, CELLS, SEED, TRUTH = 14_000, 200, 100, Column("cifar10", "valid", 200)
BASE = [
    "method=spos", "network.channels=8", "network.cells=1", "data.resolution=16", "data.split=0.8", f"seed={SEED}",
    "weight_step.grad_clip=null", "phases.evolution.share=0.001", "phases.evolution.batches=1", "budget.epochs=null",
    "oracle=none", "monitor=[]", "engine.threads=1",
]  # fmt: skip
BALANCED, RATE = "relaxation=balanced_paths", "weight_step.lr=0.1"
DYNAS = ["weight_step=dynas", "~weight_step.lr_min"]
SGD_BEST, DYNAS_BEST = [BALANCED, RATE], [BALANCED, *DYNAS, RATE]
VARIANTS = {
    "sgd": SGD_BEST,
    "short": [*SGD_BEST, f"budget.steps={STEPS // 5}"],
    "slow": [BALANCED],
    "fast": [BALANCED, "weight_step.lr=0.4"],
    "uniform": [RATE],
    "moved": [*SGD_BEST, "weight_step=moved"],
    "running": [*SGD_BEST, "network.batch_norm=running"],
    "dynas": DYNAS_BEST,
    "dynas_uniform": [*DYNAS, RATE],
    "dynas_fast": [BALANCED, *DYNAS, "weight_step.lr=0.2"],
    "dynas_deep": [*DYNAS_BEST, "network.cells=3"],
    "dynas_wide": [*DYNAS_BEST, "network.channels=16"],
    "dynas_narrow": [*DYNAS_BEST, "network.channels=5", "budget.steps=24000"],
}
MOVED = """_target_: shared_weights.MovedSGD
lr: 0.1
grad_clip: null
"""


class MovedSGD(SGDStep):
    """An optimizer as it comes: what a path leaves out of a shared tensor has a gradient of zero, and is moved."""

    def update(self, state: SearchState, paths: Sequence[EdgeWeights]) -> None:
        for parameter in state.network.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        state.weight_optimizer.step()
        state.weight_optimizer.zero_grad(set_to_none=True)


class RunningStatistics(SupernetEvaluator):
    """Judges with the statistics that all paths together have left."""

    def value(self, genotype: Genotype, epochs: int) -> float:
        path = EdgeWeights.one_hot(list(self.space.path(genotype)), len(self.space.candidates)).to(self.task.device)
        self.compute.network.eval()
        with torch.no_grad():
            return self.task.metric.worth(self.task.judge(lambda inputs: self.compute.logits(inputs, path), None))


def darts(words: list[str], log: Path) -> None:
    code = "import sys; from darts.cli import main; sys.exit(main())"
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    with log.open("w") as file:
        subprocess.run([sys.executable, "-c", code, *words], check=True, stdout=file, stderr=file, env=environment)


def ranked(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """What one variant gave."""
    run, ranking = options.folder / name, options.folder / f"{name}.rank"
    words = [*BASE, f"budget.steps={STEPS}", *VARIANTS[name]]
    if not (ranking / "rank.json").exists():
        configs = options.folder / "configs"
        (configs / "weight_step").mkdir(parents=True, exist_ok=True)
        (configs / "weight_step" / "moved.yaml").write_text(MOVED)
        data = ["dataset=image_folder", f"dataset.root={options.images}", "plugins=[shared_weights]"]
        place = [f"run_dir={run}", "--config-dir", str(configs)]
        darts(["search", *words, *data, *place], options.folder / f"{name}.log")
        judge = RunningStatistics if name == "running" else SupernetEvaluator
        evaluator, space = judge(str(run)), CellSpace()
        table = CsvOracle(str(options.oracle)).load(space)
        assert table is not None
        stored = read_config(run, "search", CONFIG_KEYS, "run")
        task = build_task(stored, build_one(stored, "dataset", ()), {}, "task")
        evaluator.open(Context(space, table, task, torch.device("cpu"), ("shared_weights",)))
        cells = rank(drawn(space, CELLS, SEED), lambda cell: evaluator.value(cell, 1), space, table, TRUTH)
        ranking.mkdir()
        write_text(ranking / "rank.json", json.dumps(as_content(cells, {"run": name}), indent=1))
    content = json.loads((ranking / "rank.json").read_text())
    seconds = json.loads((run / "result.json").read_text())["seconds"]["total"]
    return {
        "variant": name, "settings": words, "seconds": round(seconds, 1), "correlations": content["correlations"]
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder as dataset=image_folder reads it")
    parser.add_argument("--oracle", type=Path, required=True, help="CSV with the columns cell and cifar10_valid_200")
    parser.add_argument("--folder", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    options.images, options.oracle = options.images.resolve(), options.oracle.resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda name: ranked(name, options), options.variants))
    for one in found:
        tau = {name: value["kendall"]["value"] for name, value in one["correlations"]["all"].items() if name != "cells"}
        print(f"{one['variant']:<14} {one['seconds']:>6.0f} s  tau {' '.join(f'{k} {v:.2f}' for k, v in tau.items())}")
    if options.json:
        about = environment(torch.device("cpu")) | {"cells": CELLS, "truth": str(TRUTH)}
        options.json.write_text(json.dumps(about | {"variants": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
