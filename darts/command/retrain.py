"""The command `darts retrain`: from a cell to a trained network and how good it is."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts.command.base import INTERRUPTED, Call, Command
from darts.run import ranks
from darts.run.errors import UserError
from darts.run.settings import ADJUSTABLE

if TYPE_CHECKING:
    from darts.training.model import Model
    from darts.training.result import RetrainResult
    from darts.training.retraining import Retraining

RESUMABLE = ("device", "plugins", *ADJUSTABLE)


class RetrainCommand(Command):
    """Trains the network of one cell from scratch on all training images, and judges it once."""

    name, place, sweeps, several = "retrain", 20, True, True
    help = "train the network of a cell, and judge it once on the test images"
    usage = """usage: darts retrain cell=CELL|run=RUN_DIR dataset=NAME recipe=NAME [key=value ...]

  darts retrain run=RUN_DIR dataset=image_folder dataset.root=PHOTOS recipe=fast
  darts retrain cell='|nor_conv_3x3~0|+|...|' dataset=cifar10 dataset.root=DATA recipe=nb201_200
  darts retrain init=RUN_DIR dataset=image_folder dataset.root=PHOTOS recipe.frozen_epochs=2 recipe.backbone_lr=0.1
                                                                      from its weights to classes of your own
  darts retrain -m seed=0,1,2 run=RUN_DIR data.held_out=0.1           one after the other, for darts ensemble
  darts retrain resume=RUN_DIR                                        go on where a training stopped
"""

    def kept(self, call: Call) -> dict[str, Any]:
        return whole(call)[0]

    def run(self, call: Call) -> int:
        from darts.run.checkpoint import Unwritable
        from darts.run.folder import resuming
        from darts.run.signals import Interrupted
        from darts.training.fit import Diverged

        if call.settings["resume"] is not None:
            folder = Path(call.settings["resume"])
            training = ranks.agreed(partial(resume, call, folder))
        else:
            training, folder = ranks.agreed(partial(begin, call))
        if training is None:
            return 0
        again = resuming(folder, self.name)
        try:
            while True:
                try:
                    result = training.run()
                    break
                except Diverged as error:
                    training.roll_back(error)
        except Interrupted:
            done, steps = training.state.step, training.plan.steps
            print(f"interrupted at step {done} of {steps}; go on with: {again}", file=sys.stderr)
            return INTERRUPTED
        except Unwritable as error:
            raise UserError(f"{error}: {again}") from None
        except Diverged as error:
            raise UserError(
                f"training diverged: {error}; the checkpoint of step {training.kept} is kept. To mend it, go on "
                f"from it with smaller learning rates: {again} engine.retries={training.plan.retries + 1}; or start "
                "anew with lower recipe.lr or recipe.warm_up=1"
            ) from None
        if result is None:
            return 0
        result.write(folder / "result.json")
        return complete(result, folder, call.settings["plugins"], call.typed)


def begin(call: Call) -> tuple[Retraining, Path]:
    """A new training, in a folder of its own.

    Raises:
        UserError: a mistake to mend.
    """
    from darts.run import folder as run_folder
    from darts.run.largest import with_batch_size
    from darts.run.settings import with_groups
    from darts.training.build import build_retraining
    from darts.training.trying import tried

    settings, start = whole(call)
    settings = with_batch_size(with_groups(settings), lambda sized: tried(sized, start))
    folder = call.run_dir or run_folder.chosen_run_dir(settings["run_dir"], "retrain")
    training = run_folder.begin(folder, "retrain", settings, lambda: build_retraining(settings, folder, start))
    plan = training.plan
    own, others = plan.task.sizes[0], plan.final.sizes[1]
    print(f"{plan.task.name}: {own:,} images to train, judged on {others:,} {plan.judged_on}", file=sys.stderr)
    return training, folder


def whole(call: Call) -> tuple[dict[str, Any], Model | None]:
    """The settings with the cell, space and size that `run` or `init` say, and the network to begin with.

    Raises:
        UserError: several that contradict each other, or folders that hold none.
    """
    from darts.compare.found import with_cell
    from darts.models.opening import open_model
    from darts.run.settings import anchored

    settings = with_cell(anchored(call.settings))
    start = None
    if settings["init"] is not None:
        start = open_model(Path(settings["init"]), "init", plugins=settings["plugins"])
        own = str(settings["cell"] or start.about.cell).strip()
        if own != start.about.cell:
            raise UserError(f"init: its weights are of the cell {start.about.cell}; leave out cell and run, or init")
        settings["cell"], settings["space"] = own, dict(start.about.space)
        sizes = {key: start.about.size[key] for key in ("channels", "cells") if f"network.{key}" not in call.given}
        settings["network"] = settings["network"] | sizes
    return settings, start


def resume(call: Call, folder: Path) -> Retraining | None:
    """Go on with a training where its last checkpoint stands; None after reporting a finished one.

    Raises:
        UserError: an option that a resumed training cannot change, or a folder that holds none.
    """
    from darts.models.opening import open_model
    from darts.run.checkpoint import checkpoint_paths
    from darts.run.errors import configured, understood
    from darts.run.folder import check_goes_on, check_links, read_config, write_config
    from darts.run.settings import believed, with_values_of
    from darts.training.build import build_retraining
    from darts.training.result import CONFIG_KEYS, RetrainResult

    settings = call.settings
    if foreign := sorted(key for key in call.given if key not in (*RESUMABLE, "resume")):
        raise UserError(
            f"{', '.join(foreign)}: a resumed training keeps its settings; beside resume only "
            f"{', '.join(RESUMABLE)} can be given"
        )
    stored = read_config(folder, "retrain", CONFIG_KEYS)
    if (folder / "result.json").is_file():
        check_links(folder)
        result = RetrainResult.read(folder / "result.json")
        with understood(folder / "result.json", "retrain"):
            if ranks.first():
                complete(result, folder, settings["plugins"], call.typed)
        return None
    check_goes_on(folder)
    changed = {key: settings[key] for key in call.given & {"device"}}
    if changes := call.given & set(ADJUSTABLE):
        stored = with_values_of(stored, settings, changes)
        if ranks.first():
            write_config(stored, folder)
    now_settings = believed(stored, settings) | changed
    if not checkpoint_paths(folder):  # stopped before its first one
        init = stored["init"]
        start = None if init is None else open_model(Path(init), "init", plugins=settings["plugins"])
        print("no checkpoint was written yet: from the beginning", file=sys.stderr)
        with configured(folder, "retrain"):
            return build_retraining(now_settings, folder, start)
    with configured(folder, "retrain"):
        training = build_retraining(now_settings, folder)
    training.resume()
    print(f"resuming at step {training.state.step} of {training.plan.steps}", file=sys.stderr)
    return training


def complete(result: RetrainResult, folder: Path, plugins: Sequence[str], typed: Sequence[str] = ()) -> int:
    """Draw what a written result lacks of pictures and its page, and report."""
    from darts.report.model_page import model_page
    from darts.report.retrain_report import draw_retraining, names_of, retrain_lines
    from darts.report.text import print_lines
    from darts.run.checkpoint import load_checkpoint
    from darts.run.files import write_text
    from darts.run.folder import read_config, tidy
    from darts.run.parts import build_one
    from darts.training.retraining import mistakes_path

    figures = folder / "figures"
    if not all((figures / name).is_file() for name in names_of(result)):
        draw_retraining(result, figures)
    if not (folder / "report.html").is_file():
        space = build_one(read_config(folder, "retrain", ("space",)), "space", plugins)
        file = mistakes_path(folder)
        images_NCHW = load_checkpoint(file)["images"] if file.is_file() else None
        made = {"date": time.strftime("%Y-%m-%d %H:%M"), "command": shlex.join(["darts", *typed])}
        write_text(folder / "report.html", model_page(result, space, images_NCHW, made))
    tidy(folder)
    print_lines(retrain_lines(result, folder))
    return 0
