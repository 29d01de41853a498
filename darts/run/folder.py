"""The folder of a run: its name, its making, its config, and how to go on with it."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import yaml

from darts.run import ranks
from darts.run.errors import UserError, reason, understood
from darts.run.files import remove_begun, write_text
from darts.run.lock import holds, lock, release
from darts.run.schema import NO_UPGRADES, Upgrades, upgraded
from darts.run.typed import ESCAPED, MOST, check_plain, check_types

FOLDERS = ("checkpoints", "tensorboard", "figures")
SAFE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # builds plain values alone; in C ten times as fast
Result = TypeVar("Result")


def resuming(run_dir: Path, command: str, storage: str | None = None) -> str:
    """What to type, in any shell, to go on with a run; its database, if it has one, has to be given again."""
    return shlex.join(["darts", command, f"resume={run_dir}", *([f"storage={storage}"] if storage else [])])


def make_run_dir(path: Path, command: str, folders: Sequence[str] = FOLDERS) -> Path:
    """Create a run folder, and keep other processes out of it.

    Args:
        path: the folder.
        command: whose run it is.
        folders: names of the folders inside.

    Raises:
        UserError: it holds a run already, another process is making one there, or it cannot be written.
    """
    _check_no_run(path, command)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock(path, "run_dir")
        _check_no_run(path, command)  # it may have come meanwhile
        for name in folders:
            (path / name).mkdir(exist_ok=True)
        _try_out(path)
    except OSError as error:
        release(path)
        raise UserError(
            f"run_dir: cannot write to {path} ({error.strerror}); give a folder you may write to with run_dir=FOLDER"
        ) from None
    return path


def _check_no_run(path: Path, command: str) -> None:
    if (path / "config.yaml").exists() or (path / "result.json").exists():
        raise UserError(
            f"run_dir: {path} already holds a run; choose another folder, or go on: {resuming(path, command)}"
        )


def check_goes_on(path: Path, shared: bool = False) -> None:
    """Refuse to go on with a run in a folder that cannot be written, or in which it is under way; keep other processes
    out of it, unless several may work there.

    Raises:
        UserError: it cannot, or is, or a link leads out of it.
    """
    ranks.agreed(lambda: _check_goes_on(path, shared) if ranks.first() else None)


def check_links(path: Path, option: str = "resume") -> None:
    """Refuse a folder that is about to be written to, if a link leads out of it.

    Raises:
        UserError: one does.
    """
    for link in path.rglob("*"):
        if link.is_symlink() and not _is_inside(link, path):
            raise UserError(
                f"{option}: {link} is a link to {link.readlink()}, and a run writes inside its own folder alone; "
                "put back what belongs there"
            )


def _check_goes_on(path: Path, shared: bool) -> None:
    check_links(path)
    try:
        if not shared:
            lock(path, "resume")
        _try_out(path)
    except OSError as error:
        raise UserError(
            f"resume: cannot write to {path} ({error.strerror}); make room or get the right to, or go on with a copy "
            "of the folder"
        ) from None


def tidy(path: Path) -> None:
    """A run has ended: what processes that were killed had begun to write in its folder goes, and their lock; not where
    another process has come to it, or where it cannot be written."""
    with suppress(OSError, UserError):
        if not holds(path):
            lock(path, "resume")
        for folder in (path, *map(path.joinpath, FOLDERS)):
            remove_begun(folder)
        release(path)


def _is_inside(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links that lead to each other
        return False


def _try_out(path: Path) -> None:
    with tempfile.TemporaryFile(dir=path, buffering=0) as stream:
        stream.write(b"1")  # a full disk gives files, but no bytes


def begin(
    path: Path,
    command: str,
    settings: Mapping[str, Any],
    build: Callable[[], Result],
    folders: Sequence[str] = FOLDERS,
    shared: bool = False,
) -> Result:
    """Create a run folder, build what runs in it, and keep the settings there; where building fails, no folder stays.
    Other processes are kept out, where it is shared until the settings are there. Of several that share a run all
    build, and the first has the folder.

    Raises:
        UserError: the folder holds a run already, or cannot be written, or whatever `build` raises.
    """
    make = partial(_begin, path, command, settings, build, folders, shared)
    return ranks.agreed(make if ranks.first() else build, in_turn=True)


def _begin(
    path: Path,
    command: str,
    settings: Mapping[str, Any],
    build: Callable[[], Result],
    folders: Sequence[str],
    shared: bool,
) -> Result:
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    make_run_dir(path, command, folders)
    try:
        built = build()
    except BaseException:
        release(path)
        remove_empty(path)
        for folder in missing[1:]:  # made for it, from the inside out
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise
    write_config(settings, path)
    if shared:
        release(path)
    return built


def check_own(path: Path, command: str, needed: Collection[str]) -> None:
    """For a command that writes its answer anew in place of the last one: refuse another command's folder.

    Raises:
        UserError: it would be overwritten.
    """
    if (path / "config.yaml").exists():
        read_config(path, command, needed, "run_dir")


def make_figures_dir(path: Path) -> None:
    """Create a folder with one for figures, or find it.

    Raises:
        UserError: it cannot be written.
    """
    try:
        (path / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"run_dir: cannot write to {path} ({error.strerror}); give run_dir=FOLDER") from None


def read_config(folder: Path, command: str, needed: Collection[str], option: str = "resume") -> dict[str, Any]:
    """The settings of a run of a command. Nothing is fetched because a folder says so: a data set's files have to be
    there.

    Args:
        folder: of the run.
        command: that made it.
        needed: keys that its config holds at least.
        option: what the user gave, for messages.

    Raises:
        UserError: no run folder, or a config that cannot be read.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise UserError(
            f"{option}: {folder} is no run folder (it holds no config.yaml); give one that darts {command} made"
        )
    try:
        stored = yaml.load(file.read_text(encoding="utf-8"), SAFE)
        check_plain(stored, MOST)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{option}: {file} cannot be read ({reason(error)})") from None
    if not isinstance(stored, dict) or not set(needed) <= stored.keys():
        raise UserError(f"{option}: {file} is no config of darts {command}; give a folder that darts {command} made")
    dataset = stored.get("dataset")
    if isinstance(dataset, dict) and "download" in dataset:
        dataset["download"] = False
    return stored


def write_config(settings: Mapping[str, Any], folder: Path) -> None:
    """Keep the settings beside the result."""
    write_text(folder / "config.yaml", yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True))


def new_run_dir(command: str) -> Path:
    """outputs/COMMAND/DATE/TIME under the caller's folder, with a number behind it if that is taken."""
    now = datetime.now()
    base = Path("outputs") / command / now.strftime("%Y-%m-%d") / now.strftime("%H-%M-%S")
    folder, number = base, 2
    while folder.exists():
        folder, number = base.with_name(f"{base.name}-{number}"), number + 1
    return folder


def chosen_run_dir(given: str | None, command: str) -> Path:
    """The folder that was given, or a new one; the same for all processes of a run.

    Raises:
        UserError: an empty name.
    """
    if given == "":
        raise UserError(f"run_dir: got an empty name; give a folder, or leave it out for outputs/{command}/DATE/TIME")
    return ranks.from_first(new_run_dir(command) if given is None else Path(given))


def remove_empty(folder: Path) -> None:
    """Remove a run folder that never came to hold anything."""
    for path in (*sorted(folder.glob("*")), folder):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def read_result(
    path: Path, command: str, build: Callable[[dict[str, Any]], Result], upgrades: Upgrades = NO_UPGRADES
) -> Result:
    """Read a result.json.

    Args:
        path: the file.
        command: that made it, for messages.
        build: from its content to a result.
        upgrades: from what earlier versions wrote.

    Raises:
        UserError: no such file, or no result of that command and schema.
    """
    if not path.is_file():
        hint = resuming(path.parent, command)
        raise UserError(f"run: {path.parent} holds no result.json; finish it with: {hint}")
    with understood(path, command):
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
        if ESCAPED.search(text):  # looking at the text is ten times as fast
            check_plain(content)
        result = build(upgraded(content, path, "run", upgrades))
        check_types(result, type(result))
        return result
