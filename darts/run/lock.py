"""One process at a time in a run folder.

The lock is the operating system's (a POSIX record lock on a file in the folder): it ends with the process, however that
ends, forked workers do not keep it, and it travels with no copy of the folder. On NFS it holds between machines where
the server's lock service runs; on file systems without locks, and on Windows, there is none.
"""

from __future__ import annotations

import errno
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

from darts.run.errors import UserError

NAME = ".lock"
WITHOUT = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_held: dict[Path, int] = {}  # folder to open file; closing it is what ends the lock


def lock(folder: Path, option: str) -> None:
    """Keep other processes out of a folder until `release`, or until this process ends.

    Args:
        folder: of a run; it is there.
        option: what the user gave, for the message.

    Raises:
        UserError: a run is under way in it.
        OSError: it cannot be written.
    """
    if sys.platform == "win32":
        return
    import fcntl

    folder = folder.resolve()
    if folder in _held:
        raise in_use(folder, option, "this process")
    file = folder / NAME  # in a stranger's folder it may be a link, which is not followed
    while True:
        opened = os.open(
            file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
        )  # folders may be strangers'
        try:
            fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in WITHOUT:
                os.close(opened)
                return
            holder = os.read(opened, 200).decode("utf-8", "replace").strip()
            os.close(opened)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise in_use(folder, option, holder or "another process") from None
            raise
        if file.exists() and os.path.samestat(os.fstat(opened), file.stat()):
            break
        os.close(opened)  # its folder was given up meanwhile
    _held[folder] = opened
    with suppress(OSError):  # a full disk: the lock holds without words
        os.ftruncate(opened, 0)
        os.write(opened, f"process {os.getpid()} on {platform.node()}\n".encode())


def holds(folder: Path) -> bool:
    """Whether this process keeps others out of it."""
    return folder.resolve() in _held


def in_use(folder: Path, option: str, holder: str) -> UserError:
    """What to say of a folder in which a run is under way."""
    return UserError(f"{option}: {folder} is in use by {holder}; wait until it ends, stop it, or choose another folder")


def release(folder: Path | None = None) -> None:
    """End the lock of a folder, or all that this process has; their files go."""
    for held in list(_held) if folder is None else [folder.resolve()]:
        if (opened := _held.pop(held, None)) is not None:
            with suppress(OSError):  # it cannot be written any more
                (held / NAME).unlink(missing_ok=True)
            os.close(opened)
