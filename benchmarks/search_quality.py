"""What searches find on a folder of images, against a table of known accuracies, and whether they look at the images.

    python benchmarks/search_quality.py --images DIR --oracle CSV --truth valid --methods default,gdas,random_search \
        --seeds 100-102 --minutes 5 --threads 2 --json benchmarks/results/FILE.json [KEY=VALUE ...]

A method is `default` (what `darts search` does), a preset of configs/method, or `random_search`: cells drawn uniformly,
each trained as a finalist of the default is, all on the same batches, the one with the lowest loss is taken. KEY=VALUE
are settings of `darts search` on top. The search sees images alone; of the table only the column that `--truth` names
is read, after a search has ended. Settings may be chosen with `--truth valid` on seeds from 100; `--truth test` is for
reports, on seeds 0 to 4.

Controls: `labels` shuffles the labels among the images; `pixels` the pixels of every image, each image its own way, so
that a 3x3 convolution has nothing over a 1x1; `operations` reverses the list of candidate operations.

Each finished run is written at once; runs that the file holds already (same method, seed and config) are skipped.
"seconds" begin when the images are in memory and end with the result.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from darts.blackbox.runs import parse_seeds
from darts.command.config import compose_config
from darts.run.errors import UserError
from darts.run.files import write_text
from darts.run.seeding import make_generator
from darts.search.build import build_search
from darts.search.finalists import Finalists
from darts.search.state import SearchState
from darts.tasks.datasets.base import Dataset, Images, Smaller
from supernet.spaces.base import Genotype

CONTROLS = ("labels", "pixels", "operations")


class Watched(Dataset):
    """A data set that notes when it was loaded, and that a control may spoil first."""

    loaded_at = 0.0

    def __init__(self, inner: Dataset, control: str | None, seed: int, resolution: int | None) -> None:
        self.inner = inner if resolution is None else Smaller(inner, resolution)
        super().__init__(inner.name, self.inner.image_size, self.inner.crop_padding, inner.flip)
        self.control, self.generator = control, make_generator(seed, "control")

    def load_train(self) -> Images:
        images = self.inner.load_train()
        if self.control == "labels":
            order_N = torch.randperm(len(images), generator=self.generator)
            images = replace(images, labels_N=images.labels_N[order_N])
        if self.control == "pixels":
            flat_NCP = images.images_NCHW.flatten(2)
            order_NP = torch.rand(flat_NCP.shape[0], flat_NCP.shape[2], generator=self.generator).argsort(dim=1)
            mixed_NCP = flat_NCP.gather(2, order_NP[:, None].expand(flat_NCP.shape))
            images = replace(images, images_NCHW=mixed_NCP.view(images.images_NCHW.shape))
        Watched.loaded_at = time.perf_counter()
        return images

    def load_test(self) -> Images:
        raise AssertionError("a search must not see the test images")


class RandomCells(Finalists):
    """Cells drawn uniformly instead of a cell and its neighbours; the last rung alone, for as long as there is time."""

    def enter(self, state: SearchState) -> None:
        super().enter(state)
        self.rungs, rng = self.rungs[-1:], random.Random(state.seed)
        self._begin(state)
        self.alive = [str(state.space.sample(rng)) for _ in range(10_000)]

    def exit(self, state: SearchState) -> Genotype:
        loss = self._observe(self.alive[: self.position])
        return state.space.parse(min(loss, key=loss.__getitem__) if loss else self.alive[0])


@dataclass(frozen=True)
class Truth:
    """One column of the table."""

    name: str
    values: Mapping[str, float]

    @classmethod
    def read(cls, path: Path, name: str) -> Truth:
        with path.open(newline="") as file:
            return cls(name, {row["cell"]: float(row[f"cifar10_{name}_200"]) for row in csv.DictReader(file)})

    def rank(self, cell: str) -> int:
        return 1 + sum(value > self.values[cell] for value in self.values.values())


def settings_of(method: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The whole config of a run."""
    words = [
        "dataset=image_folder", f"dataset.root={options.images}", f"budget.seconds={60 * options.minutes:g}",
        f"seed={seed}", f"engine.threads={options.threads}", "oracle=none", "monitor=[]", "device=cpu",
    ]  # fmt: skip
    if method == "random_search":
        words += [f"phases.{name}.share=0" for name in ("warm_up", "bilevel", "single_level")]
        words += ["phases.finalists.share=1"]
    elif method != "default":
        words.append(f"method={method}")
    settings = compose_config("search", [*words, *options.settings])
    if method == "random_search":
        settings["phases"]["finalists"]["_target_"] = "search_quality.RandomCells"
    if options.control == "operations":
        settings["space"]["operations"] = list(reversed(settings["space"]["operations"]))
    settings["plugins"] = ["search_quality"]
    settings["dataset"] = {
        "_target_": "search_quality.Watched", "inner": settings["dataset"], "seed": seed,
        "control": options.control, "resolution": settings["data"].pop("resolution"),
    }  # fmt: skip
    return settings


def run(method: str, seed: int, settings: dict[str, Any], truth: Truth, control: str | None) -> dict[str, Any]:
    """One search; its cell is looked up when it has ended."""
    search = build_search(settings, None)
    result = search.run()
    seconds = time.perf_counter() - Watched.loaded_at
    found = {"cell": result.cell, "truth": truth.name, "accuracy": truth.values[result.cell]}
    found |= {"rank": truth.rank(result.cell), "seconds": round(seconds, 1), "steps": result.steps}
    path: list[list[Any]] = []
    for record in result.history:
        if not path or path[-1][1] != record["cell"]:
            path.append([record["step"], record["cell"], truth.values[record["cell"]]])
    extra = {"path": path, "phase_steps": result.phase_steps, "planned_steps": result.planned_steps}
    return {"method": method, "seed": seed, "control": control, **found, **extra}


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean, deviation and worst by method, control and settings on top."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for one in runs:
        key = (one["method"], one["control"], one["minutes"], one["truth"], tuple(one["settings"]))
        groups.setdefault(key, []).append(one["accuracy"])
    return [
        {
            "method": method, "control": control, "minutes": minutes, "truth": truth, "settings": list(settings),
            "mean": round(statistics.mean(values), 3), "worst": min(values), "runs": len(values),
            "std": round(statistics.stdev(values), 3) if len(values) > 1 else None,
        }
        for (method, control, minutes, truth, settings), values in groups.items()
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder as dataset=image_folder reads it")
    parser.add_argument("--oracle", type=Path, required=True, help="CSV with the columns cell and cifar10_TRUTH_200")
    parser.add_argument("--truth", choices=("valid", "test"), default="valid")
    parser.add_argument("--methods", default="default", help="default, random_search, names of configs/method")
    parser.add_argument("--seeds", type=parse_seeds, default=[100], help="such as 0-4")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--control", choices=CONTROLS)
    parser.add_argument("--json", type=Path, help="where runs are kept")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of darts search on top")
    options = parser.parse_args()
    options.images = options.images.resolve()
    truth = Truth.read(options.oracle, options.truth)
    content: dict[str, Any] = {"runs": []}
    if options.json and options.json.exists():
        content = json.loads(options.json.read_text())
    print(f"{'method':<20} {'control':<10} {'seed':>4} {'accuracy':>8} {'rank':>6} {'seconds':>7} {'steps':>6}  cell")
    for seed in options.seeds:
        for method in options.methods.split(","):
            settings = settings_of(method, seed, options)
            text = json.dumps([settings, options.truth], sort_keys=True)
            config = hashlib.sha256(text.encode()).hexdigest()[:16]
            known = [
                one for one in content["runs"] if (one["method"], one["seed"], one["config"]) == (method, seed, config)
            ]
            one = known[0] if known else run(method, seed, settings, truth, options.control)
            if not known:
                one |= {"config": config, "minutes": options.minutes, "threads": options.threads}
                one |= {"settings": options.settings}
                content["runs"].append(one)
                content["summary"] = summary(content["runs"])
                content["machine"] = f"{platform.machine()}, torch {torch.__version__}"
                if options.json:
                    write_text(options.json, json.dumps(content, indent=1) + "\n")
            print(
                f"{method:<20} {one['control'] or '-':<10} {seed:>4} {one['accuracy']:>8.2f} {one['rank']:>6} "
                f"{one['seconds']:>7.1f} {one['steps']:>6}  {one['cell']}",
                flush=True,
            )
    for group in summary(content["runs"]):
        deviation = "" if group["std"] is None else f" +- {group['std']:.2f}"
        more = [*group["settings"], *([f"control {group['control']}"] if group["control"] else [])]
        print(
            f"{group['method']}: {group['truth']} {group['mean']:.2f}{deviation}, worst {group['worst']:.2f}, "
            f"{group['runs']} runs of {group['minutes']:g} min {' '.join(more)}"
        )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    from search_quality import main as run_main  # under its own name, by which configs find the classes above

    try:
        run_main()
    except UserError as error:
        sys.exit(f"error: {error}")
