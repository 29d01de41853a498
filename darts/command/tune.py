"""The command `darts tune`: hyperparameters of a training, chosen by what was held out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts.command.base import INTERRUPTED, Call, Command
from darts.run.errors import UserError

if TYPE_CHECKING:
    from darts.training.tuning import Study

CONFIG_KEYS = ("space", "network", "data", "recipe", "parameters", "trials", "storage", "study")


class TuneCommand(Command):
    """Trials of a cell's training under other settings; the best is printed as a command of darts retrain."""

    name, place = "tune", 21
    help = "tune rates, augmentation, width and depth of a cell's training, or the cell with them"
    usage = """usage: darts tune run=RUN_DIR|cell=CELL dataset=NAME [trials=20] [key=value ...]

  darts tune run=RUN_DIR dataset=image_folder dataset.root=PHOTOS trials=30 recipe.epochs=9
  darts tune resume=TUNE_DIR                                 go on; from several shells, all of them work on it
  darts tune run=RUN_DIR storage=postgresql://...            on many machines, by a database that all of them reach

Nothing is judged on test images: trials are compared by images held out of training (data.held_out).
"""

    def run(self, call: Call) -> int:
        from darts.report.text import print_lines
        from darts.report.tune_report import draw_trials, tune_lines, values_text
        from darts.run.files import write_text
        from darts.run.folder import resuming
        from darts.run.signals import StopRequest
        from darts.training.tuning import content_of

        settings, folder, (study, metric) = begin(call) if call.settings["resume"] is None else resume(call)
        stop, trials = StopRequest("epoch"), settings["trials"]

        def told(trial: Any, words: str) -> None:
            print(f"trial {trial.number + 1}: {words}  {values_text(trial.params)}", file=sys.stderr, flush=True)

        with stop.listening():
            whole = study.run(trials, folder, told, stop)
        content = content_of(study.open(), metric)
        write_text(folder / "tune.json", json.dumps(content, indent=1) + "\n")
        if not whole:
            count, again = len(content["trials"]), resuming(folder, self.name, settings["storage"])
            print(f"interrupted after {count} of {trials} trials; go on with: {again}", file=sys.stderr)
            return INTERRUPTED
        draw_trials(content, folder / "figures" / "trials.png")
        print_lines(tune_lines(content, folder))
        return 0


Prepared = tuple[dict[str, Any], Path, "tuple[Study, dict[str, Any]]"]
"""Settings, folder, and the study with its metric."""


def begin(call: Call) -> Prepared:
    """A new study, in a folder of its own.

    Raises:
        UserError: a mistake to mend.
    """
    from darts.compare.found import with_cell
    from darts.run.folder import begin as made
    from darts.run.folder import chosen_run_dir
    from darts.run.settings import anchored

    settings = with_cell(anchored(call.settings))
    folder = call.run_dir or chosen_run_dir(settings["run_dir"], "tune")
    settings["study"] = settings["study"] or folder.absolute().name  # the folder may get another one
    inside = ["checkpoints", "figures"]
    prepared = made(folder, "tune", settings, lambda: study_of(settings, folder), inside, shared=True)
    return settings, folder, prepared


def resume(call: Call) -> Prepared:
    """A study that is there.

    Raises:
        UserError: an option that it cannot change, or a folder that holds none.
    """
    from darts.run.errors import configured
    from darts.run.folder import check_goes_on, read_config
    from darts.run.settings import believed

    if foreign := sorted(call.given - {"resume", "trials", "plugins", "storage"}):
        raise UserError(f"{', '.join(foreign)}: beside resume only trials, plugins and storage can be given")
    folder, storage = Path(call.settings["resume"]), call.settings["storage"]
    stored = read_config(folder, "tune", CONFIG_KEYS)
    if storage and not stored["storage"]:
        raise UserError(f"storage: the trials of {folder} are in that folder; leave storage out")
    check_goes_on(folder, shared=True)
    settings = believed(stored, call.settings) | {key: call.settings[key] for key in call.given & {"trials"}}
    with configured(folder, "tune"):
        return settings, folder, study_of(settings, folder)


def study_of(settings: dict[str, Any], folder: Path) -> tuple[Study, dict[str, Any]]:
    """The study that settings describe, and the metric that its trials are compared by.

    Raises:
        UserError: all problems of the settings.
    """
    from darts.run.parts import Problems
    from darts.training.build import build_retraining
    from darts.training.tuning import Study, parameters_of, with_values

    problems = Problems()
    parameters: list[Any] = []
    with problems.of():
        parameters = parameters_of(settings["parameters"])
        with_values(settings, {parameter.key: None for parameter in parameters})
        if not parameters and not settings["tune_cell"]:
            raise ValueError("parameters: nothing is tuned; leave some of them, or give tune_cell=true")
    if not isinstance(settings["trials"], int) or isinstance(settings["trials"], bool) or settings["trials"] < 1:
        problems.lines.append(f"trials: got {settings['trials']!r}; give 1 or more")
    problems.stop()
    training = build_retraining(settings, folder)
    if not training.plan.watches and training.plan.judged_on.startswith("test"):
        raise UserError("data.held_out: got 0, so trials would be compared by test images; give a share such as 0.2")
    storage = settings["storage"] or f"sqlite:///{folder.absolute() / 'study.db'}"
    name = settings["study"] or folder.absolute().name
    study = Study(settings, parameters, settings["tune_cell"], storage, name, settings["seed"])
    study.open()
    return study, training.plan.task.metric.stored()
