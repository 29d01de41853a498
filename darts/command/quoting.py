"""Words of a command line: which are settings, and how paths and cells are said to Hydra."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

TEXT_KEYS = {"cell", "run", "init", "resume", "run_dir", "model", "output", "import"}
KEY = re.compile(r"([+~]{0,2})([A-Za-z_][\w./@:]*)=(.*)", re.DOTALL)


def split_words(words: Sequence[str], paths: bool = False) -> tuple[list[str], list[str]]:
    """Positional words and overrides; `~key` deletes a key, as in Hydra. With `paths`, a word that is the name of a
    file or folder is positional even with a = in it, as folders of sweeps have.
    """
    positional: list[str] = []
    overrides: list[str] = []
    for word in words:
        is_override = KEY.fullmatch(word) or re.fullmatch(r"~[\w./@:]+", word)
        if paths and Path(word).exists():
            is_override = None
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
    return f"{prefix}{key}={in_quotes(value)}"


def in_quotes(text: str) -> str:
    """The text as Hydra reads it back."""
    # OmegaConf reads ${ unless a backslash stands before it, Hydra ' likewise; elsewhere a backslash is itself
    text = re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + "\\${", text)
    return "'" + re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text) + "'"
