"""Images per second of `darts retrain` against a plain loop over a DataLoader with 2 workers.

    python benchmarks/bench_retrain.py [--rounds 5] [--images 2000] [--threads 2] [--json PATH]

Same network, batch size, optimizer, random crop and mirror images. The plain loop is what one writes first: pictures in
memory as Pillow has them, torchvision's transforms in two worker processes, the network in the usual layout. Both are
timed over whole epochs in turns, in this one process; the ratio is of medians.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from darts.run.files import write_text
from darts.tasks.classification import Classification
from darts.tasks.datasets.fake import Fake
from darts.training.fit import FitState, fit
from darts.training.recipe import Recipe
from supernet.size import NetworkSize
from supernet.spaces.cells import CellSpace

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
SIZES = {"C=16, N=5": (16, 5), "C=16, N=1": (16, 1), "C=8, N=1": (8, 1)}
BATCH = 64


class Pictures(Dataset):
    """Images in memory as Pillow has them."""

    def __init__(self, images_NCHW: torch.Tensor, labels_N: torch.Tensor) -> None:
        self.pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images_NCHW]
        self.labels = labels_N.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.5,) * 3, (0.25,) * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.pictures[place]), self.labels[place]


def network(channels: int, cells: int) -> torch.nn.Module:
    """The network of the benchmark's best cell."""
    torch.manual_seed(0)
    space = CellSpace()
    return space.network(space.parse(CELL), NetworkSize(channels, cells))


def ours(images: int, channels: int, cells: int, bfloat16: bool) -> float:
    """Images per second of one epoch."""
    dataset = Fake(2 * images, 10, 3, image_size=32)
    dataset.crop_padding, dataset.flip = 4, True
    task = Classification(dataset, split=0.5, batch_size=BATCH)
    made, recipe = network(channels, cells).to(memory_format=torch.channels_last), Recipe(1)
    state = FitState(made, task, recipe)
    begun = time.perf_counter()
    fit(made, task, recipe, state, bfloat16=bfloat16)
    return state.step * BATCH / (time.perf_counter() - begun)


def plain(loader: DataLoader, channels: int, cells: int) -> float:
    """Images per second of one epoch."""
    made = network(channels, cells).train()
    optimizer = torch.optim.SGD(made.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    begun, done = time.perf_counter(), 0
    for images, labels in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(made(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()
        done += len(labels)
    return done / (time.perf_counter() - begun)


def main() -> None:
    """Print a table, and write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    source = Fake(2 * options.images, 10, 3, image_size=32).load_train()
    data = Pictures(source.images_NCHW[: options.images], source.labels_N[: options.images])
    loader = DataLoader(data, BATCH, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True)
    rows = []
    print(f"{'network':<12} {'plain':>8} {'ours':>8} {'ratio':>6} {'bfloat16':>9} {'ratio':>6}   images/s, medians")
    for name, (channels, cells) in SIZES.items():
        found: dict[str, list[float]] = {"plain": [], "ours": [], "bfloat16": []}
        for number in range(options.rounds + 1):
            one = {
                "plain": plain(loader, channels, cells),
                "ours": ours(options.images, channels, cells, bfloat16=False),
                "bfloat16": ours(options.images, channels, cells, bfloat16=True),
            }
            if number:  # the first round warms up
                for kind, speed in one.items():
                    found[kind].append(speed)
        middle = {kind: statistics.median(speeds) for kind, speeds in found.items()}
        ratio, fast = middle["ours"] / middle["plain"], middle["bfloat16"] / middle["plain"]
        rows.append({"network": name, **middle, "ratio": ratio, "ratio_bfloat16": fast, "rounds": options.rounds})
        print(
            f"{name:<12} {middle['plain']:>8,.0f} {middle['ours']:>8,.0f} {ratio:>6.2f} {middle['bfloat16']:>9,.0f} "
            f"{fast:>6.2f}"
        )
    if options.json:
        machine = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
        about = {"machine": machine, "threads": options.threads, "batch": BATCH, "images": options.images}
        write_text(options.json, json.dumps(about | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
