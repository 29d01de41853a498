"""The command `darts rank`: how shared weights rank cells, beside what is known of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from darts.command.base import Call, Command
from darts.run.errors import UserError


class RankCommand(Command):
    """Judges cells with the weights of a search, then looks them up."""

    name, place = "rank", 45
    help = "how a search's shared weights rank cells, beside known accuracies"
    usage = """usage: darts rank run=RUN_DIR [cells=200] [oracle.path=TABLE] [key=value ...]

Prints Kendall's tau and Spearman's rho with intervals, beside those of depth and of the number of parameters alone.
"""

    def run(self, call: Call) -> int:
        from rich.progress import track

        from darts.blackbox.evaluators.base import Context, Evaluator
        from darts.compare.rank import as_content, drawn, rank
        from darts.report.rank_figure import draw_rank
        from darts.report.text import print_rank
        from darts.run.devices import check_threads, choose_device, threads_of
        from darts.run.files import write_text
        from darts.run.folder import check_own, chosen_run_dir, make_figures_dir, read_config, write_config
        from darts.run.parts import Problems, build_one, build_part
        from darts.search.result import CONFIG_KEYS
        from darts.tasks.build import build_task

        settings, problems = call.settings, Problems()
        if settings["run"] is None:
            raise UserError("run: darts rank needs the folder of a search; give run=RUN_DIR")
        plugins = tuple(settings["plugins"])
        stored = read_config(Path(settings["run"]), "search", CONFIG_KEYS, "run")
        parts: dict[str, Any] = {}
        with problems.of():
            if not isinstance(settings["cells"], int) or settings["cells"] < 2:
                raise ValueError(f"cells: got {settings['cells']!r}; give 2 or more")
        with problems.of("device"):
            device = choose_device(str(settings["device"]))
        with problems.of("engine"):
            check_threads(settings["engine"]["threads"])
        with problems.of():
            parts["oracle"] = build_one(settings, "oracle", plugins)
            parts["oracle"].check()
        with problems.of("evaluator"):
            parts["evaluator"] = build_part(settings["evaluator"], "evaluator", plugins)
        problems.stop()
        space = build_one(stored, "space", plugins)
        table = parts["oracle"].load(space)
        if table is None:
            raise UserError(
                f"oracle: a ranking needs known accuracies; give oracle.path=TABLE. {parts['oracle'].notice() or ''}"
            )
        evaluator: Evaluator = parts["evaluator"]
        dataset = build_one(stored, "dataset", plugins)
        with problems.of("evaluator"):
            truth = evaluator.judged_by(table)
            if truth is None:
                raise ValueError(f"truth: table {table.name} has no test accuracies; give truth=DATASET/SPLIT/EPOCHS")
            evaluator.open(Context(space, table, build_task(stored, dataset, {}, "task"), device, plugins))
        problems.stop()
        folder = chosen_run_dir(settings["run_dir"], self.name)
        check_own(folder, self.name, ("run", "cells"))
        make_figures_dir(folder)
        write_config(settings, folder)
        genotypes = drawn(space, settings["cells"], settings["seed"])
        shown = track(genotypes, "cells", disable=not sys.stderr.isatty(), transient=True)
        with threads_of(settings["engine"]["threads"]):
            cells = rank(shown, lambda cell: evaluator.value(cell, evaluator.fidelities[-1]), space, table, truth)
        about = {"run": str(settings["run"]), "signal": evaluator.describe()["signal"]}
        content = as_content(cells, about | {"truth": str(truth), "table": table.name, "seed": settings["seed"]})
        write_text(folder / "rank.json", json.dumps(content, indent=1) + "\n")
        draw_rank(cells, "accuracy with shared weights", str(truth), folder / "figures" / "rank.png")
        print_rank(content, folder)
        return 0
