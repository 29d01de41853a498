"""What a search prints at its end: a table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from darts.results import SearchResult


def accuracy_label(row: dict[str, Any]) -> str:
    """``cifar10 test, 200 epochs``."""
    epochs = "epochs unstated" if row["epochs"] is None else f"{row['epochs']} epochs"
    return f"{row['dataset']} {row['split']}, {epochs}"


def result_lines(result: SearchResult, folder: Path, notice: str | None = None) -> list[tuple[str, str]]:
    """Name and value of everything worth reading after a search."""
    lines = [
        ("cell", result.cell),
        ("parameters", f"{result.params:,}  ({result.network_size})"),
        ("FLOPs", f"{result.flops / 1e6:.2f} M multiply-adds"),
        (
            "supernet accuracy",
            f"{result.supernet_valid_accuracy:.2f}%  (architecture part of {result.searched_on}, "
            f"{result.settings['batch_norm']} statistics)",
        ),
    ]
    if result.oracle is not None:
        table = result.oracle["table"]
        datasets = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet16-120": "ImageNet16-120"}
        of = ", ".join(dict.fromkeys(datasets[row["dataset"]] for row in result.oracle["rows"]))
        lines.append(("known accuracy", f"searched on {result.searched_on}; known accuracy is of {of}, table {table}"))
        lines += [
            (f"  {accuracy_label(row)}", f"{row['value']:.2f}%  rank {row['rank']:,} of 15,625")
            for row in result.oracle["rows"]
        ]
    elif notice:
        lines.append(("known accuracy", notice))
    seconds = result.seconds
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if name != "total")
    lines += [
        ("time", f"{seconds['total']:.1f} s  ({parts}); {result.steps} steps, {result.images:,} images"),
        ("files", str(folder)),
        ("  pictures", str(folder / "figures" / "alphas.png") + ", progress.png, cell.png"),
    ]
    if result.stopped_by == "seconds":
        lines.insert(
            1, ("stopped early", f"by the clock, after {result.steps} of {result.planned_steps} planned steps")
        )
    if not result.settings["architecture_trained"]:
        hint = shlex.join(["darts", "baseline", "evaluator=supernet", f"evaluator.run={folder}"])
        lines.insert(1, ("NOTE", f"no phase trained the architecture, so this cell is arbitrary; search with {hint}"))
    if not result.settings["deterministic"]:
        lines.insert(1, ("note", "engine.deterministic=false: a second run may give other bits"))
    return lines


def print_result(result: SearchResult, folder: Path, notice: str | None = None) -> None:
    """Print the report on standard output."""
    print_lines(result_lines(result, folder, notice))


def print_lines(lines: list[tuple[str, str]]) -> None:
    """Print names and values: a table on a terminal, with the first value in one line, plain lines elsewhere."""
    console = Console()
    if not console.is_terminal:
        width = max(len(name) for name, _ in lines)
        for name, value in lines:
            print(f"{name:<{width}}  {value}")
        return
    console.print(lines[0][1], soft_wrap=True, highlight=False, style="bold")  # one line, to be copied
    table = Table(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in lines[1:]:
        table.add_row(name, value.replace("[", r"\["))
    console.print(table)
