"""Files that were read before come from the cache: by what they hold, wherever they lie, and never half."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from darts.tasks.datasets import reading
from darts.tasks.datasets.reading import LINK, Decoded, read_images


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "darts" / "images"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were decoded, as they are."""
    seen: list[Path] = []
    real = reading.decode
    monkeypatch.setattr(reading, "decode", lambda path, size: (seen.append(path), real(path, size))[1])
    return seen


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A photo of noise, an animation, a broken file and a link to nowhere."""
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "a.png")
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue", "green")]
    frames[0].save(folder / "b.gif", save_all=True, append_images=frames[1:])
    (folder / "c.png").write_bytes(b"nothing")
    (folder / "d.png").symlink_to(folder / "gone.png")
    return sorted(folder.iterdir())


def assert_equal(one: Decoded, other: Decoded) -> None:
    assert torch.equal(one.images_NCHW, other.images_NCHW)
    assert torch.equal(one.sizes, other.sizes)
    assert (one.places, one.notes, one.bad) == (other.places, other.notes, other.bad)


def test_a_second_reading_is_the_first_without_decoding(cache: Path, decoded: list[Path], files: list[Path]) -> None:
    first = read_images(files, 8)
    assert (first.places, first.sizes.tolist()) == ([0, 1], [[60, 40], [20, 20]])
    assert first.images_NCHW.shape == (2, 3, 8, 8)
    assert first.notes == {1: "the first of 3 frames"}
    assert set(first.bad) == {2, 3}
    assert first.bad[3] == LINK
    count = len(decoded)
    assert count >= 3
    assert_equal(read_images(files, 8), first)
    assert len(decoded) == count
    assert len(list(cache.iterdir())) == 1


@pytest.mark.usefixtures("cache")
def test_large_files_are_read_by_several_threads_with_the_same_outcome(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()
    real = reading._decoded
    monkeypatch.setattr(reading, "_decoded", lambda *a: (threads.add(threading.current_thread().name), real(*a))[1])
    first = read_images(files, 8)
    assert threads == {threading.current_thread().name}
    monkeypatch.setattr(reading, "LARGE", 0)
    monkeypatch.setattr(reading, "VERSION", "another")  # as if it had not been kept
    assert_equal(read_images(files, 8), first)
    assert len(threads) > 1


def test_what_counts_is_content_not_place(cache: Path, decoded: list[Path], files: list[Path], tmp_path: Path) -> None:
    first = read_images(files, 8)
    count = len(decoded)
    moved = (tmp_path / "photos").rename(tmp_path / "elsewhere")
    assert_equal(read_images([moved / file.name for file in files], 8), first)
    assert len(decoded) == count


@pytest.mark.parametrize("change", [
    lambda files: (files, 16),
    lambda files: (files[::-1], 8),
    lambda files: (files[:1], 8),
    lambda files: (Image.new("RGB", (60, 40)).save(files[0]), (files, 8))[1],
])  # fmt: skip
def test_another_size_order_or_content_is_read_anew(
    cache: Path, decoded: list[Path], files: list[Path], change: Callable[[list[Path]], tuple[list[Path], int]]
) -> None:
    read_images(files, 8)
    decoded.clear()
    read_images(*change(files))
    assert decoded


@pytest.mark.parametrize("spoil", [
    lambda file: file.write_bytes(file.read_bytes()[:100]),
    lambda file: file.write_bytes(b""),
    lambda file: np.savez(file, images=np.zeros(3)),
    lambda file: np.savez(file, images=np.array([object()], dtype=object)),
])  # fmt: skip
def test_a_broken_entry_is_made_anew(
    cache: Path, decoded: list[Path], files: list[Path], spoil: Callable[[Path], object]
) -> None:
    first = read_images(files, 8)
    (entry,) = cache.iterdir()
    spoil(entry)
    decoded.clear()
    assert_equal(read_images(files, 8), first)
    assert decoded
    decoded.clear()
    assert_equal(read_images(files, 8), first)
    assert not decoded


def test_without_a_cache_files_are_read_all_the_same(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert read_images(files, 8).places == [0, 1]


def test_the_longest_unused_goes_where_it_becomes_too_much(
    cache: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries of 3 sizes; the first was read again after the second, so the second goes."""
    import os

    for time, size in enumerate((8, 9)):
        before = set(cache.iterdir()) if cache.exists() else set()
        read_images(files, size)
        (new,) = set(cache.iterdir()) - before
        os.utime(new, (time, time))
    first, second = sorted(cache.iterdir(), key=lambda file: file.stat().st_mtime)
    read_images(files, 8)
    assert first.stat().st_mtime > second.stat().st_mtime
    monkeypatch.setattr(reading, "KEPT", sum(file.stat().st_size for file in cache.iterdir()) + 400)
    read_images(files, 10)
    assert first.exists()
    assert not second.exists()
    assert len(list(cache.iterdir())) == 2


def test_no_files_are_no_images(cache: Path) -> None:
    assert read_images([], 8).images_NCHW.shape == (0, 3, 8, 8)
