"""The command `darts latency`: prices by operation that predict what cells cost where they run."""

from __future__ import annotations

import json

from darts.command.base import Call, Command
from darts.run.errors import UserError


class LatencyCommand(Command):
    """Fits a price for every operation on every edge to a column of a table, or to what is measured here."""

    name, place = "latency", 46
    help = "fit prices by operation to a column of measured costs, or to what this machine takes"
    usage = """usage: darts latency [objective=column objective.path=CSV objective.column=NAME] [key=value ...]

  darts latency objective=column objective.path=hw-nas-bench-cifar10.csv objective.column=pixel3_latency_ms
  darts latency cells=60 left_out=30                                 measured here, some minutes

What comes out, RUN_DIR/prices.json, prices cells in searches (regularizer=[expected_cost]
regularizer.expected_cost.price=FILE) and baselines (objective=price_table objective.path=FILE).
"""

    def run(self, call: Call) -> int:
        from darts.compare.rank import drawn
        from darts.report.latency_report import draw_fit, latency_lines
        from darts.report.text import print_lines
        from darts.run.devices import choose_device
        from darts.run.files import write_text
        from darts.run.folder import check_own, chosen_run_dir, make_figures_dir, write_config
        from darts.run.parts import Problems, build_part
        from darts.run.settings import anchored
        from darts.run.watching import watched
        from supernet.price_table import FOLDS, fitted

        settings, problems = anchored(call.settings), Problems()
        plugins, parts = settings["plugins"], {}
        for name in ("space", "objective"):
            with problems.of(name):
                parts[name] = build_part(settings[name], name, plugins)
        for name, least in (("cells", FOLDS), ("left_out", 2)):
            if not isinstance(settings[name], int) or isinstance(settings[name], bool) or settings[name] < least:
                problems.lines.append(f"{name}: got {settings[name]!r}; give {least} or more")
        problems.stop()
        space, objective = parts["space"], parts["objective"]
        with problems.of("objective"):
            objective.open(space, choose_device(str(settings["device"])))
        problems.stop()
        chosen = drawn(space, settings["cells"] + settings["left_out"], settings["seed"])
        if len(chosen) < settings["cells"] + 2:
            raise UserError(f"cells: got {settings['cells']}; the space has {space.size} cells, so give fewer")
        folder = chosen_run_dir(settings["run_dir"], self.name)
        check_own(folder, self.name, ("objective", "cells"))
        make_figures_dir(folder)
        write_config(settings, folder)
        values = [objective(genotype) for genotype in watched(chosen, len(chosen), "pricing cells")]
        count = settings["cells"]
        table, errors = fitted(space, chosen[:count], values[:count], objective.name, objective.unit)
        foretold = [table.price(space, genotype) for genotype in chosen[count:]]
        content = table.stored() | {
            "objective": objective.describe(), "seed": settings["seed"], "cells": count, "errors": errors,
            "left_out": [
                {"cell": str(genotype), "value": value, "foretold": guess}
                for genotype, value, guess in zip(chosen[count:], values[count:], foretold, strict=True)
            ],
        }  # fmt: skip
        write_text(folder / "prices.json", json.dumps(content, indent=1) + "\n")
        draw_fit(table, values[count:], foretold, folder / "figures" / "fit.png")
        print_lines(latency_lines(table, values[count:], foretold, count, folder))
        return 0
