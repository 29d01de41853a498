"""Time of a pass of a trained network: eager, with folded normalisation, as an exported program, and as ONNX.

    python benchmarks/bench_inference.py [--rounds 7] [--threads 2] [--json PATH]

The network of the benchmark's best cell, C=16, N=5, 32 x 32 pixels, weights as they begin. Kinds are timed in turns;
medians. Also the time that writing each file takes, checks included.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
from pathlib import Path

import torch

from darts.models.exporting import export
from darts.models.formats.base import formats
from darts.run.files import write_text
from darts.run.timing import timed
from darts.training.model import About, Model, sizes_of
from supernet.folding import folded
from supernet.size import NetworkSize
from supernet.spaces.cells import CellSpace

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
CPU = torch.device("cpu")


def model() -> Model:
    """The network, with statistics of noise."""
    torch.manual_seed(0)
    space, size = CellSpace(), NetworkSize()
    network = space.network(space.parse(CELL), size).to(memory_format=torch.channels_last)
    with torch.no_grad():
        network(torch.randn(64, 3, 32, 32))
    inputs = {"classes": list("abcdefghij"), "mean": [0.5] * 3, "deviation": [0.25] * 3, "decoded_size": 32}
    node = {"_target_": "supernet.spaces.cells.CellSpace"}
    about = About(CELL, node, sizes_of(size), "as it begins", "nothing", inputs)
    return Model(network.eval(), about, space, space.parse(CELL))


def main() -> None:
    """Print a table, and write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    one = model()
    with tempfile.TemporaryDirectory() as folder:
        files = {
            name: export(one, form, Path(folder) / f"model{form.suffix}")
            for name, form in formats().items()
            if name != "safetensors"
        }
        calls = {"eager": one.network, "folded": folded(one.network).to(memory_format=torch.channels_last)}
        calls |= {name: formats()[name].run(made.path) for name, made in files.items()}
        rows = []
        print(f"{'images':<8}" + "".join(f"{name:>14}" for name in calls) + "   ms, medians")
        for images in (1, 64):
            images_BCHW = torch.randn(images, 3, 32, 32)
            found: dict[str, list[float]] = {name: [] for name in calls}
            with torch.no_grad():
                for _ in range(options.rounds):
                    for name, call in calls.items():
                        found[name].append(1e3 * statistics.median(timed(lambda: call(images_BCHW), 5, CPU)))  # noqa: B023
            middle = {name: statistics.median(values) for name, values in found.items()}
            rows.append({"images": images, "ms": middle, "rounds": options.rounds})
            print(f"{images:<8}" + "".join(f"{value:>14.2f}" for value in middle.values()))
    seconds = {name: made.seconds for name, made in files.items()}
    print("writing and checking: " + ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items()))
    if options.json:
        machine = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
        about = {"machine": machine, "threads": options.threads, "export_seconds": seconds}
        write_text(options.json, json.dumps(about | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
