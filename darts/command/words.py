"""From the words of a command line to a command and what it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from darts import __version__
from darts.command.base import Call, Command, commands, named_plugins
from darts.run import ranks
from darts.run.errors import UserError

OVERVIEW = """darts: differentiable architecture search over the NAS-Bench-201 cell

usage: darts COMMAND [words] [key=value ...]

{commands}

darts COMMAND --help lists the options of a command.
darts search -m seed=0,1,2 runs several searches, one for each combination of values.
"""


def read(words: list[str]) -> tuple[Command, Call] | int:
    """The command and its call; an exit status where everything is done: help, versions, sweeps.

    Raises:
        UserError: no or an unknown command, or words that do not fit.
    """
    known = commands(named_plugins(words))
    if not words or words[0] in ("-h", "--help", "help"):
        listed = "\n".join(f"  {name:<11} {command.help}" for name, command in known.items())
        print(OVERVIEW.format(commands=listed), end="")
        return 0
    if words[0] == "--version":
        print(f"darts {__version__}")
        return 0
    name, rest = words[0], words[1:]
    if name not in known:
        if "=" in name:
            raise UserError(f"{name}: a command comes first; did you mean: darts search {' '.join(words)}")
        raise UserError(f"unknown command {name!r}; allowed are {', '.join(known)}")
    command = known[name]
    if not command.settings:
        return command, Call({}, words=rest)
    if "-h" in rest or "--help" in rest:
        from darts.command.help import command_help

        print(command_help(command, named_plugins(words)), end="")
        return 0
    return asked(command, rest)


def asked(command: Command, words: list[str]) -> tuple[Command, Call] | int:
    """The call with its settings composed, or the exit status of a sweep.

    Raises:
        UserError: words that do not fit.
    """
    from darts.command.config import compose_config, parse_overrides
    from darts.command.quoting import quoted, split_words

    words, multirun, own_configs = take_flags(words)
    positional, overrides = split_words(words, command.words == "paths")
    overrides = [quoted(override) for override in overrides]
    if positional and not command.words:
        raise UserError(
            f"{positional[0]!r}: darts {command.name} takes key=value only; see darts {command.name} --help"
        )
    if multirun:
        if not command.sweeps:
            raise UserError(f"-m: darts {command.name} makes no sweeps; darts search does")
        if ranks.started():
            raise UserError("-m: torchrun shares one run among processes; start a sweep without it, with cluster=NAME")
        from darts.command.sweep import sweep

        return sweep(command, overrides, own_configs)
    parsed = parse_overrides(overrides)
    swept = next((override for override in parsed if override.is_sweep_override()), None)
    if swept is not None:
        raise UserError(
            f"{swept.input_line}: several values need -m (darts {command.name} -m ...); a list is written key=[a,b]"
        )
    given = {override.key_or_group: override.value() for override in parsed}
    if given.get("cluster") is not None:
        raise UserError(f"cluster: it says where the jobs of a sweep run; add -m (darts {command.name} -m ...)")
    settings = compose_config(command.name, [*command.implied(given), *overrides], own_configs)
    return command, Call(settings, set(given), positional, own_configs)


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
