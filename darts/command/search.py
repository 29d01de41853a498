"""The command `darts search`: a new run or a resumed one, its result, its report."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts.command.base import INTERRUPTED, Call, Command
from darts.run.errors import UserError

if TYPE_CHECKING:
    from darts.search.loop import Search

RESUMABLE = ("device", "monitor", "budget", "plugins")


class SearchCommand(Command):
    """Runs a search and reports."""

    name, place, sweeps = "search", 10, True
    help = "find a cell: images in, cell string and run folder out"
    usage = """usage: darts search [key=value ...] [-m] [--config-dir FOLDER]

  darts search                                            digits, a few minutes, nothing to download
  darts search dataset=image_folder dataset.root=PHOTOS   your own images
  darts search method=darts_v1 dataset=cifar10 dataset.root=DATA dataset.download=true
  darts search resume=RUN_DIR                             go on where a run stopped
  darts search -m seed=0,1,2 run_dir=RUNS                 a sweep; each job in RUNS/seed=N
"""

    def run(self, call: Call) -> int:
        from darts.run.folder import resuming
        from darts.search.loop import Interrupted, Unwritable

        prepared = resume(call) if call.settings["resume"] is not None else begin(call)
        if prepared is None:
            return 0
        search, settings, folder = prepared
        again = resuming(folder, self.name)
        try:
            result = search.run()
        except Interrupted:
            state = search.state
            print(f"interrupted at step {state.step} of {state.planned_steps}; go on with: {again}", file=sys.stderr)
            return INTERRUPTED
        except Unwritable as error:
            raise UserError(f"{error}: {again}") from None
        return finish(search, result, settings, folder)


Prepared = tuple["Search", dict[str, Any], Path]


def begin(call: Call) -> Prepared:
    """A new run in a folder of its own.

    Raises:
        UserError: a mistake to mend.
    """
    from darts.run import folder as run_folder
    from darts.search.build import build_search

    settings = call.settings
    if settings["extend"]:
        raise UserError("extend: it goes with resume=RUN_DIR; a new search takes its budget from budget.*")
    folder = call.run_dir or run_folder.chosen_run_dir(settings["run_dir"], "search")
    search = run_folder.begin(folder, "search", settings, lambda: build_search(settings, folder))
    return search, settings, folder


def resume(call: Call) -> Prepared | None:
    """Go on with a run where its last checkpoint stands; None after printing the result of a finished one.

    Raises:
        UserError: an option that a resumed run cannot change, or a folder that holds no run.
    """
    from darts.report.text import print_search
    from darts.run.checkpoint import checkpoint_path
    from darts.run.environment import differences, environment
    from darts.run.folder import read_config, write_config
    from darts.search.build import build_search
    from darts.search.result import CONFIG_KEYS, SearchResult

    settings, given = call.settings, call.given
    folder = Path(settings["resume"])
    foreign = sorted(key for key in given if key.split(".")[0] not in (*RESUMABLE, "resume", "extend"))
    if foreign:
        raise UserError(
            f"{', '.join(foreign)}: a resumed run keeps its settings; "
            "beside resume only device, monitor, budget.*, extend and plugins can be given"
        )
    stored = read_config(folder, "search", CONFIG_KEYS)
    budget_given = any(key.startswith("budget") for key in given)
    result_file = folder / "result.json"
    if result_file.is_file() and not (settings["extend"] and budget_given):
        if budget_given:
            raise UserError(f"resume: {folder} is finished; add extend=true to go on with a longer budget")
        print_search(SearchResult.read(result_file), folder)
        return None
    if not checkpoint_path(folder).is_file():
        raise UserError(
            f"resume: {folder} holds no checkpoint ({checkpoint_path(folder)}); "
            "give the folder of a run that got as far as its first checkpoint, or start anew"
        )
    changed = {key: settings[key] for key in RESUMABLE if any(name.split(".")[0] == key for name in given)}
    now_settings = stored | {"plugins": settings["plugins"]} | changed
    search = build_search(now_settings, folder)
    content = search.resume()
    if other := differences(content["environment"], environment(search.state.device)):
        print(f"note: not the same bits as an uninterrupted run ({'; '.join(other)})", file=sys.stderr)
    if budget_given:
        search.change_budget(extend=settings["extend"])
        write_config(stored | {"budget": settings["budget"]}, folder)
    if result_file.is_file():  # of the shorter budget; kept, but no longer the result of this folder
        os.replace(result_file, folder / f"result-{search.state.step}-steps.json")
    print(f"resuming at step {search.state.step} of {search.state.planned_steps}", file=sys.stderr)
    return search, now_settings, folder


def finish(search: Search, result: Any, settings: dict[str, Any], folder: Path) -> int:
    """Write the result and its pictures, ask the oracle, report."""
    from darts.report.search_figures import draw_search
    from darts.report.text import print_search
    from darts.run.parts import build_one

    space, file = search.state.space, folder / "result.json"
    result.write(file)
    draw_search(result, search.state.relaxation, space, folder / "figures")
    oracle = build_one(settings, "oracle", settings["plugins"])
    try:
        table = oracle.load(space)
    except UserError as error:
        print_search(result, folder)
        raise UserError(f"{error}\nThe search itself is complete: {file}") from None
    if table is not None:
        result.look_up(table.name, table.rows(space.parse(result.cell)), len(table))
        result.write(file)
    print_search(result, folder, oracle.notice())
    return 0
