"""Which folders are compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from darts.run.errors import UserError


def run_folders(given: Sequence[str], command: str = "compare") -> list[Path]:
    """Folders of runs; a folder of runs, as a sweep leaves it, stands for all of them.

    Args:
        given: folders.
        command: that asks, for messages.

    Raises:
        UserError: no folder, or none that holds a result.
    """
    if not given:
        raise UserError(f"darts {command} needs run folders: darts {command} RUN_DIR RUN_DIR ...")
    found: list[Path] = []
    for name in given:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise UserError(f"{name}: there is no such folder; give folders of finished runs")
        inside = (
            [folder] if (folder / "result.json").is_file() else sorted(f.parent for f in folder.glob("*/result.json"))
        )
        if not inside:
            unfinished = (folder / "config.yaml").is_file()
            raise UserError(
                f"{name}: it holds no result.json; "
                + ("its run is not finished, go on with resume=" if unfinished else "give a folder of a finished run")
            )
        found += inside
    return list(dict.fromkeys(path.resolve() for path in found))
