"""The options of a command, read from its YAML files: for --help and for shell completion."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from darts.command.base import Command, commands, named_plugins
from darts.command.config import defaults_of, group_choices, load_plugins, options, primary_file
from darts.run.files import config_dir

WIDTH = 120


def command_help(command: Command, plugins: Sequence[str] = ()) -> str:
    """Usage, choices of every group with their first comment line, and all keys with their defaults."""
    folders, name = [config_dir(), *load_plugins(plugins)], command.name
    text = primary_file(name, folders).read_text(encoding="utf-8")
    primary = yaml.safe_load(text)
    groups = defaults_of(primary)
    lines = [command.usage]
    if groups:
        lines.append("choices (GROUP=NAME; several at once: GROUP=[A,B]):")
    for group, default in groups.items():
        for file in group_choices(group, folders, name).values():
            chosen = file.stem in (default if isinstance(default, list) else [default])
            choice = f"{group}={file.stem}"
            lines.append(f"  {choice:<28}{'*' if chosen else ' '} {_summary(file.read_text('utf-8'))}")
    if groups:
        lines += ["  (* default)", ""]
    body = text[text.index("\n\n", text.index("defaults:")) :].strip("\n")
    lines.append("keys (KEY=VALUE; nested ones with dots):")
    lines += [f"  {line}" for line in body.splitlines() if line.strip()]
    if groups:
        lines.append("\nkeys of choices, with the choices that have them:")
    for group in groups:
        for (key, value), names in _keys_of_choices(group, group_choices(group, folders, name)).items():
            lines += textwrap.wrap(
                f"{f'{key}={value}':<44}  {', '.join(names)}", WIDTH, initial_indent="  ", subsequent_indent=" " * 8
            )
    return "\n".join(lines) + "\n"


def _keys_of_choices(group: str, files: Mapping[str, Path]) -> dict[tuple[str, str], list[str]]:
    """Keys that choosing a file adds, with their defaults, to the names of the choices."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, file in files.items():
        text = file.read_text(encoding="utf-8")
        package = re.search(r"^#\s*@package\s+(\S+)", text, re.MULTILINE)
        if package is not None and package[1] == "_global_":  # settings of others
            continue
        for key, value in (yaml.safe_load(text) or {}).items():
            if key[0] != "_" and key != "defaults":
                found.setdefault((f"{package[1] if package else group}.{key}", _plain(value)), []).append(name)
    return found


def complete(words: list[str], cursor: int) -> list[str]:
    """Words that can stand at position `cursor` of a command line."""
    word = words[cursor] if cursor < len(words) else ""
    known = commands(named_plugins(words))
    if cursor <= 1:
        return [name for name in known if name.startswith(word)]
    name = words[1] if len(words) > 1 else ""
    if name not in known or not known[name].settings:
        return []
    folders = [config_dir(), *load_plugins(named_plugins(words))]
    group, equals, start = word.partition("=")
    if equals:
        return [f"{group}={choice}" for choice in group_choices(group, folders, name) if choice.startswith(start)]
    return [f"{key}=" for key in options(name, folders) if key.startswith(word)]


def _summary(text: str) -> str:
    comments = re.findall(r"^# (?!@package)(.+)$", text, re.MULTILINE)
    return comments[0] if comments else ""


def _plain(value: object) -> str:
    if isinstance(value, list):
        return "[" + ",".join(map(str, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
