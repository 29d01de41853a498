"""How waiting OpenMP threads should wait: a bilevel step on a quiet machine, and beside other programs.

    python benchmarks/bench_shared_machine.py --json benchmarks/results/FILE.json

torch's OpenMP (libgomp) lets a thread without work spin before it sleeps. On a shared machine the thread spins where
the one that it waits for could run. OMP_WAIT_POLICY=passive lets it sleep at once, GOMP_SPINCOUNT=N after N turns;
both are read once, when torch is imported. Each setting is a process of its own, which builds a search and takes steps
when it is told to; the others sleep meanwhile. All settings take their turn, beside every load, in every round; a
figure is the median over the rounds of the mean time of a step.

load       programs beside it that never wait (`while True: pass`)
threads    of torch; one thread waits for nobody and is measured with the default alone
x quiet    time / time of the default with all threads and no load, in the same round: the median
x best     time / time of the best of the default with all threads and with one, beside the same load, in that round
spread     (slowest - fastest round) / median

`default again` is the default in another process: how far it is from 1 is noise. The other two settings are those of
the command, which looks at the machine when it starts: on a quiet one, and beside other programs (`darts.run.waiting`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from darts.run.waiting import QUIET, SHARED

SIZES = {
    "digits": [],
    "fake32": ["dataset=fake", "dataset.image_size=32", "dataset.images=512", "network.channels=16"],
}
SETTINGS = ("default", "default again", f"GOMP_SPINCOUNT={QUIET}", f"GOMP_SPINCOUNT={SHARED}")
READ_BY_OPENMP = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "OMP_PROC_BIND", "GOMP_CPU_AFFINITY")


def serve(size, threads):
    """A step's mean time, over as many seconds as each line of stdin says."""
    import torch  # first: it reads the environment as it is, before the package can change it

    from darts.command.config import compose_config
    from darts.search.build import build_search

    search = build_search(compose_config("search", ["monitor=[]", "oracle=none", *SIZES[size]]), None)
    torch.set_num_threads(threads)
    state, phase = search.state, next(iter(search.schedule.phases.values()))
    state.planned_steps = 10**6
    for _ in range(3):
        phase.step(state, search.steps)
    print(json.dumps(torch.__version__), flush=True)
    for line in sys.stdin:
        start, count = time.perf_counter(), 0
        while count < 2 or time.perf_counter() - start < float(line):
            phase.step(state, search.steps)
            count += 1
        print(json.dumps((time.perf_counter() - start) / count), flush=True)


class Server:
    """A process with one setting."""

    def __init__(self, size, setting, threads):
        environment = {name: value for name, value in os.environ.items() if name not in READ_BY_OPENMP}
        environment |= dict(word.split("=") for word in setting.split(",") if "=" in word)
        words = [sys.executable, __file__, "--serve", size, str(threads)]
        self.process = subprocess.Popen(
            words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.torch = json.loads(self.process.stdout.readline())

    def seconds(self, at_least):
        self.process.stdin.write(f"{at_least}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def measure(size, settings, loads, threads, rounds, at_least):
    """Mean seconds a step of every round, by load, setting and threads; and torch's version."""
    servers = {(setting, threads): Server(size, setting, threads) for setting in settings}
    servers["default", 1] = Server(size, "default", 1)
    times = {(load, *key): [] for load in loads for key in servers}
    for _ in range(rounds):
        for load in loads:
            spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(load)]
            time.sleep(0.2)
            for key, server in servers.items():
                times[(load, *key)].append(server.seconds(at_least))
            for process in spinning:
                process.kill()
                process.wait()
    for server in servers.values():
        server.stop()
    return times, server.torch


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement, at least")
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), choices=SIZES)
    parser.add_argument("--settings", nargs="*", default=SETTINGS, metavar="NAME=VALUE[,NAME=VALUE]")
    parser.add_argument("--loads", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--serve", nargs=2, metavar=("SIZE", "THREADS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], int(options.serve[1]))
        return

    cpus = os.cpu_count()
    settings = list(dict.fromkeys(["default", *options.settings]))
    print(f"{'size':<7} {'load':>4}  {'setting':<24} {'threads':>7} {'ms/step':>8} {'x quiet':>8} {'x best':>7} spread")
    cases = []
    for size in options.sizes:
        times, torch_version = measure(
            size, settings, sorted({0, *options.loads}), cpus, options.rounds, options.seconds
        )
        medians = {key: statistics.median(values) for key, values in times.items()}
        for (load, setting, threads), seconds in medians.items():
            case = {"size": size, "load": load, "setting": setting, "threads": threads, "median_s": seconds}
            case["rounds_s"] = times[load, setting, threads]
            best = min((1, cpus), key=lambda count: medians[load, "default", count])
            for name, other in (("quiet", (0, "default", cpus)), ("best", (load, "default", best))):
                ratios = [own / its for own, its in zip(case["rounds_s"], times[other], strict=True)]
                case[f"ratio_to_{name}"] = statistics.median(ratios)
            cases.append(case)
            spread = (max(case["rounds_s"]) - min(case["rounds_s"])) / seconds
            print(
                f"{size:<7} {load:>4}  {setting:<24} {threads:>7} {1e3 * seconds:>8.1f}"
                f" {case['ratio_to_quiet']:>8.2f} {case['ratio_to_best']:>7.2f} {spread:>5.0%}",
                flush=True,
            )
    if options.json:
        about = {"torch": torch_version, "machine": platform.machine(), "cpus": cpus, "rounds": options.rounds}
        options.json.write_text(json.dumps(about | {"cases": cases}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
