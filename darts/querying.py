"""The command `darts query`: what is known of cells, and the conversion of the benchmark's official files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from darts.errors import UserError
from darts.oracle.base import Table
from darts.parts import build_oracle
from darts.report import accuracy_label
from supernet.cost import NetworkSize, genotype_cost
from supernet.genotype import Genotype


def query_command(settings: dict[str, Any], cells: list[str]) -> int:
    """Print what is known of each cell, or convert official files.

    Raises:
        UserError: no cells, a string that is no cell, an unknown format, or a table that cannot be read.
    """
    if settings["import"] is not None:
        return import_command(settings, cells)
    if settings["output"] is not None:
        raise UserError("output: it goes with import=PATH; to keep answers, redirect: darts query ... > FILE")
    if settings["format"] not in ("table", "json"):
        raise UserError(f"format: got {settings['format']!r}; allowed are table, json")
    if not cells and not sys.stdin.isatty():
        cells = [line.strip() for line in sys.stdin if line.strip()]
    if not cells:
        raise UserError("query: no cells; give cell strings in quotes, or one a line on standard input")
    genotypes = parse_all(cells)
    oracle = build_oracle(settings["oracle"], settings["plugins"])
    table = oracle.load()
    for number, genotype in enumerate(genotypes):
        answer = describe(genotype, table)
        if settings["format"] == "json":
            print(json.dumps(answer))
        else:
            print(("\n" if number else "") + "\n".join(as_lines(answer)))
    if table is None and (notice := oracle.notice()):
        print(notice, file=sys.stderr)
    return 0


def parse_all(cells: Iterable[str]) -> list[Genotype]:
    """The cells of the default space that strings stand for.

    Raises:
        UserError: every string that is none, one a line.
    """
    genotypes, problems = [], []
    for cell in cells:
        try:
            genotypes.append(Table.space.parse(cell))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return genotypes


def describe(genotype: Genotype, table: Table | None) -> dict[str, Any]:
    """Everything known of a cell, as plain values."""
    size = NetworkSize()
    cost = genotype_cost(genotype, size)
    return {
        "cell": str(genotype),
        "index": Table.space.index(genotype),
        "benchmark_index": table.benchmark_index(genotype) if table is not None else None,
        "canonical": Table.space.canonical_form(genotype),
        "params": cost.params,
        "flops": cost.flops,
        "network_size": str(size),
        "table": table.name if table is not None else None,
        "accuracies": table.rows(genotype) if table is not None else [],
    }


def as_lines(answer: dict[str, Any]) -> list[str]:
    """The answer as aligned lines for people."""
    benchmark = answer["benchmark_index"]
    lines = [
        ("cell", answer["cell"]),
        ("index", f"{answer['index']}"),
        (
            "benchmark index",
            ("unknown to this table" if answer["table"] else "unknown (no table)")
            if benchmark is None
            else f"{benchmark}",
        ),
        ("canonical form", answer["canonical"]),
        ("parameters", f"{answer['params']:,}  ({answer['network_size']})"),
        ("FLOPs", f"{answer['flops'] / 1e6:.2f} M multiply-adds"),
    ]
    lines += [
        (accuracy_label(row), f"{row['value']:.3f}%  rank {row['rank']:,} of 15,625  ({answer['table']})")
        for row in answer["accuracies"]
    ]
    width = max(len(name) for name, _ in lines)
    return [f"{name:<{width}}  {value}" for name, value in lines]


def import_command(settings: dict[str, Any], cells: list[str]) -> int:
    """Convert the official files into a table of our own.

    Raises:
        UserError: no output, an output that exists or cannot be written, or files that cannot be read.
    """
    from rich.console import Console
    from rich.progress import Progress

    from darts.oracle.nats import write_table
    from darts.oracle.official import read_official

    if cells:
        raise UserError(f"import: it takes no cells; got {cells[0]!r}")
    if settings["output"] is None:
        raise UserError("output: import needs a file to write; give output=FILE.npz")
    output = Path(settings["output"])
    if output.exists():
        raise UserError(f"output: {output} exists already; choose another name or remove it")
    if not output.parent.is_dir():
        raise UserError(f"output: there is no folder {output.parent}; make it first")
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("reading architectures")
        table, index = read_official(
            Path(settings["import"]).expanduser(), lambda done, total: bar.update(task, completed=done, total=total)
        )
    try:
        write_table(table, index, output)
    except OSError as error:
        raise UserError(f"output: cannot write {output} ({error.strerror})") from None
    print(f"wrote {output}: {', '.join(map(str, table.columns))}; use it with oracle=nats oracle.path='{output}'")
    return 0
