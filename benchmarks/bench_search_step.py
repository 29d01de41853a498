"""How long one bilevel step takes (architecture step and weight step, 64 images of 32x32 each), and its memory.

    python benchmarks/bench_search_step.py --json benchmarks/results/FILE.json

All variants run in one process, in turn, for several rounds, on the same batches; figures are medians over the
rounds. `conventional` is benchmarks/conventional.py, `conventional_cl` the same with channels-last weights and
images; the others are the package, through its own engine:

float32, bfloat16   the mixture of all operations, `engine.precision`
pytorch             float32 with `engine.native=false`: no compiled kernels
recompute           float32 with `engine.recompute=cells`
unrolled            float32 with `arch_step=unrolled`
single_path         one operation an edge: the mean over the same 50 uniformly drawn paths

floor_s is 5 forward passes' convolution FLOPs (a weight step costs 3, an architecture step 2; 2 FLOPs a
multiply-add) at the best rate of a 2048^3 matrix product of that type on the same threads; floor_share =
floor_s / median_s, null where a step has other passes (unrolled, single_path). peak_mib is the peak resident
memory of a process of its own, above what was resident just before its first step.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from conventional import ConventionalSearch, Network
from torch import Tensor

from darts.command.config import compose_config
from darts.run.environment import environment
from darts.search.build import build_search
from supernet.relaxations.base import EdgeWeights, Parameters, Relaxation

CASES = ("8,1", "16,1", "16,5")  # C,N
VARIANTS = ("conventional", "conventional_cl", "float32", "pytorch", "bfloat16", "recompute", "unrolled", "single_path")
OVERRIDES = {
    "pytorch": ["engine.native=false"],
    "bfloat16": ["engine.precision=bfloat16"],
    "recompute": ["engine.recompute=cells"],
    "unrolled": ["arch_step=unrolled"],
}
BATCH, PATHS = 64, 50
Batch = tuple[Tensor, Tensor]


class SinglePath(Relaxation):
    """One operation an edge, drawn uniformly; the gradient passes straight through to the softmax."""

    def __call__(self, params: Parameters, progress: float, generator: torch.Generator, half: str) -> list[EdgeWeights]:
        probabilities_EO = params["alpha_EO"].softmax(dim=-1)
        num_edges, num_operations = probabilities_EO.shape
        choice_E = torch.randint(num_operations, (num_edges,), generator=generator).tolist()
        chosen = EdgeWeights.one_hot(choice_E, num_operations)
        weights_EO = chosen.weights + probabilities_EO - probabilities_EO.detach()
        return [EdgeWeights(weights_EO, chosen.active_EO)]

    def expected(self, params: Parameters, progress: float) -> EdgeWeights:
        return EdgeWeights.dense(params["alpha_EO"].softmax(dim=-1))


def batches() -> tuple[Batch, Batch]:
    """A training and a validation batch of noise."""
    generator = torch.Generator().manual_seed(0)
    return tuple(  # type: ignore[return-value]
        (torch.randn(BATCH, 3, 32, 32, generator=generator), torch.randint(10, (BATCH,), generator=generator))
        for _ in range(2)
    )


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
    network = [f"network.channels={channels}", f"network.cells={cells}"]
    data = [
        "dataset=fake",
        "dataset.num_classes=10",
        "dataset.image_size=32",
        "data.batch_size=16",
    ]  # the engine's own data is not used here
    search = build_search(compose_config("search", ["monitor=[]", *network, *data, *OVERRIDES.get(variant, [])]), None)
    state, steps = search.state, search.steps
    state.planned_steps = 1000
    if variant == "single_path":
        state.relaxation = SinglePath()

    def step() -> None:
        steps.weights.schedule(state)
        steps.architecture(state, train, valid)
        steps.weights(state, train, valid)

    return step


def timed(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def precision(variant: str) -> str:
    return "bfloat16" if variant == "bfloat16" else "float32"


def matmul_rate(dtype: torch.dtype) -> float:
    """Best GFLOP/s of a 2048^3 matrix product."""
    left, right = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    return 2 * 2048**3 / min(timed(lambda: torch.mm(left, right)) for _ in range(12)) / 1e9


def memory_mib(name: str) -> float:
    """VmRSS, what is resident now, or VmHWM, the most that was."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {name} in /proc/self/status")


def peak_mib(variant: str, channels: int, cells: int, threads: int) -> float:
    """Measured by this script in a process of its own."""
    words = [sys.executable, __file__, "--peak", variant, str(channels), str(cells), "--threads", str(threads)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[-1])


def print_peak(variant: str, channels: int, cells: int) -> None:
    step = stepper(variant, channels, cells)
    before = memory_mib("VmRSS")
    for _ in range(3):
        step()
    print(memory_mib("VmHWM") - before)


def measure(channels: int, cells: int, variants: list[str], rounds: int) -> dict[str, float]:
    """Median seconds a step of each variant, by name."""
    steps = {variant: stepper(variant, channels, cells) for variant in variants}
    times: dict[str, list[float]] = {variant: [] for variant in variants}
    paths: list[list[float]] = []
    for step in steps.values():
        step()
    for number in range(rounds):
        for variant, step in steps.items():
            if variant != "single_path":
                times[variant].append(timed(step))
            elif number % 3 == 0:
                walk = stepper(variant, channels, cells)  # a new one walks the same paths
                walk()
                paths.append([timed(walk) for _ in range(PATHS)])
    medians = {variant: statistics.median(values) for variant, values in times.items() if values}
    if paths:
        medians["single_path"] = statistics.fmean(statistics.median(path) for path in zip(*paths, strict=True))
    return medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cases", nargs="*", default=CASES, metavar="C,N")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--no-memory", action="store_true", help="leave out peak_mib")
    parser.add_argument("--peak", nargs=3, metavar=("VARIANT", "C", "N"), help="print one variant's peak_mib")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        print_peak(options.peak[0], int(options.peak[1]), int(options.peak[2]))
        return

    # a product in bfloat16 takes minutes on a CPU without units for it: only where a variant needs the figure
    rates = {name: matmul_rate(getattr(torch, name)) for name in sorted({precision(v) for v in options.variants})}
    print("matrix product: " + ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in rates.items()))
    print(f"{'C':>3} {'N':>2}  {'variant':<15} {'ms/step':>9} {'x faster':>9} {'floor share':>11} {'peak MiB':>9}")
    cases = []
    for channels, cells in (tuple(map(int, case.split(","))) for case in options.cases):
        flops = 5 * BATCH * Network(channels, cells).forward_flops(32)
        for variant, seconds in (medians := measure(channels, cells, options.variants, options.rounds)).items():
            rate = rates[precision(variant)]
            case = {
                "channels": channels,
                "cells": cells,
                "variant": variant,
                "median_s": seconds,
                "ratio_to_conventional": medians["conventional"] / seconds if "conventional" in medians else None,
                "floor_share": flops / (rate * 1e9) / seconds if variant not in ("single_path", "unrolled") else None,
                "peak_mib": None if options.no_memory else peak_mib(variant, channels, cells, options.threads),
            }
            cases.append(case)
            ratio, share, peak = (case[key] for key in ("ratio_to_conventional", "floor_share", "peak_mib"))
            print(
                f"{channels:>3} {cells:>2}  {variant:<15} {1e3 * seconds:>9.1f}"
                f" {'' if ratio is None else f'{ratio:.2f}':>9} {'' if share is None else f'{share:.2f}':>11}"
                f" {'' if peak is None else f'{peak:.0f}':>9}",
                flush=True,
            )
    if options.json:
        about = environment(torch.device("cpu")) | {"cpus": os.cpu_count(), "rounds": options.rounds}
        measured = {"matmul_gflops": rates, "cases": cases}
        options.json.write_text(json.dumps(about | measured, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
