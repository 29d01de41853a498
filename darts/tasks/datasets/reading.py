"""Many files to images: large ones several at a time, with a word on how far it is, and kept by content in the user's
cache.

Shape suffixes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from darts.run.files import is_special, replacing
from darts.run.quiet import quiet
from darts.run.watching import watched
from darts.tasks.datasets.decoding import BadImage, decode
from supernet.user_cache import user_cache

VERSION = "1"  # of what `decode` makes of a file; another one makes all anew
KEPT = 4 * 2**30  # bytes in the cache, beyond which the longest unused goes
LARGE = 2**15  # bytes of a file, below which threads take longer over Python's lock than they save
LINK = "a link to nowhere"


@dataclass
class Decoded:
    """What became of files, in their order.

    Attributes:
        images_NCHW: of those that are images.
        places: which of the files those are.
        sizes: width and height of each before it was resized, (N, 2).
        notes, bad: by place, what was left out of an image, and why a file is none.
    """

    images_NCHW: Tensor
    places: list[int]
    sizes: Tensor
    notes: dict[int, str] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)


def read_images(files: Sequence[Path], size: int) -> Decoded:
    """Every file as an image of `size` x `size`, from the cache if these files were read before, wherever they lay."""
    with mapping(files) as mapped:
        digests = list(watched(mapped(_digest, files), len(files), "looking at images"))
        key = hashlib.sha256("\n".join([VERSION, str(size), *digests]).encode()).hexdigest()[:32]
        if (found := _kept(key)) is not None:
            return found
        with quiet("PIL"):  # about odd metadata
            each = watched(mapped(lambda file: _decoded(file, size), files), len(files), "reading images")
            pictures, read = [], Decoded(torch.empty(0), [], torch.empty(0))
            sizes = []
            for place, one in enumerate(each):
                if isinstance(one, str):
                    read.bad[place] = one
                    continue
                picture_CHW, note, before = one
                pictures.append(picture_CHW)
                sizes.append(before)
                read.places.append(place)
                if note:
                    read.notes[place] = note
    read.images_NCHW = torch.stack(pictures) if pictures else torch.empty(0, 3, size, size, dtype=torch.uint8)
    read.sizes = torch.tensor(sizes).reshape(-1, 2)
    _keep(key, read)
    return read


@contextmanager
def mapping(files: Sequence[Path]) -> Iterator[Callable[..., Iterator[Any]]]:
    """A `map` that works on several files at a time where they are large; Pillow and hashes let other threads run, so
    processes are no faster."""
    if sum(map(_bytes_of, files)) < LARGE * len(files):
        yield map
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield pool.map


def _bytes_of(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _digest(file: Path) -> str:
    """Of the content, or what is in its place."""
    if is_special(file):
        return "special"
    try:
        return hashlib.blake2b(file.read_bytes()).hexdigest()
    except OSError as error:
        return LINK if file.is_symlink() else str(error.strerror)


def _decoded(file: Path, size: int) -> tuple[Tensor, str, tuple[int, int]] | str:
    """Pixels, a note and the size before; or what is wrong."""
    if file.is_symlink() and not file.exists():
        return LINK
    try:
        return decode(file, size)
    except BadImage as problem:
        return str(problem)


def _kept(key: str) -> Decoded | None:
    """What is in the cache by that name; None if nothing whole is."""
    try:
        path = user_cache() / "images" / f"{key}.npz"
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            texts = json.loads(str(content["texts"]))
            notes, bad = ({int(place): text for place, text in texts[name].items()} for name in ("notes", "bad"))
            read = Decoded(
                torch.from_numpy(content["images"]), content["places"].tolist(), torch.from_numpy(content["sizes"]),
                notes, bad,
            )  # fmt: skip
        os.utime(path)  # it is in use
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return read


def _keep(key: str, read: Decoded) -> None:
    """Into the cache, if there is room for one."""
    texts = json.dumps({"notes": read.notes, "bad": read.bad})
    try:
        folder = user_cache() / "images"
        folder.mkdir(exist_ok=True)
        with replacing(folder / f"{key}.npz") as temporary, temporary.open("wb") as stream:
            np.savez(
                stream, images=read.images_NCHW.numpy(), places=np.array(read.places, dtype=np.int64),
                sizes=read.sizes.numpy(), texts=np.array(texts),
            )  # fmt: skip
        files = sorted(folder.glob("*.npz"), key=lambda file: -file.stat().st_mtime)
        total = 0
        for file in files:
            total += file.stat().st_size
            if total > KEPT:
                file.unlink(missing_ok=True)
    except OSError:
        pass  # the next run reads the files again
