"""The benchmark's official files, fabricated small: what is read out of them, and what is refused.

Real ones are a folder of 15,625 bz2 pickles and one pickle of 4.7 GB; the records made here have the same shape with
few epochs, and accuracies that tell where they stood.
"""

from __future__ import annotations

import bz2
import csv
import json
import os
import pickle
import subprocess
import sys
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from darts.oracle import nats, official
from darts.oracle.base import BENCHMARK, Column, Table, arranged
from darts.oracle.nats import NatsOracle, write_table
from darts.oracle.official import read_official
from darts.run.errors import UserError
from supernet.spaces.cells import CellSpace

Record = dict[str, Any]

# What the official runs were judged on, by the data set that they were trained on.
JUDGED = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("ori-test", "x-valid", "x-test"),
    "ImageNet16-120": ("ori-test", "x-valid", "x-test"),
}
SEEDS = {
    12: {"cifar10-valid": (111, 777), "cifar10": (111,), "cifar100": (111,), "ImageNet16-120": (111,)},
    200: {
        "cifar10-valid": (777, 888, 999),
        "cifar10": (777, 888, 999),
        "cifar100": (777, 888),
        "ImageNet16-120": (888, 999),
    },
}
# The table's columns and where they come from, by the specification.
ANSWERS = {
    ("cifar10", "valid"): ("cifar10-valid", "x-valid"),
    ("cifar10", "test"): ("cifar10", "ori-test"),
    ("cifar100", "valid"): ("cifar100", "x-valid"),
    ("cifar100", "test"): ("cifar100", "x-test"),
    ("imagenet16-120", "valid"): ("ImageNet16-120", "x-valid"),
    ("imagenet16-120", "test"): ("ImageNet16-120", "x-test"),
}

Accuracy = Callable[[int, str, str, int, int], float]


def telling(number: int, dataset: str, judged_on: str, seed: int, epoch: int) -> float:
    """Another number for each place in the files."""
    place = list(JUDGED).index(dataset) * 3 + ("x-valid", "x-test", "ori-test").index(judged_on)
    return (number + place / 16 + seed / 2**14 + epoch / 2**25) / 2


def expected(number: int, dataset: str, split: str, epochs: int) -> float:
    trained_on, judged_on = ANSWERS[dataset, split]
    seeds = SEEDS[epochs][trained_on]
    return sum(telling(number, trained_on, judged_on, seed, epochs - 1) for seed in seeds) / len(seeds)


def run_of(number: int, cell: str, dataset: str, seed: int, epochs: int, accuracy: Accuracy) -> Record:
    """What one training left behind: more keys than anybody needs."""
    kept = sorted({0, 11, epochs - 1})
    judged = {
        f"{name}@{epoch}": accuracy(number, dataset, name, seed, epoch) for name in JUDGED[dataset] for epoch in kept
    }
    return {
        "name": dataset,
        "net_state_dict": None,
        "train_acc1es": dict.fromkeys(kept, 100.0),
        "train_times": OrderedDict((epoch, 2.5) for epoch in kept),
        "arch_config": {"channel": 16, "num_cells": 5, "arch_str": cell, "class_num": 10},
        "params": np.float64(0.5),  # some numbers are numpy's in the real files
        "flop": 78.5,
        "seed": f"{seed:04d}",
        "epochs": epochs,
        "latency": [np.float64(0.014)],
        "eval_names": list(JUDGED[dataset]),
        "eval_acc1es": judged,
        "eval_losses": dict.fromkeys(judged, 1.0),
    }


def result_of(number: int, cell: str, epochs: int, accuracy: Accuracy) -> Record:
    """All trainings of one cell with one schedule."""
    seeds = SEEDS[epochs]
    return {
        "arch_index": number,
        "arch_str": cell,
        "all_results": {
            (dataset, seed): run_of(number, cell, dataset, seed, epochs, accuracy)
            for dataset in JUDGED
            for seed in seeds[dataset]
        },
        "dataset_seed": {dataset: list(seeds[dataset]) for dataset in JUDGED},
        "clear_net_done": True,
    }


def as_in_2020(content: bytes) -> bytes:
    """Newer numpys name their functions otherwise; protocols below 4 write names in clear text."""
    return content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def write_folder(path: Path, cells: Iterable[str], accuracy: Accuracy = telling) -> Path:
    """NATS-tss-v1_0-3ffb9-simple."""
    path.mkdir()
    cells = list(cells)
    meta = {"meta_archs": cells, "total_archs": len(cells), "arch2infos": None, "evaluated_indexes": set()}
    with bz2.open(path / "meta.pickle.pbz2", "wb") as stream:
        pickle.dump(meta, stream)
    for number, cell in enumerate(cells):
        record = OrderedDict(
            [("12", result_of(number, cell, 12, accuracy)), ("200", result_of(number, cell, 200, accuracy))]
        )
        content = as_in_2020(pickle.dumps(record, 3 + number % 2))
        (path / f"{number:06d}.pickle.pbz2").write_bytes(bz2.compress(content, 1))
    return path


def write_pth(path: Path, cells: Iterable[str], accuracy: Accuracy = telling, **spoilt: object) -> Path:
    """NAS-Bench-201-v1_1-096897.pth: torch.save as it was before torch 1.6."""
    cells = list(cells)
    content = {
        "meta_archs": cells,
        "total_archs": len(cells),
        "arch2infos": {
            number: {
                "full": result_of(number, cell, 200, accuracy),
                "less": result_of(number, cell, 12, accuracy),
            }
            for number, cell in enumerate(cells)
        },
        "evaluated_indexes": list(range(len(cells))),
        **spoilt,
    }
    torch.save(content, path, _use_new_zipfile_serialization=False)
    path.write_bytes(as_in_2020(path.read_bytes()))
    return path


WRITERS = {"folder": write_folder, "pth": write_pth}


SMALL, TINY = CellSpace(3), CellSpace(2)  # 125 and 5 cells


def stand_in(monkeypatch: pytest.MonkeyPatch, space: CellSpace) -> None:
    """A small space in place of the benchmark's, for both readers, which know no other."""
    for module in (official, nats):
        monkeypatch.setattr(module, "BENCHMARK", space)
        monkeypatch.setattr(module, "Table", partial(Table, space=space))
    monkeypatch.setattr(official, "arranged", partial(arranged, space=space))


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A space of 125 cells in place of the benchmark's, in the disorder of a benchmark."""
    stand_in(monkeypatch, SMALL)
    ordered = [str(cell) for cell in SMALL]
    return [ordered[number * 37 % 125] for number in range(125)]


@pytest.fixture
def few_cells(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A space of five cells."""
    stand_in(monkeypatch, TINY)
    return [str(cell) for cell in TINY]


def check_values(table: Table, cells: list[str]) -> None:
    assert set(table.columns) == {Column(*key, epochs) for key in ANSWERS for epochs in (12, 200)}
    for number, cell in enumerate(cells):
        genotype = SMALL.parse(cell)
        for column in table.columns:
            value = table.value(genotype, column.dataset, column.split, column.epochs)
            assert column.epochs is not None
            assert value == pytest.approx(expected(number, column.dataset, column.split, column.epochs), abs=1e-9)


@pytest.mark.parametrize("form", WRITERS)
def test_each_column_is_the_mean_over_seeds_of_its_own_set_after_the_last_epoch(
    cells: list[str], tmp_path: Path, form: str
) -> None:
    told: list[tuple[int, int]] = []
    table, index = read_official(WRITERS[form](tmp_path / "official", cells), lambda *now: told.append(now))
    check_values(table, cells)
    assert [index[SMALL.index(SMALL.parse(cell))] for cell in cells] == list(range(125))
    assert told == [(number, 125) for number in range(1, 126)]


def test_both_formats_give_the_same_table(cells: list[str], tmp_path: Path) -> None:
    (one, first), (other, second) = (read_official(write(tmp_path / form, cells)) for form, write in WRITERS.items())
    assert (first == second).all()
    assert one.columns.keys() == other.columns.keys()
    assert all((one.columns[column] == other.columns[column]).all() for column in one.columns)
    assert one.name != "" != other.name


def test_the_published_columns_never_mix(cells: list[str], tmp_path: Path) -> None:
    table, _ = read_official(write_folder(tmp_path / "official", cells))
    for number, column in enumerate(table.columns):
        for other in list(table.columns)[:number]:
            assert (table.columns[column] != table.columns[other]).all()


def test_a_converted_table_comes_back_as_it_was(cells: list[str], tmp_path: Path) -> None:
    table, index = read_official(write_folder(tmp_path / "official", cells))
    write_table(table, index, tmp_path / "ours.npz")
    back = NatsOracle(str(tmp_path / "ours.npz")).load(SMALL)
    assert (back.name, set(back.columns)) == (table.name, set(table.columns))
    check_values(back, cells)
    for number, cell in enumerate(cells):
        assert back.benchmark_index(SMALL.parse(cell)) == number
        assert back.rows(SMALL.parse(cell)) == table.rows(SMALL.parse(cell))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["ours.npz"]  # no temporary file stays


def test_a_new_table_takes_the_place_of_an_old_one_whole_or_not_at_all(
    few_cells: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, index = read_official(write_folder(tmp_path / "official", few_cells))
    ours = tmp_path / "ours.npz"
    write_table(table, index, ours)
    before = ours.read_bytes()

    def full(stream: Any, **_: object) -> None:
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space"):
        write_table(table, index, ours)
    assert ours.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["official", "ours.npz"]


# Memory


def peak_of(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_architectures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run_of

    def padded(*where: Any) -> Record:
        number, _, dataset, seed, epochs, _ = where
        run = plain(*where)
        run["eval_times"] = {f"{number} {dataset} {seed} {epochs} x-test@{epoch}": 0.5 + epoch for epoch in range(20)}
        run["train_losses"] = {epoch: [epoch / 7, number / 3] for epoch in range(20)}
        return run

    monkeypatch.setitem(result_of.__globals__, "run_of", padded)
    peaks = []
    for space in (CellSpace(2), CellSpace(3, CellSpace().operations[:3])):  # 5 and 27 cells
        stand_in(monkeypatch, space)
        path = write_pth(tmp_path / f"{space.size}.pth", [str(cell) for cell in space])
        peaks.append(peak_of(lambda path=path: read_official(path)))
    whole = peak_of(lambda: torch.load(path, weights_only=False))
    assert whole > 27 * 80_000
    assert peaks[1] - peaks[0] < 22 * 20_000  # a record is much larger; the real ones take 1.8 MB each


# Files that are not what they should be


class Runs:
    """Pickles as a call."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call, self.arguments


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("call", [os.system, eval])
def test_a_malicious_file_is_refused_and_not_executed(
    few_cells: list[str], tmp_path: Path, form: str, call: Callable[..., object]
) -> None:
    mark = tmp_path / "executed"
    harm = Runs(call, f"touch {mark}" if call is os.system else f"__import__('os').mkdir({str(mark)!r})")
    pickle.loads(pickle.dumps(harm))  # it does harm where it is believed
    mark.rename(tmp_path / "proof")

    def accuracy(number: int, *where: Any) -> Any:
        return harm if number == 3 else telling(number, *where)

    path = WRITERS[form](tmp_path / "official", few_cells, accuracy)
    with pytest.raises(UserError, match=r"import: .*official.*not allowed"):
        read_official(path)
    assert not mark.exists()


def test_the_head_of_a_pth_file_is_no_way_in(few_cells: list[str], tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    whole = write_pth(tmp_path / "whole.pth", few_cells).read_bytes()
    path = tmp_path / "official.pth"
    path.write_bytes(pickle.dumps(Runs(os.system, f"touch {mark}"), 2) + whole)
    with pytest.raises(UserError, match="not allowed"):
        read_official(path)
    write_pth(path, few_cells, aaa=1, arch2infos=Runs(os.system, f"touch {mark}"))
    with pytest.raises(UserError, match="not allowed"):
        read_official(path)
    assert not mark.exists()


def forged_scalar() -> bytes:
    """A numpy scalar of objects whose flags claim plain bytes, so that its bytes are taken for an address."""
    dtype = b"cnumpy\ndtype\nX\x02\x00\x00\x00O8\x89\x88\x87R"
    state = b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    address = b"c_codecs\nencode\nX\x08\x00\x00\x00AAAAAAAAX\x06\x00\x00\x00latin1\x86R"
    return b"\x80\x02cnumpy.core.multiarray\nscalar\n" + dtype + state + address + b"\x86R."


def test_a_forged_numpy_number_does_not_reach_memory(tmp_path: Path) -> None:
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    (tmp_path / "official.pth").write_bytes(head + forged_scalar())
    (tmp_path / "official").mkdir()
    (tmp_path / "official" / "000000.pickle.pbz2").write_bytes(bz2.compress(forged_scalar()))
    code = (
        "import sys, warnings; from pathlib import Path; from darts.run.errors import UserError\n"
        "from darts.oracle.official import read_official\n"
        "warnings.simplefilter('ignore')\n"
        "for name in sys.argv[1:]:\n"
        "    try: read_official(Path(name)); print('read')\n"
        "    except UserError: print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "official.pth", "official"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "refused\nrefused\n")  # a negative status is a crash


def cuts_of(content: bytes) -> Iterator[bytes]:
    """Every shorter file, densely around one place and thinly elsewhere."""
    middle = len(content) // 2
    yield from (content[:length] for length in range(0, len(content) - 200, len(content) // 60))
    yield from (content[:length] for length in range(middle, middle + 60))


def test_a_truncated_pth_file_is_named(few_cells: list[str], tmp_path: Path) -> None:
    content = write_pth(tmp_path / "whole.pth", few_cells).read_bytes()
    path = tmp_path / "official.pth"
    for cut in cuts_of(content):
        path.write_bytes(cut)
        with pytest.raises(UserError, match=r"import: .*official\.pth"):
            read_official(path)


def test_a_truncated_file_of_the_folder_is_named(few_cells: list[str], tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "official", few_cells)
    file = folder / "000003.pickle.pbz2"
    content = file.read_bytes()
    plain = bz2.decompress(content)
    for cut in (*list(cuts_of(content))[::3], *(bz2.compress(short, 1) for short in list(cuts_of(plain))[::3])):
        file.write_bytes(cut)
        with pytest.raises(UserError, match=r"import: .*official"):
            read_official(folder)
    file.unlink()
    with pytest.raises(UserError, match=r"import: .*" + few_cells[3].replace("|", r"\|")):
        read_official(folder)


def one_file(content: bytes) -> Callable[[Path, list[str]], Path]:
    def write(path: Path, cells: list[str]) -> Path:
        path.write_bytes(content)
        return path

    return write


def one_record(change: Callable[[Record], object]) -> Callable[[Path, list[str]], Path]:
    """The folder with one record changed."""

    def write(path: Path, cells: list[str]) -> Path:
        folder = write_folder(path, cells)
        record = OrderedDict(
            [("12", result_of(2, cells[2], 12, telling)), ("200", result_of(2, cells[2], 200, telling))]
        )
        record = change(record) or record
        (folder / "000002.pickle.pbz2").write_bytes(bz2.compress(pickle.dumps(record)))
        return folder

    return write


def zip_pth(path: Path, cells: list[str]) -> Path:
    torch.save({"meta_archs": cells, "arch2infos": {}}, path)
    return path


def weights(path: Path, cells: list[str]) -> Path:
    torch.save({"weight": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    return path


def empty_folder(path: Path, cells: list[str]) -> Path:
    path.mkdir()
    return path


FOREIGN: dict[str, Callable[[Path, list[str]], Path]] = {
    "nothing there": lambda path, cells: path,
    "empty folder": empty_folder,
    "empty file": one_file(b""),
    "text": one_file(b"index,cell\n0,|none~0|\n"),
    "picture": one_file(b"\x89PNG\r\n\x1a\n" + bytes(range(256))),
    "another pickle": one_file(pickle.dumps({"arch2infos": {}})),
    "torch's newer container": zip_pth,
    "weights of a network": weights,
    "no architectures": lambda path, cells: write_pth(path, []),
    "half of the architectures": lambda path, cells: write_pth(path, cells[:2]),
    "an architecture twice": lambda path, cells: write_pth(path, [*cells, cells[0]]),
    "cells of another space": lambda path, cells: write_pth(path, ["|none~0|+|none~0|none~1|"] * 5),
    "without a schedule": one_record(lambda record: record.pop("200") and None),  # as in NATS-sss
    "without a data set": one_record(lambda record: record["200"]["dataset_seed"].pop("cifar100") and None),
    "without a run": one_record(lambda record: record["12"]["all_results"].pop(("cifar10", 111)) and None),
    "without the last epoch": one_record(
        lambda record: record["200"]["all_results"]["cifar10", 888]["eval_acc1es"].pop("ori-test@199") and None
    ),
    "a list": one_record(lambda record: [1, 2, 3]),
    "nan for an accuracy": one_record(
        lambda record: record["12"]["all_results"]["cifar10", 111]["eval_acc1es"].update({"ori-test@11": float("nan")})
    ),
    "text for an accuracy": one_record(
        lambda record: record["12"]["all_results"]["cifar10", 111]["eval_acc1es"].update({"ori-test@11": "high"})
    ),
}


@pytest.mark.parametrize("write", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_is_named(
    few_cells: list[str], tmp_path: Path, write: Callable[[Path, list[str]], Path]
) -> None:
    with pytest.raises(UserError, match=r"import: .*official"):
        read_official(write(tmp_path / "official", few_cells))


# Our own converted file


@pytest.fixture
def converted(few_cells: list[str], tmp_path: Path) -> Path:
    values = np.arange(10.0).reshape(2, 5)
    columns = {Column("cifar10", "valid", 12): values[0], Column("cifar100", "test", 200): values[1]}
    write_table(Table("nats-bench-201", columns, space=TINY), np.array([3, 1, 4, 0, 2]), tmp_path / "table.npz")
    return tmp_path / "table.npz"


def test_a_converted_table_is_read_by_hand(converted: Path) -> None:
    table = NatsOracle(str(converted)).load(TINY)
    assert table.name == "nats-bench-201"
    for index, cell in enumerate(TINY):
        assert table.value(cell, "cifar10", "valid", 12) == index
        assert table.value(cell, "cifar100", "test", 200) == 5 + index
        assert table.benchmark_index(cell) == [3, 1, 4, 0, 2][index]


def archive(path: Path, **changed: object) -> None:
    arrays: dict[str, Any] = {
        "name": "nats-bench-201",
        "columns": np.array(["cifar10/valid/12"]),
        "values": np.full((1, 5), 50.0),
        "index": np.arange(5),
    }
    arrays |= changed
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


@pytest.mark.parametrize(
    "changed",
    [
        {"name": None},
        {"columns": None},
        {"values": None},
        {"index": None},
        {"columns": np.array(["cifar10/valid"])},
        {"columns": np.array(["cifar10/train/12"])},
        {"columns": np.array(["cifar10/valid/twelve"])},
        {"columns": np.array([12])},
        {"columns": np.array(["cifar10/valid/12", "cifar10/test/12"])},
        {"values": np.full((1, 4), 50.0)},
        {"values": np.full((), 50.0)},
        {"values": np.full((1, 5), np.nan)},
        {"values": np.array([["a"] * 5])},
        {"index": np.arange(4)},
        {"index": np.array(["a"] * 5)},
    ],
    ids=str,
)
def test_a_converted_table_with_something_wrong_is_named(
    few_cells: list[str], tmp_path: Path, changed: dict[str, object]
) -> None:
    path = tmp_path / "table.npz"
    archive(path)
    NatsOracle(str(path)).load(TINY)
    archive(path, **changed)
    with pytest.raises(UserError, match=r"oracle\.path: .*table\.npz.*darts query import=") as caught:
        NatsOracle(str(path)).load(TINY)
    assert "\n" not in str(caught.value)


def refusal(path: Path) -> str:
    """The message, or nothing: a flip in a time stamp, say, does no harm."""
    try:
        NatsOracle(str(path)).load(TINY)
    except UserError as error:
        return str(error)
    return ""


def test_a_damaged_or_foreign_file_is_no_converted_table(converted: Path, tmp_path: Path) -> None:
    content = converted.read_bytes()
    np.save(tmp_path / "array.npy", np.zeros(5))
    path = tmp_path / "broken.npz"
    foreign = (b"", b"cell,cifar10_test_12\n", (tmp_path / "array.npy").read_bytes(), bytes(300), b"PK\x03\x04")
    for damaged in (*foreign, *(content[:length] for length in range(0, len(content), 97))):
        path.write_bytes(damaged)
        assert refusal(path).startswith("oracle.path: ")
    messages = []
    for at in range(30, len(content), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
        messages.append(refusal(path))
    assert all(message.startswith("oracle.path: ") for message in messages if message)
    assert sum(map(bool, messages)) > len(messages) / 2


def test_a_pickle_inside_a_converted_table_is_not_executed(few_cells: list[str], tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    archive(tmp_path / "table.npz", name=np.array([Runs(os.system, f"touch {mark}")], dtype=object))
    with pytest.raises(UserError, match=r"oracle\.path"):
        NatsOracle(str(tmp_path / "table.npz")).load(TINY)
    assert not mark.exists()


def test_a_missing_converted_table_is_named_before_a_search_starts(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.npz", tmp_path):
        oracle = NatsOracle(str(path))
        for action in (oracle.check, partial(oracle.load, BENCHMARK)):
            with pytest.raises(UserError, match=r"oracle\.path: .*darts query import="):
                action()


# As a user does it


@pytest.mark.slow
def test_import_then_query_as_a_user_does(
    darts: Callable[..., subprocess.CompletedProcess[str]], table_path: Path, tmp_path: Path
) -> None:
    with table_path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = {("cifar10-valid", "x-valid"): "cifar10_valid", ("cifar10", "ori-test"): "cifar10_test"}

    def published(number: int, dataset: str, judged_on: str, seed: int, epoch: int) -> float:
        name = names.get((dataset, judged_on))
        return float(rows[number][f"{name}_{epoch + 1}"]) if name else float(judged_on == "x-test") + epoch / 10

    def slim(*where: Any) -> Record:
        *_, epochs, accuracy = where
        number, _, dataset, seed = where[:4]
        judged = {f"{name}@{epochs - 1}": accuracy(number, dataset, name, seed, epochs - 1) for name in JUDGED[dataset]}
        return {"epochs": epochs, "eval_acc1es": judged}

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(result_of.__globals__, "run_of", slim)
        for seeds in SEEDS.values():
            for dataset in seeds:
                patch.setitem(seeds, dataset, (777,))
        write_pth(tmp_path / "NAS-Bench-201-v1_1-096897.pth", [row["cell"] for row in rows], published, meta_archs=[])
    done = darts("query", "import=NAS-Bench-201-v1_1-096897.pth", "output=ours.npz")
    assert done.returncode == 0, done.stderr
    assert "ours.npz" in done.stdout
    assert (tmp_path / "ours.npz").stat().st_size < 3_000_000
    asked = [rows[number] for number in (0, 6111, 15_624)]
    done = darts("query", *(row["cell"] for row in asked), "oracle=nats", "oracle.path=ours.npz", "format=json")
    assert (done.returncode, done.stderr) == (0, "")
    for line, row in zip(done.stdout.splitlines(), asked, strict=True):
        answer = json.loads(line)
        assert answer["benchmark_index"] == int(row["index"])
        assert len(answer["accuracies"]) == 12
        for column in answer["accuracies"]:
            if column["dataset"] == "cifar10":
                name = f"cifar10_{column['split']}_{column['epochs']}"
                assert column["value"] == pytest.approx(float(row[name]))
                assert column["rank"] == 1 + sum(float(other[name]) > float(row[name]) for other in rows)
            else:
                assert column["value"] == pytest.approx((column["split"] == "test") + (column["epochs"] - 1) / 10)
