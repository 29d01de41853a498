"""How long a bilevel step in the DARTS space takes (an architecture and a weight step of 64 images of 32x32 each).

    python benchmarks/bench_darts_cells.py --json benchmarks/results/FILE.json

Both variants take steps in turn in one process, on the same batches, for several rounds; figures are medians.
`conventional` is benchmarks/conventional_darts.py, `conventional_cl` the same with channels-last weights and images.
peak_mib is the peak resident memory of a process of its own above what was resident just before its first step.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from bench_search_step import batches, memory_mib, timed
from conventional_darts import ConventionalSearch

from darts.command.config import compose_config
from darts.run.environment import environment
from darts.search.build import build_search

VARIANTS = ("conventional", "conventional_cl", "darts")


def stepper(variant: str, channels: int, cells: int) -> Callable[[], None]:
    """A function that takes one bilevel step."""
    train, valid = batches()
    if variant.startswith("conventional"):
        torch.manual_seed(0)
        opponent = ConventionalSearch(channels, cells)
        if variant == "conventional_cl":
            opponent.network.to(memory_format=torch.channels_last)
            train, valid = ((part[0].to(memory_format=torch.channels_last), part[1]) for part in (train, valid))
        return lambda: opponent.step(train, valid)
    words = ["method=darts_v1_cells", "monitor=[]", "dataset=fake", "dataset.num_classes=10", "dataset.image_size=32"]
    size = [f"network.channels={channels}", f"network.cells={cells}", "data.batch_size=16"]  # its data is not used here
    search = build_search(compose_config("search", [*words, *size]), None)
    state, steps = search.state, search.steps
    state.planned_steps = 1000

    def step() -> None:
        steps.weights.schedule(state)
        steps.architecture(state, train, valid)
        steps.weights(state, train, valid)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--peak", choices=VARIANTS, help="print one variant's peak_mib")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        step = stepper(options.peak, options.channels, options.cells)
        before = memory_mib("VmRSS")
        for _ in range(2):
            step()
        print(memory_mib("VmHWM") - before)
        return
    steps = {variant: stepper(variant, options.channels, options.cells) for variant in VARIANTS}
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(options.rounds):
        for variant, step in steps.items():
            times[variant].append(timed(step))
    words = [sys.executable, __file__, "--threads", str(options.threads), "--channels", str(options.channels)]
    cases = []
    for variant, values in times.items():
        asked = [*words, "--cells", str(options.cells), "--peak", variant]
        peak = float(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()[-1])
        ratio = statistics.median(times["conventional"]) / statistics.median(values)
        cases.append({"variant": variant, "median_s": statistics.median(values), "x_faster": ratio, "peak_mib": peak})
        print(
            f"{variant:<16} {statistics.median(values):8.2f} s/step  {ratio:5.2f} x faster  {peak:8.0f} MiB", flush=True
        )
    if options.json:
        about = environment(torch.device("cpu")) | {"cpus": os.cpu_count(), "rounds": options.rounds}
        size = {"channels": options.channels, "cells": options.cells, "threads": options.threads}
        options.json.write_text(json.dumps(about | size | {"cases": cases}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
