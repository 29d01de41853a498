"""Images a second of the data pipeline: shuffle, random crop, mirror, normalise; 64 images of 32x32 a batch.

    python benchmarks/bench_data.py --json benchmarks/results/FILE.json

`ours` is the engine's stream of batches from images that live on the device. `torchvision` is the usual one: PIL
images, RandomCrop(32, padding=4), RandomHorizontalFlip, ToTensor, Normalize in a DataLoader with 2 workers, its
start-up not counted. They run in turn for several rounds; figures are medians. `share_of_step` is the time of the two
batches of a bilevel step (C=16, N=1, float32) divided by the step's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from bench_search_step import stepper, timed
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from darts.tasks.batches import BatchStream, Normalizer
from darts.tasks.datasets.base import Images
from darts.tasks.datasets.fake import Fake

IMAGES, BATCH = 12800, 64


class PILImages(Dataset[Any]):
    """Images as files decode to, with the usual transforms."""

    def __init__(self, images_NCHW: Tensor) -> None:
        self.images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images_NCHW]
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        return self.transform(self.images[position]), position % 10


def rate(batches: Iterator[Any]) -> float:
    """Images a second of one pass over the data, after its first batch."""
    next(batches)
    start, count = time.perf_counter(), 0
    for images, _ in batches:
        count += len(images)
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    images_NCHW = torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8)
    labels_N = torch.arange(IMAGES) % 10
    dataset = Fake(image_size=32, crop_padding=4, flip=True)
    normalize = Normalizer(*Images(images_NCHW, labels_N, tuple("0123456789")).statistics(), torch.device("cpu"))
    stream = BatchStream(images_NCHW, labels_N, dataset, BATCH, normalize, torch.Generator().manual_seed(0))
    pil = PILImages(images_NCHW)
    step = stepper("float32", 16, 1)
    step()
    rates: dict[str, list[float]] = {"ours": [], "torchvision": []}
    steps = []
    for _ in range(options.rounds):
        rates["ours"].append(rate(stream.next() for _ in range(IMAGES // BATCH)))
        rates["torchvision"].append(rate(iter(DataLoader(pil, BATCH, shuffle=True, num_workers=2))))
        steps.append(timed(step))
    figures = {name: statistics.median(values) for name, values in rates.items()}
    share = 2 * BATCH / figures["ours"] / statistics.median(steps)
    for name, value in figures.items():
        print(f"{name:<12} {value:>10,.0f} images/s")
    print(f"ratio {figures['ours'] / figures['torchvision']:.1f}; share of a step {100 * share:.1f}%")
    if options.json:
        found = {
            "images_per_second": figures,
            "ratio": figures["ours"] / figures["torchvision"],
            "share_of_step": share,
            "threads": torch.get_num_threads(),
        }
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
