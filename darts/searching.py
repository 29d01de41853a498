"""The command `darts search`: a new run or a resumed one, its result, its report."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darts.build import build_search
from darts.checkpoint import checkpoint_path
from darts.errors import UserError
from darts.figures import draw_all
from darts.oracle.base import Table
from darts.parts import build_oracle
from darts.report import print_result
from darts.results import SearchResult
from darts.run_folder import chosen_run_dir, make_run_dir, read_config, remove_empty, resuming, write_config
from darts.search_loop import Interrupted, Search
from darts.tracking import differences, environment

INTERRUPTED = 130
RESUMABLE = ("device", "monitor", "budget", "plugins")


def search_command(settings: dict[str, Any], given: set[str], run_dir: Path | None = None) -> int:
    """Run a search; returns the exit status.

    Args:
        settings: the composed config.
        given: keys that the command line overrides.
        run_dir: overrides the config's; used by sweeps.

    Raises:
        UserError: a mistake to mend.
    """
    if settings["resume"] is not None:
        return resume_command(settings, given)
    if settings["extend"]:
        raise UserError("extend: it goes with resume=RUN_DIR; a new search takes its budget from budget.*")
    folder = make_run_dir(run_dir or chosen_run_dir(settings["run_dir"], "search"))
    try:
        search = build_search(settings, folder)
    except BaseException:
        remove_empty(folder)
        raise
    write_config(settings, folder)
    return finish(search, settings, folder)


def resume_command(settings: dict[str, Any], given: set[str]) -> int:
    """Go on with a run where its last checkpoint stands, or print the result of a finished one.

    Raises:
        UserError: an option that a resumed run cannot change, or a folder that holds no run.
    """
    folder = Path(settings["resume"])
    foreign = sorted(key for key in given if key.split(".")[0] not in (*RESUMABLE, "resume", "extend"))
    if foreign:
        raise UserError(
            f"{', '.join(foreign)}: a resumed run keeps its settings; "
            "beside resume only device, monitor, budget.*, extend and plugins can be given"
        )
    stored = read_config(folder)
    budget_given = any(key.startswith("budget") for key in given)
    result_file = folder / "result.json"
    if result_file.is_file() and not (settings["extend"] and budget_given):
        if budget_given:
            raise UserError(f"resume: {folder} is finished; add extend=true to go on with a longer budget")
        print_result(SearchResult.read(result_file), folder)
        return 0
    if not checkpoint_path(folder).is_file():
        raise UserError(
            f"resume: {folder} holds no checkpoint ({checkpoint_path(folder)}); "
            "give the folder of a run that got as far as its first checkpoint, or start anew"
        )
    changed = {key: settings[key] for key in RESUMABLE if any(name.split(".")[0] == key for name in given)}
    now_settings = stored | {"plugins": settings["plugins"]} | changed
    search = build_search(now_settings, folder)
    now = environment(search.state.device)
    content = search.resume(now)
    if other := differences(content["environment"], now):
        print(f"note: not the same bits as an uninterrupted run ({'; '.join(other)})", file=sys.stderr)
    if budget_given:
        search.change_budget(extend=settings["extend"])
        write_config(stored | {"budget": settings["budget"]}, folder)
    if result_file.is_file():  # of the shorter budget; kept, but no longer the result of this folder
        os.replace(result_file, folder / f"result-{search.state.step}-steps.json")
    print(f"resuming at step {search.state.step} of {search.state.planned_steps}", file=sys.stderr)
    return finish(search, now_settings, folder)


def finish(search: Search, settings: Mapping[str, Any], folder: Path) -> int:
    """Run to the end, write the result and its pictures, ask the oracle, report."""
    try:
        result = search.run()
    except Interrupted:
        print(
            f"interrupted at step {search.state.step} of {search.state.planned_steps}; go on with: {resuming(folder)}",
            file=sys.stderr,
        )
        return INTERRUPTED
    space = search.state.network.space
    result_file = folder / "result.json"
    result.write(result_file)
    draw_all(result, search.state.relaxation, space, folder / "figures")
    oracle = build_oracle(settings["oracle"], settings["plugins"])
    try:
        table = oracle.load() if space == Table.space else None
    except UserError as error:
        print_result(result, folder)
        raise UserError(f"{error}\nThe search itself is complete: {result_file}") from None
    if table is not None:
        rows = table.rows(space.parse(result.cell))
        result.oracle = {"table": table.name, "searched_on": result.searched_on, "rows": rows}
        result.write(result_file)
    print_result(result, folder, oracle.notice())
    return 0
