"""From the words of a command to plain settings: quoting, composition, and messages for what does not fit."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from darts.command.base import CANNOT_IMPORT
from darts.run.errors import UserError, reason
from darts.run.files import config_dir

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where PyYAML has it, takes a seventh of the time
BUDGETS = ("epochs", "steps", "images", "seconds")


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Hydra's reading of the overrides.

    Raises:
        UserError: one that does not follow its grammar.
    """
    parsed = []
    for text in overrides:
        try:
            parsed += OverridesParser.create().parse_overrides([text])
        except HydraException as error:
            raise UserError(
                f"cannot read {text!r} ({reason(error)}); "
                "quote values that hold one of , = ' \" ( ) [ ] { } : inside the shell's quotes: key=\"'value'\""
            ) from None
    return parsed


def load_plugins(names: Iterable[str]) -> list[Path]:
    """Import packages with parts of the user's own; returns their config folders.

    Raises:
        UserError: a package that cannot be imported.
    """
    folders = []
    for name in names:
        try:
            module = importlib.import_module(name)
        except (ImportError, ValueError) as error:
            raise UserError(CANNOT_IMPORT.format(name, error)) from None
        for parent in map(Path, getattr(module, "__path__", [])):
            if (parent / "configs").is_dir():
                folders.append(parent / "configs")
    return folders


def config_folders(parsed: Sequence[Override], own_configs: Path | None) -> list[Path]:
    """All folders with configs: ours, the user's own, those of plug-ins; imports the plug-ins.

    Plug-ins are named by `plugins=[...]` on the command line, or in the user's own experiment file.

    Raises:
        UserError: a folder that is not there, or a package that cannot be imported.
    """
    if own_configs is not None and not own_configs.is_dir():
        raise UserError(f"--config-dir: there is no folder {own_configs}")
    own = [own_configs.resolve()] if own_configs is not None else []
    names: list[str] = []
    for override in parsed:
        value = override.value()
        if override.key_or_group == "plugins":
            names += value if isinstance(value, list) else [value]  # type: ignore[arg-type, list-item]
        elif override.key_or_group == "experiment":
            for file in (folder / "experiment" / f"{value}.yaml" for folder in own):
                names += (_read_yaml(file) if file.is_file() else {}).get("plugins") or []
    return [config_dir(), *own, *load_plugins(str(name) for name in names if name is not None)]


def compose_config(command: str, overrides: Sequence[str], own_configs: Path | None = None) -> dict[str, Any]:
    """The settings of a command as plain values; imports the plug-ins that they name.

    Args:
        command: name of the primary config.
        overrides: words with `key=value`, already quoted.
        own_configs: the user's own config folder, searched first.

    Raises:
        UserError: an unknown option or choice, or a value that cannot be read.
    """
    parsed = parse_overrides(overrides)
    folders = config_folders(parsed, own_configs)
    explain(command, parsed, folders)
    # a group that is null by default may be given as null; Hydra itself cannot read that
    words = [override.input_line or "" for override in parsed if not _is_null_choice(override, folders, command)]
    try:
        config = _compose(command, words, folders)
        choices = _take_choices(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_missing_option(command, parsed, folders) or " ".join(str(error).split())) from None
    try:
        settings = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or ""
        raise UserError(f"{key}: {reason(error)}; give {key}=VALUE") from None
    assert isinstance(settings, dict)
    return completed({str(key): value for key, value in settings.items()}, command, choices, parsed)


def completed(settings: dict[str, Any], command: str, choices: Mapping[str, str], parsed: Sequence[Override]) -> Any:
    """What follows: a run without a name is called by its method; a budget that was given replaces those of configs."""
    if settings.get("label", "") is None:
        settings["label"] = choices[command if command in choices else "method"]
    given = {override.key_or_group for override in parsed}
    budgets = {key.removeprefix("budget.") for key in given if key.startswith("budget.")}
    budget = settings.get("budget")
    if isinstance(budget, dict) and any(budget.get(name) is not None for name in budgets):
        settings["budget"] = {name: value if name in budgets else None for name, value in budget.items()}
    return settings


def search_path_override(folders: Sequence[Path]) -> list[str]:
    """Hydra's override that adds config folders to the search path."""
    listed = ",".join("'file://" + str(folder).replace("'", "\\'") + "'" for folder in folders)
    return [f"hydra.searchpath=[{listed}]"] if folders else []


def _compose(command: str, overrides: Sequence[str], folders: Sequence[Path]) -> DictConfig:
    home = primary_file(command, folders).parent
    with initialize_config_dir(version_base="1.3", config_dir=str(home)):
        words = [*overrides, *search_path_override([folder for folder in folders if folder != home])]
        return compose(command, words, return_hydra_config=True)


def _take_choices(config: DictConfig) -> dict[str, str]:
    """Group to choice; takes Hydra's own node out of the settings."""
    choices = dict(config.hydra.runtime.choices)
    with open_dict(config):
        del config["hydra"]
    return choices


def _missing_option(command: str, parsed: Sequence[Override], folders: Sequence[Path]) -> str | None:
    """The message for a key that is known, but not to the parts that were chosen."""
    choices = [o.input_line or "" for o in parsed if group_choices(o.key_or_group, folders, command)]
    chosen = _compose(command, choices, folders)
    for override in parsed:
        name = override.key_or_group
        group = name.rpartition(".")[0]
        if group and not override.is_add() and OmegaConf.select(chosen, name, default="absent") == "absent":
            held = ", ".join(key for key in OmegaConf.select(chosen, group) or {} if key[0] != "_") or "none"
            return f"{name}: {group} as chosen has no such option; it has {held}"
    return None


def explain(command: str, parsed: Sequence[Override], folders: Sequence[Path]) -> None:
    """Check the names of options and choices.

    Raises:
        UserError: one that is unknown, with the nearest name or with what is allowed.
    """
    known = set(options(command, folders))
    optional = {group for group, default in defaults_of(primary_config(command, folders)).items() if not default}
    for override in parsed:
        name, value = override.key_or_group, override._value
        if name.startswith("hydra") or override.is_add() or override.is_force_add():
            continue
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"unknown option {name!r}; {hint}darts {command} --help lists all of them")
        choices = group_choices(name, folders, command)
        is_group = bool(choices) or name == "experiment"
        if not is_group or override.value_type not in (None, ValueType.ELEMENT) or (value is None and name in optional):
            continue
        for choice in value if isinstance(value, list) else [value]:
            if str(choice) not in choices:
                nowhere = f"there is no such file; put it into FOLDER/{name} and give --config-dir FOLDER"
                mend = f"allowed are {', '.join(choices)}" if choices else nowhere
                raise UserError(f"{name}: got {'null' if choice is None else repr(str(choice))}; {mend}")


def _is_null_choice(override: Override, folders: Sequence[Path], command: str) -> bool:
    group = override.key_or_group
    return override._value is None and (group == "experiment" or bool(group_choices(group, folders, command)))


def _read_yaml(file: Path) -> dict[str, Any]:
    """A YAML file of configs.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return yaml.load(file.read_text(encoding="utf-8"), LOADER) or {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None


def primary_config(command: str, folders: Sequence[Path]) -> dict[str, Any]:
    """The content of `primary_file`."""
    return _read_yaml(primary_file(command, folders))


def primary_file(command: str, folders: Sequence[Path]) -> Path:
    """The YAML of a command, from the first folder that has it.

    Raises:
        UserError: none has it.
    """
    found = next((file for folder in folders if (file := folder / f"{command}.yaml").is_file()), None)
    if found is None:
        raise UserError(f"darts {command}: there is no {command}.yaml in {', '.join(map(str, folders))}")
    return found


def defaults_of(primary: dict[str, Any]) -> dict[str, Any]:
    """Group to default choice of a primary config."""
    return {
        group: choice for entry in primary["defaults"] if isinstance(entry, dict) for group, choice in entry.items()
    }


def group_choices(group: str, folders: Sequence[Path], command: str) -> dict[str, Path]:
    """Name to YAML file of the choices of a group; a file with a line ``# darts COMMAND:`` is for that one alone."""
    files = {file.stem: file for folder in reversed(folders) for file in (folder / group).glob("*.yaml")}
    found = {}
    for name, file in sorted(files.items()):
        own = re.search(r"^# darts (\w+):", file.read_text(encoding="utf-8"), re.MULTILINE)
        if own is None or own[1] == command:
            found[name] = file
    return found


def options(command: str, folders: Sequence[Path]) -> list[str]:
    """Every key that a command knows: of its primary config, and of all choices of its groups."""
    primary = primary_config(command, folders)
    keys = _keys(primary, "")
    for group in defaults_of(primary):
        keys.append(group)
        for file in (file for folder in folders for file in sorted((folder / group).glob("*.yaml"))):
            text = file.read_text(encoding="utf-8")
            package = re.search(r"^#\s*@package\s+(\S+)", text, re.MULTILINE)
            if package is None or package[1] != "_global_":
                keys += _keys(yaml.load(text, LOADER) or {}, f"{package[1] if package else group}.")
    return list(dict.fromkeys(keys))


def _keys(node: dict[str, Any], prefix: str) -> list[str]:
    found = []
    for key, value in node.items():
        if key.startswith("_") or key == "defaults":
            continue
        found.append(prefix + key)
        if isinstance(value, dict):
            found += _keys(value, f"{prefix}{key}.")
    return found
