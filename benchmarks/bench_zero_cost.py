"""How long training-free scores of 100 cells take, and how they rank cells beside a table of known accuracies.

    python benchmarks/bench_zero_cost.py DATA TABLE.csv --json benchmarks/results/FILE.json

DATA is a folder of images as `dataset=image_folder` reads it. The cells are drawn uniformly; networks have C=16, N=5,
images 32x32, batches 64. `together` scores every cell with all proxies on shared passes. `spearman` and `kendall` are
rank correlations with known test accuracy (cifar10/test/200).
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import time
from functools import partial
from pathlib import Path

import torch
from scipy import stats

from darts.blackbox.evaluators.base import Context
from darts.blackbox.evaluators.zero_cost import ZeroCostEvaluator
from darts.blackbox.scores import PROXIES
from darts.oracle.base import BENCHMARK
from darts.oracle.csv import CsvOracle
from darts.tasks.classification import Classification
from darts.tasks.datasets.image_folder import ImageFolder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    table = CsvOracle(str(options.table)).load(BENCHMARK)
    evaluator = ZeroCostEvaluator()
    task = partial(Classification, ImageFolder(str(options.data), image_size=32))
    evaluator.open(Context(table.space, table, task, torch.device("cpu")))
    rng = random.Random(options.seed)
    cells = [table.space.sample(rng) for _ in range(options.cells)]
    truth = [table.value(cell, "cifar10", "test", 200) for cell in cells]
    PROXIES["snip"](evaluator.probe(cells[0]))  # warm up
    figures = []
    print(f"{len(cells)} cells, C=16, N=5, 32x32, batch 64, {torch.get_num_threads()} threads")
    print(f"{'proxy':<20} {'seconds':>8} {'spearman':>9} {'kendall':>8}")
    for name, proxy in PROXIES.items():
        start = time.perf_counter()
        scores = [proxy(evaluator.probe(cell)) for cell in cells]
        seconds = time.perf_counter() - start
        pairs = [(score, known) for score, known in zip(scores, truth, strict=True) if score == score]
        spearman, kendall = (
            float(test(*zip(*pairs, strict=True)).statistic) for test in (stats.spearmanr, stats.kendalltau)
        )
        figures.append(
            {"proxy": name, "seconds": seconds, "scored": len(pairs), "spearman": spearman, "kendall": kendall}
        )
        print(f"{name:<20} {seconds:>8.1f} {spearman:>9.3f} {kendall:>8.3f}", flush=True)
    start = time.perf_counter()
    for cell in cells:
        probe = evaluator.probe(cell)
        for proxy in PROXIES.values():
            proxy(probe)
    together = time.perf_counter() - start
    print(f"{'together':<20} {together:>8.1f}")
    if options.json:
        content = {
            "cells": len(cells), "seed": options.seed, "threads": torch.get_num_threads(),
            "torch": str(torch.__version__), "machine": platform.machine(), "table": table.name,
            "together_seconds": together, "proxies": figures,
        }  # fmt: skip
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
