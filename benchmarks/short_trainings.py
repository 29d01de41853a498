"""How the benchmark's 12-epoch trainings, repeated on other images, rank cells.

    python benchmarks/short_trainings.py --images DIR --oracle CSV --folder RUNS --json benchmarks/results/FILE.json

Cells that carry something from input to output, drawn uniformly, are trained with `darts retrain recipe=nb201_12` at
the benchmark's size, and their test accuracies are compared with those of the table after 12 epochs. Two trainings run
at a time, a thread each. Trainings that lie in the folder are gone on with, or not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from darts.compare.rank import as_content, drawn, rank
from darts.oracle.base import Column
from darts.oracle.csv import CsvOracle
from darts.report.rank_figure import draw_rank
from darts.run.environment import environment
from darts.run.files import write_text
from darts.training.build import carries_signal
from supernet.spaces.base import Genotype
from supernet.spaces.cells import CellSpace

TRUTH = Column("cifar10", "test", 12)


def trained(cell: str, folder: Path, images: Path, precision: str) -> float:
    """Test accuracy of one training, in percent."""
    if not (folder / "result.json").exists():
        fresh = [
            f"cell={cell!r}", "recipe=nb201_12", "dataset=image_folder", f"dataset.root={images}", f"run_dir={folder}",
            "engine.threads=1", f"engine.precision={precision}",
        ]  # fmt: skip
        words = [f"resume={folder}"] if (folder / "checkpoints").exists() else fresh
        with folder.with_suffix(".log").open("a") as log:
            subprocess.run([sys.executable, "-m", "darts", "retrain", *words], check=True, stdout=log, stderr=log)
    return float(json.loads((folder / "result.json").read_text())["test_accuracy"])


def main() -> None:
    """Train, print the cells, and write them with their correlations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder as dataset=image_folder reads it")
    parser.add_argument("--oracle", type=Path, required=True, help="CSV with the columns cell and cifar10_test_12")
    parser.add_argument("--folder", type=Path, required=True, help="where the trainings are kept")
    parser.add_argument("--cells", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--precision", default="auto", help="as engine.precision")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--picture", type=Path, help="draw both accuracies there")
    options = parser.parse_args()
    space, images = CellSpace(), options.images.resolve()
    table = CsvOracle(str(options.oracle)).load(space)
    assert table is not None
    carrying = [
        genotype for genotype in drawn(space, 2 * options.cells, options.seed) if carries_signal(space, genotype)
    ]
    cells = carrying[: options.cells]
    options.folder.mkdir(parents=True, exist_ok=True)

    def value(genotype: Genotype) -> float:
        place = options.folder / f"cell-{table.benchmark_index(genotype)}"
        return trained(str(genotype), place, images, options.precision)

    with ThreadPoolExecutor(2) as pool:
        values = dict(zip(cells, pool.map(value, cells), strict=True))
    ranked = rank(cells, values.get, space, table, TRUTH)
    for one in sorted(ranked, key=lambda one: -one.truth):
        print(f"{one.value:6.2f} %   {one.truth:6.2f} % in the table   {one.params:>9,}   {one.cell}")
    about = {"recipe": "nb201_12", "precision": options.precision, "seed": options.seed, "truth": str(TRUTH)}
    content = as_content(ranked, about)
    for name, value_of in content["correlations"]["all"].items():
        print(name, value_of)
    if options.picture:
        draw_rank(ranked, "test accuracy here, %", "CIFAR-10, 12 epochs (%)", options.picture)
    if options.json:
        write_text(options.json, json.dumps(environment(torch.device("cpu")) | content, indent=1) + "\n")


if __name__ == "__main__":
    main()
