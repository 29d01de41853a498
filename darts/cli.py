"""The command `darts`: reads its words, hands settings to commands, turns mistakes into messages.

Nothing heavy is imported here before it is needed, so that `darts --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from darts import __version__
from darts.errors import UserError

COMMANDS = {
    "search": "find a cell: images in, cell string and run folder out",
    "baseline": "evolution, random search and the rest, many seeds, on one budget axis",
    "compare": "runs beside each other: table, pictures, one page; or a whole study",
    "derive": "print the cell of a run, of any epoch, with any discretizer",
    "query": "what is known of cells: index, cost, accuracies; or import a benchmark's files",
    "completion": "print a script for shell completion",
}
PATHS = ("compare",)  # commands that take folders as words
OVERVIEW = """darts: differentiable architecture search over the NAS-Bench-201 cell

usage: darts COMMAND [words] [key=value ...]

{commands}

darts COMMAND --help lists the options of a command.
darts search -m seed=0,1,2 runs several searches, one for each combination of values.
"""
COMPLETION = """# bash, or zsh after: autoload -U bashcompinit && bashcompinit
_darts_complete() {
    COMPREPLY=($(darts completion --words "$COMP_CWORD" "${COMP_WORDS[@]}" 2>/dev/null))
    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -F _darts_complete darts"""


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status: 0, 2 for a mistake of the user's, 130 when interrupted."""
    words = list(sys.argv[1:] if words is None else words)
    try:
        return dispatch(words)
    except UserError as error:
        print(f"darts: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def dispatch(words: list[str]) -> int:
    """Choose the command.

    Raises:
        UserError: no or an unknown command, or a mistake inside one.
    """
    if not words or words[0] in ("-h", "--help", "help"):
        listed = "\n".join(f"  {name:<11} {text}" for name, text in COMMANDS.items())
        print(OVERVIEW.format(commands=listed), end="")
        return 0
    if words[0] == "--version":
        print(f"darts {__version__}")
        return 0
    command, rest = words[0], words[1:]
    if command not in COMMANDS:
        if "=" in command:
            raise UserError(f"{command}: a command comes first; did you mean: darts search {' '.join(words)}")
        raise UserError(f"unknown command {command!r}; allowed are {', '.join(COMMANDS)}")
    if command == "completion":
        return completion(rest)
    if "-h" in rest or "--help" in rest:
        from darts.help import command_help

        print(command_help(command), end="")
        return 0
    return run(command, rest)


def run(command: str, words: list[str]) -> int:
    """Compose the settings of a command and run it.

    Raises:
        UserError: a mistake to mend.
    """
    from darts.config import compose_config, parse_overrides, quoted, split_words

    words, multirun, own_configs = take_flags(words)
    positional, overrides = split_words(words, command in PATHS)
    overrides = [quoted(override) for override in overrides]
    if positional and command not in ("query", *PATHS):
        raise UserError(f"{positional[0]!r}: darts {command} takes key=value only; see darts {command} --help")
    if multirun:
        if command != "search":
            raise UserError(f"-m: darts {command} makes no sweeps; darts search does")
        return sweep(command, overrides, own_configs)
    parsed = parse_overrides(overrides)
    swept = next((override for override in parsed if override.is_sweep_override()), None)
    if swept is not None:
        raise UserError(
            f"{swept.input_line}: several values need -m (darts {command} -m ...); a list is written key=[a,b]"
        )
    settings = compose_config(command, overrides, own_configs)
    given = {override.key_or_group for override in parsed}
    if command == "search":
        from darts.searching import search_command

        return search_command(settings, given)
    if command == "baseline":
        from darts.baselining import baseline_command

        return baseline_command(settings, given)
    if command == "compare":
        from darts.comparing import compare_command

        return compare_command(settings, positional)
    if command == "derive":
        from darts.deriving import derive_command

        return derive_command(settings, given)
    from darts.querying import query_command

    return query_command(settings, positional)


def take_flags(words: Sequence[str]) -> tuple[list[str], bool, Path | None]:
    """Split off -m and --config-dir.

    Raises:
        UserError: an unknown flag, or --config-dir without a folder.
    """
    rest: list[str] = []
    multirun, own_configs = False, None
    remaining = iter(words)
    for word in remaining:
        if word in ("-m", "--multirun"):
            multirun = True
        elif word == "--config-dir" or word.startswith("--config-dir="):
            value = word.partition("=")[2] or next(remaining, "")
            if not value:
                raise UserError("--config-dir: it needs a folder with configs of your own")
            own_configs = Path(value).expanduser()
        elif word.startswith("-"):
            raise UserError(f"unknown flag {word!r}; allowed are -m, --config-dir FOLDER, --help")
        else:
            rest.append(word)
    return rest, multirun, own_configs


def sweep(command: str, overrides: list[str], own_configs: Path | None) -> int:
    """Run one job for each combination of values, each in run_dir/OVERRIDES, through Hydra's launcher.

    Raises:
        UserError: a mistake in the command line, or in a job; the other jobs have run.
    """
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from darts import config
    from darts.paths import config_dir
    from darts.run_folder import new_run_dir

    parsed = config.parse_overrides(overrides)
    folders = config.config_folders(parsed, own_configs)
    config.explain(command, parsed, folders)
    roots = [word for word in overrides if word.startswith("run_dir=")]
    root = roots[-1] if roots else config.quoted(f"run_dir={new_run_dir(command)}")
    constant = ["run_dir", *(override.key_or_group for override in parsed if not override.is_sweep_override())]
    excluded = ",".join(f"'{name}'" for name in constant)
    sys.argv = [
        "darts",
        "--multirun",
        *[override for override in overrides if not override.startswith("run_dir=")],
        *config.search_path_override(folders[1:]),
        root,
        root.replace("run_dir=", "hydra.sweep.dir=", 1),
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
        f"hydra.job.config.override_dirname.exclude_keys=[{excluded}]",
        "hydra.sweep.subdir=${hydra.job.override_dirname}",
    ]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, not to Hydra's own printer
    try:
        hydra.main(config_path=str(config_dir()), config_name=command, version_base="1.3")(sweep_job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(" ".join(str(error).split())) from None
    return 0


def sweep_job(config: Any) -> int:
    """One search of a sweep."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from darts.config import load_plugins, one_budget, parse_overrides
    from darts.searching import INTERRUPTED, search_command

    hydra_config = HydraConfig.get()
    parsed = parse_overrides(list(hydra_config.overrides.task))
    settings = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(settings, dict)
    load_plugins(settings["plugins"])
    settings = one_budget({str(key): value for key, value in settings.items()}, parsed)
    name = hydra_config.job.override_dirname.replace("/", "_") or str(hydra_config.job.num)
    folder = Path(settings["run_dir"]) / name
    print(f"--- {name}", file=sys.stderr)
    try:
        status = search_command(settings, {override.key_or_group for override in parsed}, folder)
    except UserError as error:  # the other jobs run all the same; the sweep reports the first failure at its end
        print(f"darts: {name}: {error}", file=sys.stderr)
        raise UserError(f"{name} failed, see above") from None
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    return status


def completion(words: list[str]) -> int:
    """Print the completion script, or (called by it) the words that can stand at the cursor."""
    if not words:
        print(COMPLETION)
        return 0
    if words[0] != "--words" or len(words) < 2 or not words[1].isdigit():
        raise UserError('completion: it takes no words; add eval "$(darts completion)" to ~/.bashrc')
    from darts.help import complete

    print("\n".join(complete(words[2:], int(words[1]))))
    return 0


def console() -> None:
    """Entry point of the installed command."""
    sys.exit(main())
