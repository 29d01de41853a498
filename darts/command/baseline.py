"""The command `darts baseline`: a black-box method with many seeds, its result, its report."""

from __future__ import annotations

import sys
from pathlib import Path

from darts.command.base import INTERRUPTED, Call, Command
from darts.run.errors import UserError

RESUMABLE = ("resume", "plugins", "ray_address", "storage", "device")


class BaselineCommand(Command):
    """Runs a method with every seed and reports."""

    name, place = "baseline", 20
    help = "run a black-box method with many seeds"
    usage = """usage: darts baseline [key=value ...] [--config-dir FOLDER]

  darts baseline oracle.path=TABLE.csv                    regularized evolution, five seeds, 1,000 evaluations each
  darts baseline baseline=random_search seeds=0-499       another method, more seeds
  darts baseline evaluator.signal=cifar10/valid/12 budget.evaluations=100
  darts baseline resume=RUN_DIR                           go on where it stopped
"""

    def run(self, call: Call) -> int:
        from darts.blackbox.result import CONFIG_KEYS, BaselineResult
        from darts.blackbox.runs import Unfinished, prepare, run_all, tidy_run
        from darts.report.baseline_figures import complete_figures, draw_baseline
        from darts.report.text import print_baseline
        from darts.run.errors import configured, understood
        from darts.run.folder import begin, check_goes_on, check_links, chosen_run_dir, read_config, resuming
        from darts.run.settings import anchored, believed

        settings = call.settings
        if settings["resume"] is None:
            settings = anchored(settings)
            folder = call.run_dir or chosen_run_dir(settings["run_dir"], self.name)
            prepared = begin(folder, self.name, settings, lambda: prepare(settings), ["figures"])
        else:
            if foreign := sorted(key for key in call.given if key not in RESUMABLE):
                raise UserError(
                    f"{', '.join(foreign)}: a resumed run keeps its settings; "
                    "only device, plugins, ray_address and storage can be given"
                )
            folder = Path(settings["resume"])
            stored = read_config(folder, self.name, CONFIG_KEYS)
            if (folder / "result.json").is_file():
                check_links(folder)
                with understood(folder / "result.json", self.name):
                    result = BaselineResult.read(folder / "result.json")
                    complete_figures(result, stored | {"plugins": settings["plugins"]}, folder / "figures")
                    tidy_run(folder)
                    print_baseline(result, folder)
                return 0
            check_goes_on(folder)
            settings = believed(stored, settings) | {key: settings[key] for key in call.given & {"device"}}
            with configured(folder, self.name):
                prepared = prepare(settings)
        try:
            result, best = run_all(settings, folder, prepared)
        except Unfinished as error:
            print(f"{error}; go on with: {resuming(folder, self.name, settings.get('storage'))}", file=sys.stderr)
            return INTERRUPTED
        draw_baseline(result, best, folder / "figures", prepared.search.space)
        tidy_run(folder)
        print_baseline(result, folder)
        return 0
