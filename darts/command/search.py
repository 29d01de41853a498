"""The command `darts search`: a new run or a resumed one, its result, its report."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts.command.base import INTERRUPTED, Call, Command
from darts.run import ranks
from darts.run.errors import UserError
from darts.run.settings import ADJUSTABLE

if TYPE_CHECKING:
    from darts.search.loop import Search
    from darts.search.result import SearchResult
    from supernet.relaxations.base import Relaxation
    from supernet.spaces.base import Space

RESUMABLE = ("device", "monitor", "budget", "plugins", "ray_address")
KEYS = ("dataset.root", *ADJUSTABLE)
"""Of other parts: where the data are now, which have to be the same, and what happens where numbers are not finite."""


class SearchCommand(Command):
    """Runs a search and reports."""

    name, place, sweeps, several = "search", 10, True, True
    help = "find a cell: images in, cell string and run folder out"
    usage = """usage: darts search [key=value ...] [-m] [--config-dir FOLDER]

  darts search                                            digits, a few minutes, nothing to download
  darts search dataset=image_folder dataset.root=PHOTOS   your own images
  darts search method=darts_v1 dataset=cifar10 dataset.root=DATA dataset.download=true
  darts search resume=RUN_DIR                             go on where a run stopped
  darts search -m seed=0,1,2 run_dir=RUNS                 a sweep; each job in RUNS/seed=N
  torchrun --nproc_per_node=2 -m darts search             one search, its batches shared out among two processes
"""

    def implied(self, given: Mapping[str, Any]) -> list[str]:
        """Where data have moved, the data set is that of the run."""
        if "resume" not in given or "dataset.root" not in given:
            return []
        from darts.run.files import config_dir
        from darts.run.folder import read_config
        from darts.search.result import CONFIG_KEYS

        stored = read_config(Path(str(given["resume"])), self.name, CONFIG_KEYS)["dataset"]
        files = (config_dir() / "dataset").glob("*.yaml")
        return [f"dataset={file.stem}" for file in files if str(stored.get("_target_")) in file.read_text("utf-8")][:1]

    def run(self, call: Call) -> int:
        from darts.run.checkpoint import Unwritable
        from darts.run.folder import resuming
        from darts.run.signals import Interrupted
        from darts.search.diverging import NonFiniteLoss

        prepared = ranks.agreed(partial(begin if call.settings["resume"] is None else resume, call))
        if prepared is None:
            return 0
        search, settings, folder = prepared
        again = resuming(folder, self.name)
        try:
            result = None
            while result is None:
                try:
                    result = search.run()
                except NonFiniteLoss as error:
                    search.roll_back(error)
        except Interrupted:
            state = search.state
            print(f"interrupted at step {state.step} of {state.planned_steps}; go on with: {again}", file=sys.stderr)
            return INTERRUPTED
        except Unwritable as error:
            raise UserError(f"{error}: {again}") from None
        return finish(search, result, settings, folder, call.begun) if ranks.first() else 0


Prepared = tuple["Search", dict[str, Any], Path]


def begin(call: Call) -> Prepared:
    """A new run in a folder of its own.

    Raises:
        UserError: a mistake to mend.
    """
    from darts.run import folder as run_folder
    from darts.run.files import write_text
    from darts.run.largest import with_batch_size
    from darts.run.settings import anchored, with_groups
    from darts.search.build import ready_search
    from darts.search.trying import tried

    settings = with_groups(anchored(call.settings))
    if settings["extend"]:
        raise UserError("extend: it goes with resume=RUN_DIR; a new search takes its budget from budget.*")
    settings = with_batch_size(settings, tried)
    folder = call.run_dir or run_folder.chosen_run_dir(settings["run_dir"], "search")
    search = run_folder.begin(folder, "search", settings, lambda: ready_search(settings, folder))
    task, more = search.state.task, ""
    if task.remarks and ranks.first():
        write_text(folder / "data.txt", "\n".join(task.remarks) + "\n")
        more = f": see {folder / 'data.txt'}"
    if task.about:
        print(f"{task.name}: {task.about}{more}", file=sys.stderr)
    return search, settings, folder


def resume(call: Call) -> Prepared | None:
    """Go on with a run where its last checkpoint stands; None after reporting a finished one, and
    completing what a stop between result and report left out.

    Raises:
        UserError: an option that a resumed run cannot change, or a folder that holds no run.
    """
    from darts.run.checkpoint import checkpoint_paths
    from darts.run.environment import differences, environment
    from darts.run.errors import configured, understood
    from darts.run.folder import check_goes_on, check_links, read_config, write_config
    from darts.run.parts import build_one
    from darts.run.settings import anchored, believed, with_values_of
    from darts.search.build import ready_search
    from darts.search.result import CONFIG_KEYS, SearchResult

    settings, given = call.settings, call.given
    folder = Path(settings["resume"])
    foreign = sorted(
        key for key in given if key.split(".")[0] not in (*RESUMABLE, "resume", "extend") and key not in KEYS
    )
    if foreign:
        raise UserError(
            f"{', '.join(foreign)}: a resumed run keeps its settings; beside resume only "
            f"device, monitor, budget.*, extend, plugins, ray_address, {', '.join(KEYS)} can be given"
        )
    stored = read_config(folder, "search", CONFIG_KEYS)
    budget_given = any(key.startswith("budget") for key in given)
    result_file = folder / "result.json"
    extended = budget_given and settings["extend"]
    if result_file.is_file() and not (extended and settings["budget"] != stored["budget"]):
        check_links(folder)
        if budget_given and not extended:
            raise UserError(f"resume: {folder} is finished; add extend=true to go on with a longer budget")
        if not ranks.first():
            return None
        settings = stored | {"plugins": settings["plugins"]}
        space, relaxation = (build_one(settings, name, settings["plugins"]) for name in ("space", "relaxation"))
        result = SearchResult.read(result_file)
        with understood(result_file, "search"):
            complete(result, space, relaxation, settings, folder)
        return None
    check_goes_on(folder)
    changed = {key: settings.get(key, {}) for key in RESUMABLE if any(name.split(".")[0] == key for name in given)}
    if "dataset.root" in given:
        if "root" not in stored["dataset"]:
            raise UserError(f"dataset.root: the data set of {folder} has no folder; leave it out")
        stored["dataset"]["root"] = anchored(settings)["dataset"]["root"]
    stored = with_values_of(stored, settings, given & set(ADJUSTABLE))
    now_settings = believed(stored, settings) | changed
    with configured(folder, "search"):
        search = ready_search(now_settings, folder)
    begun = bool(checkpoint_paths(folder))  # else it was stopped before its first one
    if begun:
        content = search.resume()
        other = differences(content["environment"], environment(search.state.device))
        if "engine.groups" in given:
            other.append(f"engine.groups: now {search.state.groups.count}")
        if other:
            print(f"note: not the same bits as an uninterrupted run ({'; '.join(other)})", file=sys.stderr)
        planned_for = content.get("budget", None if budget_given else search.budget)  # earlier versions did not say
        if planned_for != search.budget:
            search.change_budget(extend=settings["extend"] or not budget_given)
        if ranks.first() and result_file.is_file():  # of the shorter budget; kept, but no longer the result here
            for picture in (folder / "figures").glob("*.png"):
                picture.unlink()
            os.replace(result_file, folder / f"result-{search.state.step}-steps.json")
    if budget_given:
        stored = stored | {"budget": settings["budget"]}
    if (budget_given or given & set(ADJUSTABLE)) and ranks.first():
        write_config(stored, folder)
    if not begun:
        print("no checkpoint was written yet: from the beginning", file=sys.stderr)
        return search, now_settings, folder
    print(f"resuming at step {search.state.step} of {search.state.planned_steps}", file=sys.stderr)
    return search, now_settings, folder


def finish(search: Search, result: SearchResult, settings: dict[str, Any], folder: Path, begun: float) -> int:
    """Write the result, and all that comes after it."""
    result.write(folder / "result.json")
    state = search.state
    return complete(result, state.space, state.relaxation, settings, folder, begun)


def complete(
    result: SearchResult,
    space: Space,
    relaxation: Relaxation,
    settings: dict[str, Any],
    folder: Path,
    begun: float | None = None,
) -> int:
    """Draw what a written result lacks of pictures, ask the oracle if that was not done, report; with the time
    since `begun`, where the search was made just now.

    Raises:
        UserError: the table is not there, or not what it should be; the result stands.
    """
    from darts.report.search_figures import draw_search, is_drawn
    from darts.report.text import print_search
    from darts.run.folder import tidy
    from darts.run.parts import build_one

    if not is_drawn(result, folder / "figures"):
        draw_search(result, relaxation, space, folder / "figures")
    notice = None
    if result.oracle is None:
        oracle = build_one(settings, "oracle", settings["plugins"])
        try:
            table = oracle.load(space)
        except UserError as error:
            print_search(result, folder)
            file = folder / "result.json"
            raise UserError(f"{error}\nThe search itself is complete: {file}") from None
        if table is not None:
            result.look_up(table.name, len(table), *table.among_alike(space.parse(result.cell)))
            result.write(folder / "result.json")
        notice = oracle.notice()
    tidy(folder)
    print_search(result, folder, notice, None if begun is None else time.perf_counter() - begun)
    return 0
