"""Tables of known accuracies: the table itself, and the csv, analog, auto and none oracles."""

from __future__ import annotations

import csv
import importlib.util
import itertools
import os
import pickle
import random
import subprocess
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import darts.oracle.analog
import darts.oracle.auto
from darts.oracle.analog import AnalogOracle
from darts.oracle.auto import AutoOracle
from darts.oracle.base import BENCHMARK, Column, Table
from darts.oracle.csv import CsvOracle
from darts.oracle.nats import NatsOracle
from darts.oracle.none import NoOracle
from darts.run.errors import UserError
from supernet.genotype import Genotype
from supernet.size import NetworkSize
from supernet.spaces.cells import CellSpace

# Written down from the specification, not taken from the code.
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
ANALOG_CODES = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
COLUMNS = [("cifar10", split, epochs) for split in ("valid", "test") for epochs in (12, 200)]
ALL_CELLS = [
    f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|" for a, b, c, d, e, f in itertools.product(OPERATIONS, repeat=6)
]


@pytest.fixture(scope="module")
def table(table_path: Path) -> Table:
    return CsvOracle(str(table_path)).load(BENCHMARK)


SMALL = CellSpace(3)  # a table of 125 rows can be written by hand


def small_rows() -> list[dict[str, str]]:
    """A table in the format of the published one, with accuracies that tell row and column."""
    cells = [f"|{a}~0|+|{b}~0|{c}~1|" for a, b, c in itertools.product(OPERATIONS, repeat=3)]
    random.Random(0).shuffle(cells)
    return [
        {
            "index": str(1000 + number),
            "cell": cell,
            "topology": "left alone",
            "cifar10_valid_12": f"{number / 10:.1f}",
            "imagenet16-120_test_200": f"{50 + number / 10:.1f}",
        }
        for number, cell in enumerate(cells)
    ]


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(path: Path) -> Table:
    table = CsvOracle(str(path)).load(SMALL)
    assert table is not None
    return table


# The table itself


def toy(values: list[float], space: CellSpace) -> Table:
    return Table("toy", {Column("cifar100", "valid", 12): np.array(values)}, space=space)


def test_ranks_count_the_better_cells_and_ties_share_one() -> None:
    table = toy([3.0, 5.0, 5.0, 1.0, 3.0], CellSpace(2))
    assert [table.rank(cell, "cifar100", "valid", 12) for cell in CellSpace(2)] == [3, 1, 1, 5, 3]


def test_ranks_equal_brute_force_with_many_ties() -> None:
    values = [float(random.Random(seed).randrange(20)) for seed in range(125)]
    table = toy(values, SMALL)
    ranks = [table.rank(cell, "cifar100", "valid", 12) for cell in SMALL]
    assert ranks == [1 + sum(other > value for other in values) for value in values]
    assert len(set(ranks)) <= 20


def test_rows_tell_every_column_with_value_and_rank() -> None:
    counting = np.arange(125.0)
    columns = {
        Column("imagenet16-120", "valid", 200): counting,
        Column("cifar10", "test", None): 200 - counting,
        Column("cifar10", "valid", 200): counting % 2,
    }
    table = Table("toy", columns, counting.astype(np.int64)[::-1], SMALL)
    cell = SMALL.genotype(30)
    rows = table.rows(cell)
    assert sorted(rows, key=str) == sorted(
        [
            {"dataset": "cifar10", "split": "test", "epochs": None, "value": 170.0, "rank": 31},
            {"dataset": "cifar10", "split": "valid", "epochs": 200, "value": 0.0, "rank": 63},
            {"dataset": "imagenet16-120", "split": "valid", "epochs": 200, "value": 30.0, "rank": 95},
        ],
        key=str,
    )
    assert all(type(row["value"]) is float and type(row["rank"]) is int for row in rows)
    assert table.benchmark_index(cell) == 94


def test_cells_about_as_dear_are_those_of_nearest_cost() -> None:
    """Against a list that is sorted whole, where many cells have the same cost."""
    values = np.random.default_rng(0).permutation(125) / 2
    table, size = toy(values, SMALL), NetworkSize()
    costs = {cell: SMALL.cost(cell, size).flops for cell in SMALL}
    for place in (0, 30, 124):
        own = SMALL.genotype(place)
        away = sorted(abs(costs[cell] - costs[own]) for cell in SMALL if cell != own)
        near = [cell for cell in SMALL if cell != own and abs(costs[cell] - costs[own]) <= away[99]]
        number, (row,) = table.among_alike(own)
        assert number == len(near) >= 100
        assert row["better_than"] == sum(values[SMALL.index(cell)] < values[place] for cell in near)
        assert {name: row[name] for name in row if name != "better_than"} == table.rows(own)[0]


@pytest.mark.parametrize("values", [np.zeros(124), np.zeros((125, 1)), np.full(125, np.nan)])
def test_a_table_refuses_arrays_that_do_not_hold_a_number_for_each_cell(values: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match=r"toy.*125"):
        Table("toy", {Column("cifar10", "test", 12): values}, space=SMALL)


@pytest.mark.parametrize(
    "key",
    [
        ("cifar10", "train", 200),
        ("cifar10", "x-valid", 200),
        ("cifar10", "Test", 200),
        ("cifar10", "", 200),
        ("CIFAR10", "test", 200),
        ("cifar10-valid", "valid", 200),
        ("mnist", "test", 200),
        ("cifar100", "test", 200),
        ("imagenet16-120", "valid", 12),
        ("cifar10", "test", 199),
        ("cifar10", "test", 0),
        ("cifar10", "test", None),
        ("cifar10", "valid", None),
    ],
)
def test_unknown_keys_raise(table: Table, key: tuple[str, str, int | None]) -> None:
    cell = Genotype.parse(ALL_CELLS[7])
    for question in (table.value, table.rank):
        with pytest.raises((KeyError, ValueError)):
            question(cell, *key)


@pytest.mark.parametrize(
    "operations",
    [
        ("none", "none", "none"),
        ("none",) * 10,
        ("nor_conv_3x3", "none", "none", "none", "none", "sep_conv_3x3"),
        ("nor_conv_3x3", "none", "none", "none", "none", "NONE"),
    ],
)
def test_unknown_cells_raise(table: Table, operations: tuple[str, ...]) -> None:
    stranger = Genotype(operations)
    for question in (
        lambda: table.value(stranger, "cifar10", "test", 200),
        lambda: table.rank(stranger, "cifar10", "test", 200),
        lambda: table.benchmark_index(stranger),
        lambda: table.rows(stranger),
    ):
        with pytest.raises((KeyError, ValueError)):
            question()


# csv


def test_the_published_table_reads_as_it_is_written(table: Table, table_rows: list[dict[str, str]]) -> None:
    assert len({row["cell"] for row in table_rows} & set(ALL_CELLS)) == len(table_rows) == 15_625
    assert table.name == "nb201-cifar10"
    assert set(table.columns) == {Column(*key) for key in COLUMNS}
    for row in table_rows[::7]:  # the columns as arrays are compared whole below
        genotype = Genotype.parse(row["cell"])
        for dataset, split, epochs in COLUMNS:
            assert table.value(genotype, dataset, split, epochs) == float(row[f"{dataset}_{split}_{epochs}"])
        assert table.benchmark_index(genotype) == int(row["index"])


def test_the_columns_lie_in_order_of_the_computed_index(table: Table, table_rows: list[dict[str, str]]) -> None:
    by_cell = {row["cell"]: row for row in table_rows}
    for dataset, split, epochs in COLUMNS:
        expected = [float(by_cell[cell][f"{dataset}_{split}_{epochs}"]) for cell in ALL_CELLS]
        assert table.columns[Column(dataset, split, epochs)].tolist() == expected


def test_validation_and_test_are_different_columns(table: Table) -> None:
    for epochs in (12, 200):
        pairs = [
            tuple(table.value(Genotype.parse(cell), "cifar10", split, epochs) for split in ("valid", "test"))
            for cell in ALL_CELLS[::100]
        ]
        assert sum(valid != test for valid, test in pairs) > 150
    best = [cell for cell in map(Genotype.parse, ALL_CELLS) if table.rank(cell, "cifar10", "test", 200) == 1]
    assert sorted(str(table.benchmark_index(cell)) for cell in best) == ["13714", "6111"]  # they share the best value
    assert {table.value(cell, "cifar10", "test", 200) for cell in best} == {94.373}
    skip = Genotype(("skip_connect",) * 6)
    assert table.value(skip, "cifar10", "test", 200) == 54.297


def test_published_ranks_equal_brute_force(table: Table, table_rows: list[dict[str, str]]) -> None:
    for dataset, split, epochs in COLUMNS:
        accuracies = [float(row[f"{dataset}_{split}_{epochs}"]) for row in table_rows]
        assert len(set(accuracies)) < len(accuracies)  # there are ties
        for row in random.Random(0).sample(table_rows, 60):
            mine = float(row[f"{dataset}_{split}_{epochs}"])
            rank = table.rank(Genotype.parse(row["cell"]), dataset, split, epochs)
            assert rank == 1 + sum(accuracy > mine for accuracy in accuracies)


def test_lines_and_columns_stand_in_any_order(tmp_path: Path) -> None:
    rows = small_rows()
    first = read(write_rows(tmp_path / "first.csv", rows))
    assert first.name == "first"
    assert CsvOracle(str(tmp_path / "first.csv"), name="mine").load(SMALL).name == "mine"
    other = read(write_rows(tmp_path / "b.csv", [dict(reversed(row.items())) for row in reversed(rows)]))
    for table in (first, other):
        assert set(table.columns) == {Column("cifar10", "valid", 12), Column("imagenet16-120", "test", 200)}
        for row in rows:
            genotype = Genotype.parse(row["cell"])
            assert table.value(genotype, "cifar10", "valid", 12) == float(row["cifar10_valid_12"])
            assert table.value(genotype, "imagenet16-120", "test", 200) == float(row["imagenet16-120_test_200"])
            assert table.benchmark_index(genotype) == int(row["index"])


def test_without_the_column_index_the_benchmark_number_is_unknown(tmp_path: Path) -> None:
    rows = [{name: value for name, value in row.items() if name != "index"} for row in small_rows()]
    table = read(write_rows(tmp_path / "t.csv", rows))
    assert table.benchmark_index(SMALL.genotype(3)) is None
    assert len(table.rows(SMALL.genotype(3))) == 2


def without(column: str) -> Callable[[list[dict[str, str]]], str]:
    return lambda rows: text_of([{name: value for name, value in row.items() if name != column} for row in rows])


def text_of(rows: list[dict[str, str]]) -> str:
    return "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]) + "\n"


def changed(column: str, value: str) -> Callable[[list[dict[str, str]]], str]:
    return lambda rows: text_of([*rows[:40], rows[40] | {column: value}, *rows[41:]])


BROKEN: dict[str, Callable[[list[dict[str, str]]], str | bytes]] = {
    "no column cell": without("cell"),
    "no accuracy": lambda rows: text_of([{"index": row["index"], "cell": row["cell"]} for row in rows]),
    "one cell missing": lambda rows: text_of(rows[:60] + rows[61:]),
    "all cells missing": lambda rows: text_of(rows).splitlines()[0] + "\n",
    "a cell twice": lambda rows: text_of([*rows, rows[5]]),
    "a cell twice and another missing": lambda rows: text_of([*rows[:-1], rows[5]]),
    "a cell of another space": changed("cell", "|none~0|"),
    "a wrong operation": changed("cell", "|none~0|+|none~0|conv~1|"),
    "a short line": lambda rows: text_of(rows).replace("," + rows[70]["imagenet16-120_test_200"] + "\n", "\n", 1),
    "a long line": changed("cifar10_valid_12", "93.1,12"),
    "cut in the middle of a line": lambda rows: text_of(rows)[:3000],
    "text for an accuracy": changed("cifar10_valid_12", "ninety"),
    "nothing for an accuracy": changed("cifar10_valid_12", ""),
    "nan for an accuracy": changed("imagenet16-120_test_200", "nan"),
    "more than all": changed("cifar10_valid_12", "9999"),
    "less than nothing": changed("cifar10_valid_12", "-3"),
    "fractions": lambda rows: text_of(
        [row | {"cifar10_valid_12": f"{number / 200}"} for number, row in enumerate(rows)]
    ),
    "text for a number of parameters": lambda rows: text_of([row | {"params": "many"} for row in rows]),
    "text for a benchmark number": changed("index", "first"),
    "semicolons": lambda rows: text_of(rows).replace(",", ";"),
    "empty": lambda rows: "",
    "blank lines": lambda rows: "\n\n\n",
    "a picture": lambda rows: b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20,
    "zeros": lambda rows: bytes(5000),
    "an open quote": lambda rows: text_of(rows).replace(rows[3]["cell"], '"' + rows[3]["cell"], 1),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named_with_option_and_mend(
    tmp_path: Path, broken: Callable[[list[dict[str, str]]], str | bytes]
) -> None:
    content = broken(small_rows())
    path = tmp_path / "broken.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"oracle\.path: .*broken\.csv") as caught:
        read(path)
    assert "give" in str(caught.value)


@pytest.mark.parametrize(
    ("column", "named"), [("cell", "cell"), ("cifar10_valid_12", None), ("imagenet16-120_test_200", None)]
)
def test_only_the_columns_that_are_there_are_needed(tmp_path: Path, column: str, named: str | None) -> None:
    path = tmp_path / "t.csv"
    path.write_text(without(column)(small_rows()))
    if named is None:
        assert len(read(path).columns) == 1
    else:
        with pytest.raises(UserError, match=named):
            read(path)


def test_a_missing_and_a_repeated_cell_are_named(tmp_path: Path) -> None:
    rows = small_rows()
    for text, cell in (
        (text_of(rows[:60] + rows[61:]), rows[60]["cell"]),
        (text_of([*rows, rows[5]]), rows[5]["cell"]),
    ):
        path = tmp_path / "t.csv"
        path.write_text(text)
        with pytest.raises(UserError) as caught:
            read(path)
        assert cell in str(caught.value)


@pytest.mark.parametrize("name", ["", "missing.csv", "missing/table.csv"])
def test_no_file_or_a_folder_is_named_before_a_search_starts(tmp_path: Path, name: str) -> None:
    oracle = CsvOracle(str(tmp_path / name))
    for action in (oracle.check, partial(oracle.load, BENCHMARK)):
        with pytest.raises(UserError, match=r"oracle\.path: .*give") as caught:
            action()
        assert str(tmp_path / name) in str(caught.value)


def test_check_does_not_open_the_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xff" * 100)
    assert CsvOracle(str(path)).check() is None


def test_csv_without_a_path_says_so() -> None:
    with pytest.raises(ValueError, match=r"oracle\.path=FILE"):
        CsvOracle(None)


def test_the_home_folder_is_understood(table_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_rows(tmp_path / "t.csv", small_rows())
    assert read(Path("~/t.csv")).name == "t"


# analog


@pytest.fixture(scope="module")
def analog() -> Table:
    if importlib.util.find_spec("analognasbench") is None:
        pytest.skip("analog-nasbench is not installed: pip install analog-nasbench")
    return AnalogOracle().load(BENCHMARK)


def test_analog_is_an_independent_retraining_under_its_own_name(
    analog: Table, table_rows: list[dict[str, str]]
) -> None:
    from scipy.stats import spearmanr

    assert analog.name == "analog-cifar10"
    assert list(analog.columns) == [Column("cifar10", "test", None)]
    ours = [analog.value(Genotype.parse(row["cell"]), "cifar10", "test", None) for row in table_rows]
    published = [float(row["cifar10_test_200"]) for row in table_rows]
    assert 0.985 < spearmanr(ours, published).statistic < 0.999
    best = max(range(len(ours)), key=ours.__getitem__)
    assert round(ours[best], 2) == 94.07
    assert int(table_rows[best]["index"]) == 13714  # the other cell that shares the published best is 6111
    assert analog.rank(Genotype.parse(table_rows[best]["cell"]), "cifar10", "test", None) == 1


def test_analog_answers_only_for_its_own_column(analog: Table) -> None:
    cell = Genotype.parse(ALL_CELLS[-1])
    assert [(row["split"], row["epochs"]) for row in analog.rows(cell)] == [("test", None)]
    assert analog.benchmark_index(cell) is None
    for split, epochs in (("valid", None), ("test", 200), ("test", 12)):
        with pytest.raises((KeyError, ValueError)):
            analog.value(cell, "cifar10", split, epochs)


def test_the_package_is_read_but_never_imported(analog: Table) -> None:
    code = (
        "import sys; from darts.oracle.analog import AnalogOracle; from darts.oracle.base import BENCHMARK;"
        "table = AnalogOracle().load(BENCHMARK);"
        "print(table.name, [name for name in sys.modules if name.split('.')[0] in ('analognasbench', 'pandas')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["analog-cifar10", "[]\n"]
    assert done.stderr == ""


@pytest.fixture
def analog_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a file in the package's format: a pickled dict from codes to records of the package's classes."""

    def write(records: object = None, spoil: object = None) -> Path:
        module = types.ModuleType("analognasbench.data")
        monkeypatch.setitem(sys.modules, "analognasbench", types.ModuleType("analognasbench"))
        monkeypatch.setitem(sys.modules, "analognasbench.data", module)
        for name in ("Architecture", "DriftMeasurement"):
            setattr(module, name, type(name, (), {"__module__": module.__name__}))
        if records is None:
            records = {}
            for codes in itertools.product(range(5), repeat=6):
                record = module.Architecture()
                drift = module.DriftMeasurement()
                drift.value, drift.uncertainty = 1.0, 0.5
                record.baseline_accuracy = int("".join(map(str, codes))) / 10_000
                record.analog_accuracy, record.analog_drift_60 = 11.0, spoil or drift
                records[codes] = record
        path = tmp_path / "data.anb"
        path.write_bytes(pickle.dumps(records))
        monkeypatch.undo()
        return path

    return write


def test_analog_codes_stand_for_the_edges_and_operations_of_the_specification(
    analog_file: Callable[..., Path],
) -> None:
    table = AnalogOracle(str(analog_file())).load(BENCHMARK)
    for codes in list(itertools.product(range(5), repeat=6))[::4]:
        # the package's order is 1<-0, 2<-0, 3<-0, 2<-1, 3<-1, 3<-2
        to1_0, to2_0, to3_0, to2_1, to3_1, to3_2 = (ANALOG_CODES[code] for code in codes)
        cell = f"|{to1_0}~0|+|{to2_0}~0|{to2_1}~1|+|{to3_0}~0|{to3_1}~1|{to3_2}~2|"
        expected = int("".join(map(str, codes))) / 10_000
        assert table.value(Genotype.parse(cell), "cifar10", "test", None) == expected


class Runs:
    """Pickles as a call."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call, self.arguments


@pytest.mark.parametrize("call", [os.system, eval, importlib.import_module])
def test_a_malicious_analog_file_is_refused_and_not_executed(
    analog_file: Callable[..., Path], tmp_path: Path, call: Callable[..., object]
) -> None:
    mark = tmp_path / "executed"
    argument = {os.system: f"touch {mark}", eval: f"__import__('os').mkdir({str(mark)!r})"}.get(call, "this")
    path = analog_file(spoil=Runs(call, argument))
    if call is not importlib.import_module:  # the file does harm where it is believed
        pickle.loads(pickle.dumps(Runs(call, argument)))
        assert mark.exists()
        mark.rename(tmp_path / "proof")
    with pytest.raises(UserError, match=r"data\.anb"):
        AnalogOracle(str(path)).load(BENCHMARK)
    assert not mark.exists()
    assert "this" not in sys.modules


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_broken_analog_file_is_named_with_the_mend(analog_file: Callable[..., Path], tmp_path: Path) -> None:
    whole = analog_file().read_bytes()
    few = analog_file({(0, 0, 0, 0, 0, 0): 3.0}).read_bytes()
    listed = analog_file([1, 2, 3]).read_bytes()
    path = tmp_path / "broken.anb"
    cuts = [whole[: len(whole) * quarter // 4] for quarter in range(4)]
    for content in (*cuts, few, listed, b"\x80\x04N.", b"not a pickle", bytes(100)):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"broken\.anb.*pip install analog-nasbench"):
            AnalogOracle(str(path)).load(BENCHMARK)


def test_a_wrong_path_of_the_analog_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.anb"
    with pytest.raises(UserError, match=r"oracle\.path.*nowhere\.anb"):
        AnalogOracle(str(path)).check()


def test_without_the_package_the_analog_table_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(darts.oracle.analog, "find_data", lambda: None)
    oracle = AnalogOracle()
    for action in (oracle.check, partial(oracle.load, BENCHMARK)):
        with pytest.raises(UserError, match=r"^oracle.*pip install analog-nasbench"):
            action()


class Endless(CellSpace):
    """A space of which nobody knows the size."""

    size = None  # type: ignore[assignment]


@pytest.mark.parametrize("space", [SMALL, CellSpace(4, OPERATIONS[::-1]), Endless()], ids=["small", "other", "endless"])
def test_published_tables_are_of_the_benchmark_alone(
    space: CellSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another space has no table, which is no error; broken files show that nothing is read."""
    (tmp_path / "broken").write_bytes(bytes(100))
    path = str(tmp_path / "broken")
    installed(monkeypatch, tmp_path / "broken")
    for oracle in (NatsOracle(path), AnalogOracle(path), AnalogOracle(), AutoOracle(), NoOracle()):
        assert oracle.load(space) is None


def test_a_table_of_lines_is_of_any_space_of_known_size(tmp_path: Path) -> None:
    space = CellSpace(2, ("left", "right"))
    (tmp_path / "t.csv").write_text("cell,cifar10_test_200\n|right~0|,93\n|left~0|,91\n")
    for oracle in (CsvOracle(str(tmp_path / "t.csv")), AutoOracle(str(tmp_path / "t.csv"))):
        table = oracle.load(space)
        assert table is not None
        assert (table.space, len(table), table.columns[Column("cifar10", "test", 200)].tolist()) == (space, 2, [91, 93])
        assert table.rank(space.parse("|left~0|"), "cifar10", "test", 200) == 2
        assert oracle.load(Endless()) is None
        with pytest.raises(UserError, match=r"oracle\.path: .*t\.csv is no table of this space.*; give"):
            oracle.load(BENCHMARK)


# auto and none


def installed(monkeypatch: pytest.MonkeyPatch, data: Path | None) -> None:
    monkeypatch.setattr(darts.oracle.analog, "find_data", lambda: data)
    monkeypatch.setattr(darts.oracle.auto, "find_data", lambda: data)


def test_auto_prefers_the_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, analog_file: Callable[..., Path]
) -> None:
    installed(monkeypatch, tmp_path / "data.anb")
    oracle = AutoOracle(str(write_rows(tmp_path / "mine.csv", small_rows())))
    oracle.check()
    table = oracle.load(SMALL)
    assert table is not None
    assert (table.name, oracle.notice()) == ("mine", None)
    missing = AutoOracle(str(tmp_path / "missing.csv"))
    # a path that is wrong is never replaced in silence
    for action in (missing.check, partial(missing.load, BENCHMARK)):
        with pytest.raises(UserError, match=r"oracle\.path.*missing\.csv"):
            action()


def test_auto_takes_the_installed_analog_table_next(
    monkeypatch: pytest.MonkeyPatch, analog_file: Callable[..., Path]
) -> None:
    data = analog_file()
    installed(monkeypatch, data)
    oracle = AutoOracle()
    oracle.check()
    table = oracle.load(BENCHMARK)
    assert table is not None
    assert (table.name, oracle.notice()) == ("analog-cifar10", None)


def test_auto_without_any_table_says_in_one_line_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, None)
    oracle = AutoOracle()
    assert oracle.check() is None
    assert oracle.load(BENCHMARK) is None
    notice = oracle.notice()
    assert notice is not None
    assert "\n" not in notice
    assert "oracle.path=" in notice
    assert "pip install analog-nasbench" in notice


def test_none_knows_nothing_and_says_nothing() -> None:
    oracle = NoOracle()
    assert (oracle.check(), oracle.load(BENCHMARK), oracle.notice()) == (None, None, None)
