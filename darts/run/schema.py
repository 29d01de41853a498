"""The version of what run folders hold: files of earlier ones are read as if this one had written them, those of later
ones are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from darts.run.errors import UserError, reason

VERSION = 2
"""1: the program's version 0.1. 2: checkpoints keep the settings and data that they belong to, phases, and all
generators; results say what they are judged by."""

Upgrades = Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]]
"""By version, from its content to that of the next one; where there is none, nothing has changed."""


NO_UPGRADES: Upgrades = MappingProxyType({})


def upgraded(content: Mapping[str, Any], file: Path, option: str, upgrades: Upgrades) -> dict[str, Any]:
    """The content of a file as this version would have written it.

    Args:
        content: of the file.
        file: for messages.
        option: what the user gave, for messages.
        upgrades: of this kind of file.

    Raises:
        UserError: the file is of a later version, of none, or not what it says.
    """
    version = content.get("schema_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise UserError(
            f"{option}: {file} has schema_version {version!r}; this program writes {VERSION}, none like that"
        )
    if version > VERSION:
        raise UserError(
            f"{option}: {file} has schema_version {version}, this program reads 1 to {VERSION}; a newer one wrote it: "
            "pip install --upgrade darts-supernet"
        )
    found = dict(content)
    try:
        for earlier in range(version, VERSION):
            found = upgrades.get(earlier, dict)(found)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{option}: {file} has schema_version {version}, but not what that has ({reason(error)}); put back an "
            "intact copy, or start anew"
        ) from None
    return found | {"schema_version": VERSION}
