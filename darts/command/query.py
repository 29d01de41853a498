"""The command `darts query`: what is known of cells, and the conversion of the benchmark's official files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts.command.base import Call, Command
from darts.run.errors import UserError
from supernet.size import NetworkSize
from supernet.spaces.base import Genotype, Space

if TYPE_CHECKING:
    from darts.oracle.base import Table


class QueryCommand(Command):
    """Prints what is known of each cell, or converts official files."""

    name, place, words = "query", 50, "words"
    help = "what is known of cells: index, cost, accuracies; or import a benchmark's files"
    usage = """usage: darts query CELL... [format=json] [oracle.path=TABLE]
       darts query index=4441 | benchmark_index=[6111,13714]
       darts query import=PATH output=FILE.npz

Cells are read from standard input if none are given. import converts the official files
NATS-tss-v1_0-3ffb9-simple (a folder) or NAS-Bench-201-v1_1-096897.pth once; oracle=nats reads the result.
"""

    def run(self, call: Call) -> int:
        from darts.run.parts import build_one

        settings, cells = call.settings, call.words
        if settings["import"] is not None:
            return import_files(settings, cells)
        if settings["output"] is not None:
            raise UserError("output: it goes with import=PATH; to keep answers, redirect: darts query ... > FILE")
        if settings["format"] not in ("table", "json"):
            raise UserError(f"format: got {settings['format']!r}; allowed are table, json")
        by_number = any(settings[name] not in (None, []) for name in ("index", "benchmark_index"))
        if not cells and not by_number and not sys.stdin.isatty():
            cells = [line.strip() for line in sys.stdin if line.strip()]
        if not cells and not by_number:
            raise UserError("query: no cells; give cell strings in quotes, or one a line on standard input")
        space: Space = build_one(settings, "space", settings["plugins"])
        genotypes = parse_all(space, cells)
        oracle = build_one(settings, "oracle", settings["plugins"])
        table = oracle.load(space)
        genotypes += numbered(space, table, settings["index"], settings["benchmark_index"])
        for number, genotype in enumerate(genotypes):
            answer = describe(space, genotype, table)
            if settings["format"] == "json":
                print(json.dumps(answer))
            else:
                print(("\n" if number else "") + "\n".join(as_lines(answer, space.size)))
        if table is None and (notice := oracle.notice()):
            print(notice, file=sys.stderr)
        return 0


def numbered(space: Space, table: Table | None, index: Any, benchmark_index: Any) -> list[Genotype]:
    """The cells of numbers, this program's and the benchmark's; each may be None, a number or a list.

    Raises:
        UserError: something else, a number that no cell has, or a table that does not know the benchmark's.
    """
    ours, theirs = (
        [] if given is None else given if isinstance(given, list) else [given] for given in (index, benchmark_index)
    )
    size = space.size or 0
    for name, numbers in (("index", ours), ("benchmark_index", theirs)):
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < size:
                raise UserError(f"{name}: got {number!r}; give whole numbers from 0 to {size - 1}")
    unknown = UserError("benchmark_index: no table here knows the benchmark's numbers; give oracle.path=TABLE")
    if theirs and table is None:
        raise unknown
    try:
        return [*map(space.genotype, ours), *(table.of_benchmark(number) for number in theirs if table is not None)]
    except KeyError:
        raise unknown from None


def parse_all(space: Space, cells: Iterable[str]) -> list[Genotype]:
    """The cells of a space that strings stand for.

    Raises:
        UserError: every string that is none, one a line.
    """
    genotypes, problems = [], []
    for cell in cells:
        try:
            genotypes.append(space.parse(cell))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return genotypes


def describe(space: Space, genotype: Genotype, table: Table | None) -> dict[str, Any]:
    """Everything known of a cell, as plain values."""
    size = space.final_size(NetworkSize())
    cost = space.cost(genotype, size)
    return {
        "cell": str(genotype),
        "index": space.index(genotype) if "size" in space.abilities else None,
        "benchmark_index": table.benchmark_index(genotype) if table is not None else None,
        "canonical": space.canonical_form(genotype),
        "params": cost.params,
        "flops": cost.flops,
        "network_size": space.size_text(size),
        "table": table.name if table is not None else None,
        "accuracies": table.rows(genotype) if table is not None else [],
    }


def as_lines(answer: dict[str, Any], cells: int | None) -> list[str]:
    """The answer as aligned lines for people; ranks are among so many cells."""
    benchmark = answer["benchmark_index"]
    lines = [
        ("cell", answer["cell"]),
        ("index", f"{answer['index']}  (this program's)"),
        (
            "benchmark index",
            ("unknown to this table" if answer["table"] else "unknown (no table)")
            if benchmark is None
            else f"{benchmark}  (NAS-Bench-201's own)",
        ),
        ("canonical form", answer["canonical"]),
        ("parameters", f"{answer['params']:,}  ({answer['network_size']})"),
        ("FLOPs", f"{answer['flops'] / 1e6:.2f} M multiply-adds"),
    ]
    from darts.report.text import accuracy_label

    lines += [
        (accuracy_label(row), f"{row['value']:.3f}%  rank {row['rank']:,} of {cells:,}  ({answer['table']})")
        for row in answer["accuracies"]
    ]
    width = max(len(name) for name, _ in lines)
    return [f"{name:<{width}}  {value}" for name, value in lines]


def import_files(settings: dict[str, Any], cells: list[str]) -> int:
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
