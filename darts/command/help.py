"""The options of a command, read from its YAML files: for --help and for shell completion."""

from __future__ import annotations

import re
from collections.abc import Sequence

import yaml

from darts.command.base import Command, commands, named_plugins
from darts.command.config import defaults_of, group_choices, load_plugins, options, primary_file
from darts.run.files import config_dir


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
        lines.append("\nA choice's own keys are set the same way, such as weight_step.lr=0.05:")
    for group, default in groups.items():
        file = config_dir() / group / f"{default}.yaml"
        if isinstance(default, str) and file.is_file():
            keys = {key: value for key, value in yaml.safe_load(file.read_text("utf-8")).items() if key[0] != "_"}
            lines += [f"  {group}.{key}={_plain(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


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
