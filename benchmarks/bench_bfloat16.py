"""How far the losses of a bfloat16 search drift from those of a float32 search, on real images.

    python benchmarks/bench_bfloat16.py --root IMAGES --json benchmarks/results/FILE.json

Both searches have the same seed, so the same weights and batches; 200 steps on an image folder (root/train/CLASS/*).
Losses are averaged over windows of 20 steps; the figure is bfloat16 / float32 - 1 for every window.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import torch

from darts.command.config import compose_config
from darts.search.build import build_search

STEPS, WINDOW = 200, 20


def losses(root: Path, precision: str, channels: int) -> dict[str, list[float]]:
    """Training and validation loss of every step."""
    words = [
        "dataset=image_folder",
        f"dataset.root={root}",
        f"network.channels={channels}",
        "monitor=[]",
        "oracle=none",
    ]
    words += [f"engine.precision={precision}", f"budget.steps={STEPS}", "seed=100"]
    search = build_search(compose_config("search", words), None)
    state, found = search.state, {"train_loss": [], "valid_loss": []}  # type: ignore[var-annotated]
    state.planned_steps = STEPS
    phase = search.schedule.phases["bilevel"]
    for _ in range(STEPS):
        search.steps.weights.schedule(state)
        numbers = phase.step(state, search.steps)
        state.step += 1
        for name, values in found.items():
            values.append(numbers[name])
    return found


def windows(values: list[float]) -> list[float]:
    return [statistics.fmean(values[start : start + WINDOW]) for start in range(0, len(values), WINDOW)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="image folder")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    runs = {precision: losses(options.root, precision, options.channels) for precision in ("float32", "bfloat16")}
    report: dict[str, object] = {"threads": torch.get_num_threads(), "channels": options.channels, "losses": runs}
    print(f"{'step':>5} {'part':<11} {'float32':>8} {'bfloat16':>8} {'drift':>7}")
    for part in ("train_loss", "valid_loss"):
        pairs = list(zip(*(windows(runs[precision][part]) for precision in runs), strict=True))
        drifts = [half / single - 1 for single, half in pairs]
        for number, ((single, half), drift) in enumerate(zip(pairs, drifts, strict=True), start=1):
            print(f"{number * WINDOW:>5} {part:<11} {single:>8.4f} {half:>8.4f} {100 * drift:>6.2f}%")
        report[f"largest_drift_{part}"] = max(drifts, key=abs)
        print(f"largest drift of {part}: {100 * max(drifts, key=abs):.2f}%")
    if options.json:
        options.json.write_text(json.dumps(report) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
