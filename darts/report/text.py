"""What commands print at their end: a table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from darts.blackbox.result import BaselineResult
from darts.compare.load import Loaded, is_unknown
from darts.compare.summary import number
from darts.oracle.base import BENCHMARK
from darts.search.result import SearchResult

Lines = list[tuple[str, str]]
DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet16-120": "ImageNet16-120"}


def print_lines(lines: Lines) -> None:
    """Print names and values: a table on a terminal, with the first value in one line, plain lines elsewhere."""
    console = Console()
    if not console.is_terminal:
        width = max(len(name) for name, _ in lines)
        for name, value in lines:
            print(f"{name:<{width}}  {value}")
        return
    console.print(Text(lines[0][1], "bold"), soft_wrap=True)  # one line, to be copied
    table = Table(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in lines[1:]:
        table.add_row(Text(name), Text(value))  # no markup
    console.print(table)


def accuracy_label(row: Mapping[str, Any]) -> str:
    """``cifar10 test, 200 epochs``."""
    epochs = "epochs unstated" if row["epochs"] is None else f"{row['epochs']} epochs"
    return f"{row['dataset']} {row['split']}, {epochs}"


def spread(values: Sequence[float]) -> str:
    """``94.05 +- 0.23``: mean and standard deviation over runs."""
    digits = 2 if max(map(abs, values), default=0) >= 10 else 4  # percent, or errors
    deviation = f" +- {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{deviation}"


def _judged(standing: dict[str, Any]) -> str:
    """How many cells, and how sure the choice is."""
    again = f" in {standing['times']} trainings" if standing["times"] > standing["judged"] else ""
    text = f"{standing['judged']} cells{again}, by {standing['measure']}"
    if standing["undecided"] is None:
        return text
    return f"{text}; {standing['undecided']} more within two deviations of the best"


def few(names: list[str]) -> list[str]:
    """Two names at most; of more their number."""
    return names if len(names) < 3 else [f"{len(names)} others"]


def verdict_lines(verdict: Mapping[str, Any], steps: int) -> Lines:
    """How far the answer of a search of so many steps is decided, in plain words."""
    edges, lines = verdict["edges"], []
    open_edges = [edge for edge in edges if edge["decided"] is False]
    if verdict["by"] == "edge weights":
        clear = f"{verdict['clear_lead']:.2g} or more throughout the last quarter"
        least = min((edge for edge in edges if edge["lead"] is not None), key=lambda edge: edge["lead"])
        names = ", ".join(edge["edge"] for edge in open_edges)
        lines.append(f"UNDECIDED on {names}" if open_edges else f"decided: every edge leads by {clear}")
        weights = (
            f"{least['operation']} {least['weight']:.4f}, {least['rivals'][0]} {least['weight'] - least['lead']:.4f}"
        )
        lines.append(f"least on {least['edge']}: {weights}")
        if open_edges:
            lines[-1] += f"; a lead is {clear}"
            others = ", or let short trainings choose: method=finalists" if verdict.get("short_trainings", True) else ""
            lines.append(f"another seed may give another cell; search longer{others}")
    elif verdict["by"] == "elimination":
        lines.append("by elimination: one operation an edge is left, and nothing says how close it was")
    elif verdict["undecided"] is None and not open_edges:
        lines.append("the best of those judged; darts rank says whether such judgement ranks cells")
    elif not open_edges:
        lines.append("decided: no other cell is within two deviations of it")
    else:
        agreed = ", ".join(f"{edge['edge']} {edge['operation']}" for edge in edges if edge["decided"])
        lines.append("UNDECIDED: other cells did as well, within chance, and any of them may be better")
        lines.append(f"they agree on {agreed or 'no edge'}")
        either = (f"{edge['edge']} {' or '.join([edge['operation'], *few(edge['rivals'])])}" for edge in open_edges)
        lines.append(f"and differ on {'; '.join(either)}")
    lines.append(f"this cell stands since step {verdict['unchanged_since']} of {steps}")
    return [("" if number else "verdict", text) for number, text in enumerate(lines)]


def _cost(cost: Mapping[str, Any]) -> str:
    size, flops = cost["network_size"], cost["flops"] / 1e6
    return f"{cost['params']:,} parameters, {flops:.2f} M multiply-adds  ({size})"


def search_lines(
    result: SearchResult, folder: Path | None, notice: str | None = None, whole: float | None = None
) -> Lines:
    """Name and value of everything worth reading after a search; see `print_search`."""
    metric, settings = result.judged_by, result.settings
    how = f", {settings['batch_norm']} statistics" if settings.get("batch_norm") else ""
    how += ", mean of drawn paths" if settings.get("evaluated") == "drawn paths" else ""
    lines = [
        ("cell", result.cell),
        ("parameters", f"{result.params:,}  ({result.network_size})"),
        ("FLOPs", f"{result.flops / 1e6:.2f} M multiply-adds"),
        *([] if result.benchmark_cost is None else [("in the benchmark", _cost(result.benchmark_cost))]),
        (
            f"supernet {metric.name}",
            f"{metric.text(result.supernet_valid)}  (architecture part of {result.searched_on}{how})",
        ),
    ]
    if result.standing is not None:
        lines.append(("judged", _judged(result.standing)))
    if result.verdict is not None:
        lines += verdict_lines(result.verdict, result.steps)
    if result.oracle is not None:
        table, rows = result.oracle["table"], result.oracle["rows"]
        cells = result.oracle.get("cells", BENCHMARK.size)  # results of version 0.1 are all of the benchmark
        of = ", ".join(dict.fromkeys(DATASETS[row["dataset"]] for row in rows))
        lines.append(("known accuracy", f"searched on {result.searched_on}; known accuracy is of {of}, table {table}"))
        for row in rows:
            beside = ""
            if "better_than" in row:  # not in results of version 0.1
                beside = f"; better than {row['better_than']} of the {result.oracle['same_cost']} cells nearest in cost"
            lines.append(
                (f"  {accuracy_label(row)}", f"{row['value']:.2f}%  rank {row['rank']:,} of {cells:,}{beside}")
            )
    elif notice:
        lines.append(("known accuracy", notice))
    seconds = result.seconds
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if name != "total")
    lines.append(("time", f"{seconds['total']:.1f} s  ({parts}); {result.steps} steps, {result.images:,} images"))
    if whole is not None:
        lines.append(("", f"{whole:.1f} s from the command to this line: start, data and pictures too"))
    if folder is not None:
        more = ["standing.png"] if result.standing else []
        lines += [
            ("files", str(folder)),
            ("  pictures", ", ".join([str(folder / "figures" / "alphas.png"), "progress.png", "cell.png", *more])),
        ]
    if result.allowed is not None:
        left = "; ".join(f"{edge}: {', '.join(names)}" for edge, names in result.allowed.items())
        lines.insert(1, ("operations left", left))
    if result.stopped_by == "seconds":
        lines.insert(
            1, ("stopped early", f"by the clock, after {result.steps} of {result.planned_steps} planned steps")
        )
    for one in reversed(result.rolled_back):
        lines.insert(1, ("rolled back", f"{one['why']}; to step {one['step']}, rates times {one['rate']:g}"))
    if result.stopped_early:
        lines.insert(1, ("stopped early", result.stopped_early))
    hint = shlex.join(["darts", "baseline", "evaluator=supernet", f"evaluator.run={folder or 'RUN_DIR'}"])
    if not settings["architecture_trained"]:
        lines.insert(1, ("NOTE", f"no phase trained the architecture, so this cell is arbitrary; search with {hint}"))
    elif settings.get("evaluated") == "drawn paths":
        lines.append(("search on", f"{hint}: other searches with these shared weights"))
    if not settings["deterministic"]:
        lines.insert(1, ("note", "engine.deterministic=false: a second run may give other bits"))
    return lines


def print_search(
    result: SearchResult, folder: Path | None = None, notice: str | None = None, whole: float | None = None
) -> None:
    """Print what a search found.

    Args:
        result: of the search.
        folder: where it stands, if it was kept.
        notice: what to say where no known accuracy was looked up.
        whole: seconds that the command took.
    """
    print_lines(search_lines(result, folder, notice, whole))


def baseline_lines(result: BaselineResult, folder: Path) -> Lines:
    """Name and value of everything worth reading after black-box runs."""
    finals, runs = result.finals(), result.runs
    lines = [("method", f"{result.label}, {len(runs)} run{'s' * (len(runs) > 1)} of {result.evaluations} evaluations")]
    if finals:
        best = max(finals, key=lambda point: point.signal)
        lines += [
            ("best cell", best.cell),
            ("signal", f"{spread([point.signal for point in finals])}  ({result.evaluator['signal']})"),
        ]
        truths = [point.truth for point in finals if point.truth is not None]
        if truths:
            lines.append(("known accuracy", f"{spread(truths)}  ({result.truth}, table {result.table})"))
    if correlation := result.rank_correlation:
        lines.append(
            (
                "rank correlation",
                f"{correlation['spearman']:.2f}  (Spearman's, of the signal with known accuracy, over "
                f"{correlation['cells']} cells)",
            )
        )
    if result.objective is not None:
        sizes = [len(run.front) for run in runs]
        lines.append(("front", f"{statistics.fmean(sizes):.1f} cells, by {result.objective['name']}"))
        volumes = [run.hypervolume for run in runs if run.hypervolume is not None]
        if volumes:
            lines.append(("hypervolume", f"{spread([100 * volume for volume in volumes])}% of the table's own front"))
    if result.truth is not None and result.truth == result.evaluator["signal"]:
        lines.append(("WARNING", "the signal is the truth: these searches saw what they are judged by"))
    count = len(runs)
    mean = {
        name: sum(getattr(run, name) for run in runs) / count
        for name in ("evaluations", "duplicates", "cached", "failed", "cost")
    }
    spent = f"{mean['evaluations']:.1f} answers a run ({mean['duplicates']:.1f} duplicates"
    spent += f", {mean['cached']:.1f} isomorphic ones from the cache)" if result.isomorphic_cache else ")"
    lines.append(("spent", f"{spent}, worth {mean['cost']:.4g} full trainings"))
    if failed := sum(run.failed for run in runs):
        lines.append(("failed", f"{failed} evaluations of {sum(run.evaluations for run in runs)}"))
    if stopped := sum(run.stopped for run in runs):
        lines.append(("stopped trainings", f"{stopped} of {sum(run.evaluations for run in runs)}"))
    errors = [run.report["extrapolation_error"] for run in runs if "extrapolation_error" in run.report]
    if errors:
        off = f"off by {statistics.fmean(errors):.2f} points on average, from half of the epochs"
        lines.append(("extrapolation", f"{off}, over trainings that went to their end"))
    if exhausted := sum(run.stopped_by == "exhausted" for run in runs):
        lines.append(("stopped early", f"{exhausted} runs had nothing more to ask"))
    return [
        *lines,
        ("time", f"{result.seconds['total']:.1f} s"),
        ("files", str(folder)),
        ("  pictures", f"{folder / 'figures' / 'trajectory.png'}, cell.png"),
    ]


def print_baseline(result: BaselineResult, folder: Path) -> None:
    """Print what black-box runs found."""
    print_lines(baseline_lines(result, folder))


def compare_lines(
    loaded: Loaded, rows: Sequence[Mapping[str, Any]], folder: Path, first: str, warning: str = ""
) -> Lines:
    """What came out, a line a method, and where the files are."""
    measure = loaded.measure
    of = f", table {measure.table}" if measure.table else "; no table knows these cells, and this says little of them"
    lines = [("result", first), (measure.kind, f"{measure.name}{of}; mean of the runs and its 95% interval")]
    if warning:
        lines.append(("NOTE", warning))
    tests = sum(row["p_holm"] is not None for row in rows)
    holm = f", Holm's correction over {tests} tests" if tests > 1 else ""
    for row in rows:
        interval = (
            "" if is_unknown(row["truth_low"]) else f"  [{number(row['truth_low'], 3)}, {number(row['truth_high'], 3)}]"
        )
        beside = ""
        if (better := row["p_better_than_random"]) is not None:
            beside = f"  better than random in {100 * better:.0f}% of pairs (p={row['p_holm']:.2g}{holm})"
        if row["agreement"] is not None:
            beside += f"  agreement {100 * row['agreement']:.0f}%"
        if row["hypervolume"] is not None:
            beside += f"  hypervolume {100 * row['hypervolume']:.2f}%"
        runs = f"{row['runs']} run{'s' * (row['runs'] > 1)}"
        lines.append((row["method"], f"{number(row['truth_mean'], 3)}{interval}  {runs}{beside}"))
        if row["notes"]:
            lines.append(("  NOTE", row["notes"]))
    return [*lines, ("table", str(folder / "compare.csv")), ("report", str(folder / "report.html"))]


def print_compare(
    loaded: Loaded, rows: Sequence[Mapping[str, Any]], folder: Path, first: str, warning: str = ""
) -> None:
    """Print how methods compare."""
    print_lines(compare_lines(loaded, rows, folder, first, warning))


def rank_lines(content: Mapping[str, Any], folder: Path) -> Lines:
    """Correlations of shared weights, of depth and of parameters with what is known."""

    def text(found: Mapping[str, Any] | None) -> str:
        return "unknown" if found is None else f"{found['value']:5.2f} [{found['low']:.2f}, {found['high']:.2f}]"

    lines = [("signal", content["signal"]), ("known accuracy", f"{content['truth']}, table {content['table']}")]
    names = {"value": "shared weights", "depth": "depth alone", "params": "parameters alone"}
    for group, signals in content["correlations"].items():
        lines.append((f"{group}, {signals['value']['cells']} cells", "Kendall's tau        Spearman's rho"))
        lines += [(f"  {names[n]}", f"{text(one['kendall'])}  {text(one['spearman'])}") for n, one in signals.items()]
    return [*lines, ("files", str(folder)), ("  picture", str(folder / "figures" / "rank.png"))]


def print_rank(content: Mapping[str, Any], folder: Path) -> None:
    """Print how shared weights rank cells."""
    print_lines(rank_lines(content, folder))
