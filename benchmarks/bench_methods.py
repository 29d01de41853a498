"""What a step of each method costs, beside one of plain DARTS.

    python benchmarks/bench_methods.py --json benchmarks/results/FILE.json

A step is one of the phase that has most of the budget in the preset of configs/method: for most methods an
architecture step and a weight step, of 64 images of noise each. All methods run in one process, in turn, for several
rounds; a figure is the median over the rounds of the mean of `--steps` steps, since the methods that draw paths have
cheap steps and dear ones. Left out are `finalists`, which trains discrete networks, `plain`, which is darts_v1, and
`shared_weights`, which is dynas on small images.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from darts.command.config import compose_config, config_folders, group_choices
from darts.run.environment import environment
from darts.search.build import build_search

LEFT_OUT = ("finalists", "plain", "shared_weights")
SIZE = ["network.channels=16", "network.cells=1", "data.batch_size=64"]
DATA = ["dataset=fake", "dataset.num_classes=10", "dataset.image_size=32", "dataset.images=1280"]


def stepper(method: str) -> tuple[str, Callable[[], None]]:
    """The phase's name, and a function that takes one step of it, in the middle of its schedules."""
    settings = compose_config("search", [f"method={method}", "monitor=[]", "device=cpu", *SIZE, *DATA])
    main = max(settings["phases"], key=lambda name: settings["phases"][name]["share"])
    search = build_search(settings, None)
    state, phase = search.state, search.schedule.phases[main]
    state.planned_steps, state.step, state.phase = 1000, 500, main
    state.phase_progress = 0.5
    phase.enter(state)

    def step() -> None:
        search.steps.weights.schedule(state)
        phase.step(state, search.steps)

    return main, step


def seconds(step: Callable[[], None], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - start) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=6, help="of a method in a round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = sorted(set(group_choices("method", config_folders([], None), "search")) - {*LEFT_OUT})
    steppers = {name: stepper(name) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for _, step in steppers.values():
        step()
    for _ in range(options.rounds):
        for name, (_, step) in steppers.items():
            times[name].append(seconds(step, options.steps))
    medians = {name: statistics.median(values) for name, values in times.items()}
    cases: list[dict[str, Any]] = [
        {"method": name, "phase": steppers[name][0], "median_s": median, "ratio_to_darts": median / medians["darts_v1"]}
        for name, median in sorted(medians.items(), key=lambda item: item[1])
    ]
    for case in cases:
        print(
            f"{case['method']:<14} {case['phase']:<13} {1e3 * case['median_s']:>7.1f} ms {case['ratio_to_darts']:>6.2f}"
        )
    if options.json:
        about = environment(torch.device("cpu")) | {"rounds": options.rounds, "steps": options.steps}
        options.json.write_text(json.dumps(about | {"cases": cases}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
