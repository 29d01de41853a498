"""The command `darts compare`: tables, pictures and one page about any mixture of runs."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from darts.command.base import Call, Command
from darts.run.errors import UserError


class CompareCommand(Command):
    """Compares runs; of a study it makes them first."""

    name, place, words = "compare", 30, "paths"
    help = "compare any runs: table, statistics, one page"
    usage = """usage: darts compare RUN_DIR... [key=value ...]

  darts compare outputs/baseline/2026-11-22/* run_dir=comparison
  darts compare experiment=evolution_against_random oracle.path=TABLE.csv   a study: its runs are made first
  darts compare experiment=all_baselines seeds=0-9 oracle.path=TABLE.csv run_dir=STUDY

A folder of runs stands for all of them. The same command goes on where a study stopped, if run_dir is given.
"""

    def run(self, call: Call) -> int:
        from darts.blackbox.evaluators.base import column
        from darts.compare.folders import run_folders
        from darts.compare.load import AXES, load
        from darts.compare.summary import as_csv, choose_axis, headline, matched_ranks, summary, unequal_cost
        from darts.report.compare_figures import draw_compare
        from darts.report.page import page
        from darts.report.text import print_compare
        from darts.run.files import write_text
        from darts.run.folder import check_own, chosen_run_dir, make_figures_dir, tidy, write_config
        from darts.run.parts import Problems, build_one

        settings, problems = call.settings, Problems()
        with problems.of():
            truth = None if settings["truth"] == "auto" else column("truth", settings["truth"])
        with problems.of():
            if settings["axis"] not in ("auto", *AXES):
                raise ValueError(f"axis: got {settings['axis']!r}; allowed are auto, {', '.join(AXES)}")
        with problems.of():
            oracle = build_one(settings, "oracle", settings["plugins"])
            oracle.check()
        problems.stop()
        folder = chosen_run_dir(settings["run_dir"], self.name)
        check_own(folder, self.name, CONFIG_KEYS)
        given = [*call.words, *make_runs(call, folder)]
        loaded = load(run_folders(given), truth, oracle, settings["plugins"])
        axis, rank = choose_axis(loaded, settings["axis"]), matched_ranks(loaded)
        rows = summary(loaded, axis, rank)
        first, warning = headline(loaded, rows, axis), unequal_cost(loaded.methods, axis)
        make_figures_dir(folder)
        write_config(settings | {"runs": [str(name) for name in given]}, folder)
        write_text(folder / "compare.csv", as_csv(rows))
        figures = draw_compare(loaded, axis, rank, folder / "figures")
        made = {"date": time.strftime("%Y-%m-%d %H:%M"), "command": shlex.join(["darts", *call.typed])}
        write_text(folder / "report.html", page(loaded, rows, figures, rank, first, warning, made))
        tidy(folder)
        print_compare(loaded, rows, folder, first, warning)
        return 0


CONFIG_KEYS = ("truth", "axis", "study")
SHARED = ("space", "task", "dataset", "device", "engine")  # settings of a study that its searches take too


def one_folder(name: str) -> str:
    """The name of a run in a study, once it is sure to name one folder inside that of the study.

    Raises:
        UserError: it does not.
    """
    if name != name.strip() or not name or {*name} & {*"/\\\0"} or name in (".", ".."):
        raise UserError(f"study: got the name {name!r}; a run of a study is a folder: give letters, digits, - and _")
    return name


def make_runs(call: Call, folder: Path) -> list[str]:
    """Make the runs of a study that are not finished; returns all of its folders.

    Raises:
        UserError: words that darts baseline refuses.
        KeyboardInterrupt: asked to stop; what is done is kept.
    """
    settings = call.settings
    runs = {name: folder / "runs" / one_folder(str(name)) for name in settings["study"] or {}}
    made: list[Path] = []
    for name, run in runs.items():
        words = list(settings["study"][name])
        if words[:1] == ["search"]:
            made += searched(call, name, words[1:], run)
            continue
        made.append(run)
        make_run(call, name, words, run)
    return [str(run) for run in made]


def make_run(call: Call, name: str, words: Sequence[str], run: Path) -> None:
    """Make one run of `darts baseline`, or go on with it, if it is not finished.

    Raises:
        UserError: words that darts baseline refuses.
        KeyboardInterrupt: asked to stop; what is done is kept.
    """
    from darts.blackbox.result import CONFIG_KEYS as NEEDED
    from darts.blackbox.result import BaselineResult
    from darts.blackbox.runs import Unfinished, prepare, run_all, tidy_run
    from darts.command.config import compose_config
    from darts.command.quoting import quoted
    from darts.report.baseline_figures import complete_figures, draw_baseline
    from darts.report.text import print_baseline
    from darts.run.errors import configured
    from darts.run.folder import begin, check_goes_on, check_links, read_config
    from darts.run.settings import ELSEWHERE, believed

    settings = call.settings
    if (run / "result.json").is_file():
        check_links(run)
        stored = read_config(run, "baseline", NEEDED) | {"plugins": settings["plugins"]}
        complete_figures(BaselineResult.read(run / "result.json"), stored, run / "figures")
        tidy_run(run)
        return
    print(f"--- {name}", file=sys.stderr)
    if (run / "config.yaml").is_file():
        check_goes_on(run)
        told = dict(word.split("=", 1) for word in (*settings["common"], *words) if word.split("=")[0] in ELSEWHERE)
        now = {"plugins": settings["plugins"], **dict.fromkeys(ELSEWHERE), **told}
        composed = believed(read_config(run, "baseline", NEEDED), now)
        with configured(run, "baseline"):
            prepared = prepare(composed)
    else:
        seeds = [] if settings["seeds"] is None else [f"seeds={str(settings['seeds']).replace(' ', '')}"]
        asked = [*settings["common"], *seeds, *words, f"run_dir={run}", f"label={name}"]
        if settings["oracle"].get("path"):
            asked.append(f"oracle.path={settings['oracle']['path']}")
        if settings["plugins"]:
            asked.append(f"plugins=[{','.join(settings['plugins'])}]")
        composed = compose_config("baseline", [quoted(word) for word in last_ones(asked)], call.own_configs)
        prepared = begin(run, "baseline", composed, partial(prepare, composed), ["figures"])
    try:
        result, best = run_all(composed, run, prepared)
    except Unfinished as error:
        print(f"{name} was {error}; the same words with run_dir={run.parent.parent} go on", file=sys.stderr)
        raise KeyboardInterrupt from None
    draw_baseline(result, best, run / "figures", prepared.search.space)
    tidy_run(run)
    print_baseline(result, run)


def last_ones(words: Sequence[str]) -> list[str]:
    """Of words about the same key the last."""
    return list({word.partition("=")[0]: word for word in words}.values())


def is_complete(run: Path) -> bool:
    """Whether a search has ended with all that comes after its result."""
    from darts.report.search_figures import is_drawn
    from darts.run.lock import NAME
    from darts.search.result import SearchResult

    file = run / "result.json"
    if not file.is_file() or (run / NAME).exists():  # the lock of one that was killed stays until another has tidied up
        return False
    return is_drawn(SearchResult.read(file), run / "figures")


def searched(call: Call, name: str, words: Sequence[str], folder: Path) -> list[Path]:
    """Make a search for every seed, each in a process of its own, and evaluate what it found as cells of baselines are.

    Args:
        call: of the study.
        name: of the entry.
        words: of darts search; those of `common` about space, task, data set and device go before them.
        folder: beside whose name the runs lie.

    Returns:
        Folders of the evaluations.

    Raises:
        UserError: a search that failed; its folder says why.
        KeyboardInterrupt: asked to stop; what is done is kept.
    """
    from darts.blackbox.runs import parse_seeds
    from darts.run.child import run_child
    from darts.run.signals import STOPPED
    from darts.search.result import SearchResult

    settings, made = call.settings, []
    common = [str(word) for word in settings["common"]]
    seeds = settings["seeds"] or dict(word.split("=", 1) for word in common if "=" in word).get("seeds", "0")
    shared = [word for word in common if word.partition("=")[0].partition(".")[0] in SHARED]
    for seed in parse_seeds(seeds):
        run, evaluated = (folder.with_name(f"{folder.name}{end}-{seed}") for end in ("-search", ""))
        if not is_complete(run):
            print(f"--- {name}, search of seed {seed}", file=sys.stderr)
            own = ["resume=" + str(run)] if (run / "config.yaml").is_file() else [
                *last_ones([*shared, *words]), f"seed={seed}", f"run_dir={run}", "oracle=none",
            ]  # fmt: skip
            plugins = [f"plugins=[{','.join(settings['plugins'])}]"] if settings["plugins"] else []
            status = run_child(["search", *own, *plugins])
            if status in STOPPED:
                raise KeyboardInterrupt
            if status:
                raise UserError(f"study: the search of {name}, seed {seed}, ended with status {status}; see above")
        found = SearchResult.read(run / "result.json")
        given = [
            "baseline=given", f"baseline.cells=['{found.cell}']", "budget.evaluations=1", f"seeds={seed}",
            f"baseline.upfront={found.images}",
        ]  # fmt: skip
        make_run(call, name, given, evaluated)
        made.append(evaluated)
    return made
