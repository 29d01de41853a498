"""Reads the official files of NAS-Bench-201 one architecture at a time, building nothing but plain data.

Two formats hold the same records. ``NATS-tss-v1_0-3ffb9-simple`` is a folder with one bz2 pickle an
architecture. ``NAS-Bench-201-v1_1-096897.pth`` is one pickle of 4.7 GB in torch's old container; loaded whole
it takes some 28 GB of memory, so its records are taken out while it is being read and then forgotten.

A record is {'12' or 'less': result, '200' or 'full': result}; a result holds `arch_index`, `arch_str`,
`dataset_seed` {dataset: seeds} and `all_results` {(dataset, seed): run}; a run holds `epochs` and
`eval_acc1es` {'SET@EPOCH': accuracy}, epochs counted from 0.
"""

from __future__ import annotations

import bz2
import collections
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from darts.oracle.base import BENCHMARK, Column, Table, arranged
from darts.run.errors import UserError

Progress = Callable[[int, int], None]

SOURCES = {
    # column: (dataset of the run, set it is judged on)
    ("cifar10", "valid"): ("cifar10-valid", "x-valid"),  # trained on half of the training images
    ("cifar10", "test"): ("cifar10", "ori-test"),  # trained on all of them
    ("cifar100", "valid"): ("cifar100", "x-valid"),
    ("cifar100", "test"): ("cifar100", "x-test"),
    ("imagenet16-120", "valid"): ("ImageNet16-120", "x-valid"),
    ("imagenet16-120", "test"): ("ImageNet16-120", "x-test"),
}
SCHEDULES = {12: ("12", "less"), 200: ("200", "full")}


class _DType:
    """Stands in for numpy.dtype: a plain number type and its byte order."""

    def __init__(self, code: str, *flags: Any) -> None:
        if code not in ("f8", "f4", "i8", "i4"):
            raise pickle.UnpicklingError(f"it asks for numbers of type {code!r}, which is not allowed")
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"


def _scalar(dtype: _DType, data: bytes) -> float:
    """Stands in for numpy's scalar: one number from its bytes (numpy's own would follow forged pointers)."""
    if not isinstance(dtype, _DType) or not isinstance(data, bytes):
        raise pickle.UnpicklingError("it holds a number that is none")
    return float(np.frombuffer(data, np.dtype(dtype.order + dtype.code))[0])


ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}


def _codecs_encode(text: str, encoding: str) -> bytes:
    """What protocol 2 calls to rebuild bytes; only the one encoding it uses."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}, which is not allowed")
    return text.encode("latin1")


def _find_class(module: str, name: str) -> Any:
    if (module, name) == ("_codecs", "encode"):
        return _codecs_encode
    if (module, name) not in ALLOWED:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not allowed")
    return ALLOWED[module, name]


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _find_class(module, name)


_PurePython: Any = pickle._Unpickler  # type: ignore[attr-defined]  # the C one cannot be watched while it reads


class _Streaming(_PurePython):  # type: ignore[misc]
    """Hands over each architecture's record as soon as it is complete, then empties it and forgets its parts."""

    memo: dict[int, Any]

    def __init__(self, stream: IO[bytes], take: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(stream)
        self.take = take

    def find_class(self, module: str, name: str) -> Any:
        return _find_class(module, name)

    def load_setitems(self) -> None:
        super().load_setitems()
        record = self.stack[-1]
        if isinstance(record, dict) and record.keys() == {"full", "less"}:
            self.take(record)
            record.clear()
            # records share short names, classes and number types; the rest would only fill the memory
            self.memo = {
                place: value
                for place, value in self.memo.items()
                if not isinstance(value, dict | list | tuple | bytes | float)
                and not (isinstance(value, str) and "@" in value)
            }

    dispatch = {**_PurePython.dispatch, pickle.SETITEMS[0]: load_setitems}


def read_official(path: Path, progress: Progress = lambda done, total: None) -> tuple[Table, np.ndarray]:
    """Read either official format; returns the table and the benchmark's numbers by computed index.

    Accuracies are means over all seeds that were run.

    Args:
        path: the folder, or the .pth file.
        progress: told (architectures read, architectures in all).

    Raises:
        UserError: neither format, a broken file, or a missing architecture.
    """
    cells: list[str] = []
    numbers: list[int] = []
    columns = [Column(*key, epochs) for key in SOURCES for epochs in SCHEDULES]
    values: dict[str, list[float]] = {str(column): [] for column in columns}
    total = BENCHMARK.size

    def take(record: dict[str, Any]) -> None:
        for column in columns:
            values[str(column)].append(_accuracy(record, column))
        result = next(iter(record.values()))
        cells.append(result["arch_str"])
        numbers.append(int(result["arch_index"]))
        progress(len(cells), total)

    try:
        if path.is_dir():
            for record in _folder_records(path):
                take(record)
            name = "nats-bench-201"
        elif path.is_file():
            _stream_records(path, take)
            name = "nas-bench-201"
        else:
            raise UserError(f"import: there is no file or folder {path}")
        ordered = arranged(cells, {**values, "index": numbers})
        index = ordered.pop("index").astype(np.int64)
        return Table(name, {column: ordered[str(column)] for column in columns}, index), index
    except (
        pickle.UnpicklingError, struct.error, EOFError, OSError, LookupError, TypeError, ValueError, AttributeError,
        OverflowError, MemoryError, RecursionError,
    ) as error:  # fmt: skip
        raise UserError(
            f"import: {path} is neither NATS-tss-v1_0-3ffb9-simple nor NAS-Bench-201-v1_1-096897.pth: "
            f"{type(error).__name__}: {error}"
        ) from None


def _folder_records(folder: Path) -> Iterator[dict[str, Any]]:
    files = sorted(file for file in folder.glob("*.pickle.pbz2") if not file.name.startswith("meta"))
    if not files:
        raise ValueError("it holds no files NNNNNN.pickle.pbz2")
    for file in files:
        with bz2.open(file) as stream:
            yield _Restricted(stream).load()


def _stream_records(file: Path, take: Callable[[dict[str, Any]], None]) -> None:
    with file.open("rb") as stream:
        if _Streaming(stream, take).load() != 0x1950A86A20F9469CFC6C:  # torch's magic number
            raise ValueError("it is no file of torch.save in the format of 2020")
        for _ in ("protocol version", "machine"):
            _Streaming(stream, take).load()
        _Streaming(stream, take).load()


def _accuracy(record: dict[str, Any], column: Column) -> float:
    """Mean over seeds of the accuracy (%) after the last epoch of a schedule."""
    assert column.epochs is not None
    dataset, judged_on = SOURCES[column.dataset, column.split]
    schedule = next((record[key] for key in SCHEDULES[column.epochs] if key in record), None)
    if schedule is None:
        raise ValueError(f"a record lacks the schedule of {column.epochs} epochs")
    runs = [schedule["all_results"][dataset, seed] for seed in schedule["dataset_seed"][dataset]]
    return float(np.mean([run["eval_acc1es"][f"{judged_on}@{run['epochs'] - 1}"] for run in runs]))
