"""Evaluations per second of every baseline on a table, the table's loading and everything else apart.

    python benchmarks/bench_baselines.py TABLE.csv --json benchmarks/results/FILE.json

Each method of configs/baseline with its settings there, signal cifar10/valid/200, 1,000 evaluations a run. `load` is
the table's reading and its growth of resident memory. Runs take turns until a method has used --seconds.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import time
from functools import partial
from pathlib import Path

import torch
import yaml

from darts.blackbox.evaluators.base import Context
from darts.blackbox.evaluators.table import TableEvaluator
from darts.blackbox.loop import BlackBox
from darts.oracle.base import BENCHMARK
from darts.oracle.csv import CsvOracle
from darts.run.files import config_dir
from darts.run.parts import build_part
from darts.tasks.classification import Classification
from darts.tasks.datasets.fake import Fake

BUDGET = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0, help="least time a method")
    parser.add_argument("--leave-out", nargs="*", default=["gp"], help="methods that take minutes a run")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    table = CsvOracle(str(options.table)).load(BENCHMARK)
    load = time.perf_counter() - start
    mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"table loaded in {load:.2f} s, {mib:.0f} MiB")
    evaluator = TableEvaluator()
    evaluator.open(Context(table.space, table, partial(Classification, Fake()), torch.device("cpu")))
    figures = []
    for file in sorted((config_dir() / "baseline").glob("*.yaml")):
        if file.stem in options.leave_out:
            continue
        baseline = build_part(yaml.safe_load(file.read_text(encoding="utf-8")), file.stem)
        search = BlackBox(baseline, table.space, evaluator, BUDGET)
        search.run(0)  # imports, caches
        seconds: list[float] = []
        answers = 0
        while sum(seconds) < options.seconds:
            start = time.perf_counter()
            answers += search.run(len(seconds)).evaluations
            seconds.append(time.perf_counter() - start)
        rate = answers / sum(seconds)
        figures.append(
            {"baseline": file.stem, "answers_per_second": rate, "seconds_a_run": sum(seconds) / len(seconds)}
        )
        print(
            f"{file.stem:<24} {rate:>10,.0f} answers/s  {1e3 * sum(seconds) / len(seconds):>10,.1f} ms a run",
            flush=True,
        )
    if options.json:
        content = {
            "evaluations": BUDGET, "python": platform.python_version(), "machine": platform.machine(),
            "load_seconds": load, "load_mib": mib, "baselines": figures,
        }  # fmt: skip
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
