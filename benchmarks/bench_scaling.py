"""What several processes, executors, checkpoints, long runs and many runs cost.

    python benchmarks/bench_scaling.py [--parts processes executors ...] [--rounds 3] [--json PATH]

processes    images per second of bilevel steps: one process with all threads, and two with half of them each (torchrun,
             gloo), in turns; the ratio is of medians. Images of 32x32, batch 64.
executors    trainings per second of candidates that take about 0.1 and 2 seconds, on one thread each: in this process,
             in two processes, on a Ray cluster of two (if Ray is installed). Efficiency is the rate over twice the
             serial one of the same round; of 40 and 24 candidates, since one takes up to half as long again as another.
finalists    steps per second of the default search's finalists, two at a time on one thread each, by every executor;
             images of 16x16, batch 64, C=8, N=5. Efficiency as above.
checkpoints  share of the time of a search of two minutes on digits that checkpoints take, with default settings.
growth       memory of the process and size of the run folder over 10,000 steps of a tiny search.
compare      seconds of `darts compare` on 10,000 runs of a table's search, and size of its page.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch

from darts.command.config import compose_config
from darts.run import ranks
from darts.run.files import write_text
from darts.search.build import build_search
from darts.search.loop import Search
from darts.search.monitors.base import Monitor
from darts.search.short_trainings import ALLOWED
from darts.tasks.classification import Classification
from darts.tasks.datasets.fake import Fake
from darts.training.executors import EXECUTORS
from darts.training.recipe import Recipe
from darts.training.worker import Job, Site, Trainer
from supernet.spaces.cells import CellSpace

STEPS, WARM = 12, 3
SIZES = {"C=16, N=1": (16, 1), "C=16, N=5": (16, 5)}
WORKERS = 2
CANDIDATES = {0.1: 40, 2.0: 24}  # seconds of one: how many
RUNS = 10_000


def images_per_second(channels: int, cells: int) -> dict[str, float]:
    """Of this process, or of those that it belongs to; and bytes that a step sums over the processes."""
    words = ["method=plain", "dataset=fake", "dataset.images=1024", "dataset.image_size=32", "data.batch_size=64"]
    words += [f"network.channels={channels}", f"network.cells={cells}", "monitor=[]", "oracle=none", "budget.steps=100"]
    search = build_search(compose_config("search", words), None)
    state = search.state
    state.planned_steps = 100
    for _ in range(WARM):
        step(search)
    ranks.gathered(None)
    begun, images = time.perf_counter(), state.images
    for _ in range(STEPS):
        step(search)
    ranks.gathered(None)
    lasted = time.perf_counter() - begun
    weights = sum(value.numel() for value in state.network.parameters())
    return {"images_per_second": (state.images - images) / lasted, "step": lasted / STEPS, "weights": weights}


def step(search: Search) -> None:
    phase = search._phase()
    search.steps.weights.schedule(search.state)
    phase.step(search.state, search.steps)
    search.state.step += 1


def child(processes: int, name: str) -> dict[str, float]:
    """The figures of one start."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        own = [str(Path(__file__).resolve()), "--child", name, "--json", str(file)]
        run = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
        done = subprocess.run([sys.executable, *run, *own], check=False, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        found: dict[str, float] = json.loads(file.read_text())
        return found


def processes(rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in SIZES:
        rows: dict[int, list[dict[str, float]]] = {1: [], 2: []}
        for _ in range(rounds):
            for count in rows:
                rows[count].append(child(count, name))
        one, two = (statistics.median(row["images_per_second"] for row in rows[count]) for count in (1, 2))
        found[name] = {
            "weights": rows[1][0]["weights"], "one": one, "two": two, "ratio": two / one,
            "all": {count: [row["images_per_second"] for row in row_of] for count, row_of in rows.items()},
        }  # fmt: skip
        print(f"{name}: {one:.0f} images/s with one process, {two:.0f} with two: {two / one:.2f} times", flush=True)
    return found


def executors(rounds: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    space = CellSpace()
    cell = space.parse("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|")
    task = partial(Classification, Fake(images=96, num_classes=3), 0.5, 16, 0)
    site = Site(space, task, 4, 1, torch.device("cpu"), 1)
    trainer = Trainer(site)
    trainer.train(Job(cell, Recipe(3, 0.01), 0))
    begun = time.perf_counter()
    trainer.train(Job(cell, Recipe(20, 0.01), 0))
    epoch = (time.perf_counter() - begun) / 20
    found: dict[str, Any] = {}
    for seconds, count in CANDIDATES.items():
        jobs = [Job(cell, Recipe(max(1, round(seconds / epoch)), 0.01), seed) for seed in range(count)]
        rates: dict[str, list[float]] = {}
        for _ in range(rounds):
            for name in EXECUTORS:
                workers = 1 if name == "serial" else WORKERS
                try:
                    executor = EXECUTORS[name](partial(Trainer, site), workers)
                    rates.setdefault(name, []).append(rate(executor, workers, jobs, cell))
                except ImportError:
                    continue
        found[f"{seconds:g} s"] = {
            name: {"per_second": statistics.median(row), "efficiency": efficiency(row, rates["serial"])}
            for name, row in rates.items()
        }
        for name, row in found[f"{seconds:g} s"].items():
            print(f"candidates of {seconds:g} s, {name}: {row['per_second']:.3f} a second", end="")
            print("" if name == "serial" else f", {row['efficiency']:.0%} efficient", flush=True)
    return found


def rate(executor: Any, workers: int, jobs: list[Job], cell: Any) -> float:
    train = partial(executor.run, Trainer.train)
    try:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(train, [Job(cell, Recipe(1, 0.01), 0)] * 2 * workers))  # processes and data are there
            begun = time.perf_counter()
            list(pool.map(train, jobs))
            return len(jobs) / (time.perf_counter() - begun)
    finally:
        executor.close()


def efficiency(row: list[float], serial: list[float]) -> float:
    """The median over rounds; a machine that others use is faster in one than in another."""
    return statistics.median(own / alone / WORKERS for own, alone in zip(row, serial, strict=True))


def finalists(rounds: int) -> dict[str, Any]:
    words = ["dataset=fake", "dataset.images=1024", "dataset.image_size=16", "data.batch_size=64", "monitor=[]"]
    words += ["phases.bilevel.share=0", "budget.epochs=null", "budget.steps=100000", "oracle=none"]
    rates: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name in [name for name in ALLOWED if name == "thread" or name in EXECUTORS]:
            search = build_search(compose_config("search", [*words, f"phases.finalists.executor={name}"]), None)
            search.state.planned_steps = 100_000
            for _ in range(2 * WARM):
                step(search)
            begun, images = time.perf_counter(), search.state.images
            for _ in range(20 * STEPS):
                step(search)
            lasted = time.perf_counter() - begun
            rates.setdefault(name, []).append((search.state.images - images) / 64 / lasted)
            for phase in search.schedule.phases.values():
                phase.release()
    found = {}
    for name, row in rates.items():
        rate = statistics.median(row)
        found[name] = {"per_second": rate, "efficiency": efficiency(row, rates["serial"]), "all": row}
        print(f"finalists, {name}: {rate:.1f} steps/s", end="")
        print("" if name == "serial" else f", {found[name]['efficiency']:.0%} efficient", flush=True)
    return found


def checkpoints(rounds: int) -> dict[str, Any]:
    shares = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            line = [
                sys.executable,
                "-m",
                "darts",
                "search",
                "budget.seconds=120",
                "oracle=none",
                f"run_dir={folder}/run",
            ]
            subprocess.run(line, check=True, capture_output=True)
            seconds = json.loads((Path(folder) / "run/result.json").read_text())["seconds"]
            shares.append(seconds["checkpoints"] / seconds["total"])
    print(f"checkpoints: {statistics.median(shares):.2%} of a search of two minutes", flush=True)
    return {"share": statistics.median(shares), "all": shares}


class Growth(Monitor):
    """Memory and size of the folder, every thousand steps."""

    def __init__(self, rows: list[dict[str, float]]) -> None:
        self.rows = rows

    def on_step(self, search: Any, numbers: dict[str, float]) -> None:
        if search.state.step % 1000 == 0:
            size = sum(file.stat().st_size for file in search.run_dir.rglob("*") if file.is_file())
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            memory = pages * resource.getpagesize() / 2**20
            self.rows.append({"step": search.state.step, "memory_mib": memory, "folder_mib": size / 2**20})
            print(f"step {search.state.step}: {memory:.0f} MiB, folder {size / 2**20:.2f} MiB", flush=True)


def growth(rounds: int) -> dict[str, Any]:
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("checkpoints", "tensorboard"):
            (Path(folder) / name).mkdir()
        words = ["method=plain", "dataset=fake", "dataset.images=2048", "dataset.image_size=4", "data.batch_size=8"]
        words += ["network.channels=2", "space.num_nodes=3", "oracle=none", "budget.steps=10000", "engine.threads=1"]
        search = build_search(compose_config("search", [*words, "monitor=[tensorboard]"]), Path(folder))
        search.monitors = [*search.monitors, Growth(rows)]
        search.run()
    return {"rows": rows}


def compare(rounds: int) -> dict[str, Any]:
    """A real result, 10,000 times with other seeds, in folders of their own."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        words = ["baseline=random_search", "evaluator=zero_cost", "dataset=fake", "budget.evaluations=20", "seeds=0"]
        line = [sys.executable, "-m", "darts", "baseline", *words, "oracle=none", f"run_dir={runs / 'run-0'}"]
        subprocess.run(line, check=True, capture_output=True)
        whole = json.loads((runs / "run-0/result.json").read_text())
        config = (runs / "run-0/config.yaml").read_text()
        for seed in range(1, RUNS):
            own = runs / f"run-{seed}"
            own.mkdir()
            signal = whole["runs"][0]["trajectory"][-1]["signal"] + seed / RUNS
            run = whole["runs"][0] | {"seed": seed}
            run["trajectory"] = [*run["trajectory"][:-1], run["trajectory"][-1] | {"signal": signal}]
            (own / "result.json").write_text(json.dumps(whole | {"runs": [run], "label": f"method {seed % 10}"}))
            (own / "config.yaml").write_text(config)
        times = []
        for number in range(rounds):
            begun, out = time.perf_counter(), f"{folder}/compared-{number}"
            line = [sys.executable, "-m", "darts", "compare", str(runs), "oracle=none", f"run_dir={out}"]
            subprocess.run(line, check=True, capture_output=True)
            times.append(time.perf_counter() - begun)
        page = (Path(out) / "report.html").stat().st_size
    print(f"compare on {RUNS:,} runs: {statistics.median(times):.1f} s, a page of {page / 2**20:.1f} MiB", flush=True)
    return {"seconds": statistics.median(times), "all": times, "page_bytes": page}


PARTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "processes": processes, "executors": executors, "finalists": finalists, "checkpoints": checkpoints,
    "growth": growth, "compare": compare,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        if ranks.started():
            with ranks.joined():
                found = images_per_second(*SIZES[given.child])
                if ranks.first():
                    given.json.write_text(json.dumps(found))
        else:
            given.json.write_text(json.dumps(images_per_second(*SIZES[given.child])))
        return
    if importlib.util.find_spec("ray") is None:
        EXECUTORS.pop("ray", None)
    found = {name: PARTS[name](given.rounds) for name in given.parts}
    cores = len(os.sched_getaffinity(0))
    about = {"date": time.strftime("%Y-%m-%d"), "torch": str(torch.__version__), "cores": cores}
    about |= {"machine": platform.processor() or platform.machine(), "rounds": given.rounds}
    if given.json:
        write_text(given.json, json.dumps(about | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
