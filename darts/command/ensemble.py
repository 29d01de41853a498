"""The command `darts ensemble`: several trained networks as one."""

from __future__ import annotations

import json
from pathlib import Path

from darts.command.base import Call, Command
from darts.run.errors import UserError


class EnsembleCommand(Command):
    """Averages the probabilities of retrainings, all of them or those chosen on images held out."""

    name, place, words = "ensemble", 28, "paths"
    help = "several trained networks as one: accuracy, calibration and diversity"
    usage = """usage: darts ensemble RUN_DIR RUN_DIR... [select=N] [key=value ...]

  darts ensemble runs/seed=0 runs/seed=1 runs/seed=2        the mean of their probabilities
  darts ensemble runs/* select=5                            five of them, chosen one by one on images held out
"""

    def run(self, call: Call) -> int:
        from darts.compare.folders import run_folders
        from darts.models.ensembling import ensemble, members_of
        from darts.report.export_report import ensemble_lines
        from darts.report.text import print_lines
        from darts.run.files import write_text
        from darts.run.folder import check_own, chosen_run_dir, make_run_dir, write_config

        settings, select = call.settings, call.settings["select"]
        if select is not None and (not isinstance(select, int) or isinstance(select, bool) or select < 1):
            raise UserError(f"select: got {select!r}; give 1 or more, or null for all")
        folders = run_folders(call.words, self.name)
        members = members_of([Path(folder) for folder in folders], settings["plugins"])
        found = ensemble(members, select)
        folder = chosen_run_dir(settings["run_dir"], self.name)
        check_own(folder, self.name, ("select",))
        if not folder.exists():
            make_run_dir(folder, self.name, [])
        write_config(settings | {"runs": [str(name) for name in folders]}, folder)
        write_text(folder / "ensemble.json", json.dumps(found, indent=1) + "\n")
        print_lines(ensemble_lines(found, folder))
        return 0
