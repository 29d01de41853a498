"""From the words of a command to plain settings: quoting, composition, and messages for what does not fit."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from darts.errors import UserError
from darts.paths import config_dir

TEXT_KEYS = {"cell", "run", "resume", "run_dir", "model", "output", "import"}
KEY = re.compile(r"([+~]{0,2})([A-Za-z_][\w./@:]*)=(.*)", re.DOTALL)
BUDGETS = ("epochs", "steps", "images", "seconds")


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Positional words and overrides; `~key` deletes a key, as in Hydra."""
    positional: list[str] = []
    overrides: list[str] = []
    for word in words:
        is_override = KEY.fullmatch(word) or re.fullmatch(r"~[\w./@:]+", word)
        (overrides if is_override else positional).append(word)
    return positional, overrides


def quoted(override: str) -> str:
    """The override with its value quoted for Hydra, if the key holds a path or a cell.

    Values that are quoted already, and null, stay; `~/` becomes the home folder.
    """
    match = KEY.fullmatch(override)
    if match is None:
        return override
    prefix, key, value = match.groups()
    is_text = key in TEXT_KEYS or key.endswith((".path", ".root"))
    if not is_text or value == "null" or (len(value) > 1 and value[0] == value[-1] and value[0] in "'\""):
        return override
    if value == "~" or value.startswith("~/"):
        value = str(Path.home()) + value[1:]
    # inside quotes Hydra reads \' as a quote, a doubled backslash only before a quote; OmegaConf reads ${
    value = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    escaped = value.replace("${", "\\${")
    return f"{prefix}{key}='{escaped}'"


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
                f"cannot read {text!r} ({str(error).splitlines()[0]}); "
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
        except ImportError as error:
            raise UserError(
                f"plugins: cannot import {name!r} ({error}); install the package, or put its folder on PYTHONPATH"
            ) from None
        for parent in map(Path, getattr(module, "__path__", [])):
            if (parent / "configs").is_dir():
                folders.append(parent / "configs")
    return folders


def plugins_in(parsed: Sequence[Override]) -> list[str]:
    """Packages named by `plugins=[...]` on the command line."""
    for override in parsed:
        if override.key_or_group == "plugins":
            value = override.value()
            return [str(name) for name in (value if isinstance(value, list) else [value]) if name is not None]
    return []


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
    names = plugins_in(parsed)
    config = _compose(command, overrides, parsed, _folders(names, own_configs))
    more = [str(name) for name in config.get("plugins") or [] if name not in names]
    if more:  # named in the user's own config: their folders join the search
        config = _compose(command, overrides, parsed, _folders([*names, *more], own_configs))
    try:
        settings = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or ""
        raise UserError(f"{key}: {str(error).splitlines()[0]}; give {key}=VALUE") from None
    assert isinstance(settings, dict)
    return one_budget({str(key): value for key, value in settings.items()}, parsed)


def one_budget(settings: dict[str, Any], parsed: Sequence[Override]) -> dict[str, Any]:
    """A budget given on the command line takes the place of the one in the configs."""
    given = {override.key_or_group for override in parsed}
    budgets = {key.removeprefix("budget.") for key in given if key.startswith("budget.")}
    if "budget" in settings and any(settings["budget"].get(name) is not None for name in budgets):
        settings["budget"] |= {name: None for name in BUDGETS if name not in budgets}
    return settings


def search_path_override(folders: Sequence[Path]) -> list[str]:
    """Hydra's override that adds config folders to the search path."""
    listed = ",".join("'file://" + str(folder).replace("'", "\\'") + "'" for folder in folders)
    return [f"hydra.searchpath=[{listed}]"] if folders else []


def _folders(plugins: Sequence[str], own_configs: Path | None) -> list[Path]:
    if own_configs is not None and not own_configs.is_dir():
        raise UserError(f"--config-dir: there is no folder {own_configs}")
    return ([own_configs.resolve()] if own_configs else []) + load_plugins(plugins)


def _compose(command: str, overrides: Sequence[str], parsed: Sequence[Override], folders: Sequence[Path]) -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
        try:
            return compose(command, [*overrides, *search_path_override(folders)])
        except (HydraException, OmegaConfBaseException) as error:
            explain(command, parsed, [config_dir(), *folders])
            raise UserError(" ".join(str(error).split())) from None


def explain(command: str, parsed: Sequence[Override], folders: Sequence[Path]) -> None:
    """Raise a helpful UserError if an override names an unknown choice or option.

    Raises:
        UserError: with the nearest names.
    """
    known = set(options(command, folders))
    for override in parsed:
        name, value = override.key_or_group, override._value
        choices = group_choices(name, folders)
        if choices:
            if override.value_type not in (None, ValueType.ELEMENT) or value is None:
                continue
            for choice in value if isinstance(value, list) else [value]:
                if str(choice) not in choices:
                    raise UserError(f"{name}: got {str(choice)!r}; allowed are {', '.join(choices)}")
        elif override.is_add() or override.is_force_add() or name.startswith("hydra"):
            continue
        elif name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"unknown option {name!r}; {hint}darts {command} --help lists all of them")


def group_choices(group: str, folders: Sequence[Path]) -> list[str]:
    """Names of the YAML files of a group."""
    return sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})


def options(command: str, folders: Sequence[Path]) -> list[str]:
    """Every key that a command knows: of its primary config, and of all choices of its groups."""
    primary = yaml.safe_load((config_dir() / f"{command}.yaml").read_text(encoding="utf-8"))
    groups = [next(iter(entry)) for entry in primary.pop("defaults") if isinstance(entry, dict)]
    keys = _keys(primary, "")
    for group in groups:
        keys.append(group)
        for file in (file for folder in folders for file in sorted((folder / group).glob("*.yaml"))):
            text = file.read_text(encoding="utf-8")
            package = re.search(r"^#\s*@package\s+(\S+)", text, re.MULTILINE)
            if package is None or package[1] != "_global_":
                keys += _keys(yaml.safe_load(text) or {}, f"{package[1] if package else group}.")
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
