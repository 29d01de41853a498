"""The command `darts query`: as a process where the process matters, elsewhere through the entry point."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import darts.oracle.analog
import darts.oracle.auto
from darts.cli import main

Command = Callable[..., subprocess.CompletedProcess[str]]

# Written down from the specification, not taken from the code.
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
COLUMNS = [("cifar10", "test", 12), ("cifar10", "test", 200), ("cifar10", "valid", 12), ("cifar10", "valid", 200)]
SECOND = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
LAST = "|avg_pool_3x3~0|+|avg_pool_3x3~0|avg_pool_3x3~1|+|avg_pool_3x3~0|avg_pool_3x3~1|avg_pool_3x3~2|"
# stem, three 3x3 convolutions in each of 15 cells, two reductions (two 3x3 convolutions and a shortcut), linear layer
SECOND_FLOPS = 3 * 16 * 9 * 1024 + 45 * (9 * 16 * 16 * 1024) + 2 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32) * 256 + 640
NOTHING = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def computed_index(cell: str) -> int:
    """Base 5 over the edge order, the first edge most significant."""
    names = [term.split("~")[0] for term in cell.replace("+", "").split("|") if term]
    return int("".join(str(OPERATIONS.index(name)) for name in names), base=5)


def expected_accuracies(rows: list[dict[str, str]], mine: dict[str, str]) -> list[dict[str, object]]:
    answers: list[dict[str, object]] = []
    for dataset, split, epochs in COLUMNS:
        name = f"{dataset}_{split}_{epochs}"
        value = float(mine[name])
        rank = 1 + sum(float(row[name]) > value for row in rows)
        answers.append({"dataset": dataset, "split": split, "epochs": epochs, "value": value, "rank": rank})
    return answers


def test_json_tells_all_that_the_table_knows(
    darts: Command, table_path: Path, table_rows: list[dict[str, str]]
) -> None:
    asked = [table_rows[number] for number in (1, 6111, 15_624)]
    done = darts("query", *(row["cell"] for row in asked), "format=json", f"oracle.path={table_path}")
    assert (done.returncode, done.stderr) == (0, "")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["cell"] for answer in answers] == [row["cell"] for row in asked]
    for answer, row in zip(answers, asked, strict=True):
        assert answer["index"] == computed_index(row["cell"])
        assert answer["benchmark_index"] == int(row["index"])
        assert answer["params"] == int(row["params_cifar10"])
        assert answer["table"] == "nb201-cifar10"
        assert sorted(answer["accuracies"], key=str) == sorted(expected_accuracies(table_rows, row), key=str)
    assert answers[0]["canonical"] == (
        "((0)@nor_conv_3x3)@avg_pool_3x3+(0)@nor_conv_3x3+((0)@nor_conv_3x3)@nor_conv_3x3+0"
    )
    assert answers[0]["flops"] == SECOND_FLOPS


def test_the_known_index_of_hand_picked_cells() -> None:
    assert (computed_index(NOTHING), computed_index(LAST), computed_index(SECOND)) == (0, 15_624, 11_791)


BAD_CELLS = {
    "|none~0|": "3|edges|nodes",
    "|nor_conv_5x5~0|+|none~0|none~1|+|none~0|none~1|none~2|": "nor_conv_5x5",
    "|none~0|+|none~0|none~0|+|none~0|none~1|none~2|": "none~0",
    "|none~0|+|none~0|none~1|+|none~0|none~1|": "3",
    "none": "none",
}


def test_every_bad_cell_is_reported_at_once_and_nothing_is_printed(darts: Command) -> None:
    done = darts("query", SECOND, *BAD_CELLS, "oracle=none")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(BAD_CELLS)
    for line, cell in zip(lines, BAD_CELLS, strict=True):
        assert repr(cell) in line
    assert "nor_conv_3x3" in lines[1]  # what is allowed
    assert SECOND not in done.stderr


# The rest runs in this process: what is printed is the same.


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def query(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """`darts query` with these words; returns exit status, standard output and standard error."""

    def run(*words: str, stdin: io.StringIO | None = None) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "stdin", stdin or io.StringIO(""))
        status = main(["query", *words])
        return status, *capsys.readouterr()

    return run


def test_the_table_for_people_reads_cells_from_standard_input(
    query: Callable[..., tuple[int, str, str]], table_path: Path, table_rows: list[dict[str, str]]
) -> None:
    by_cell = {row["cell"]: row for row in table_rows}
    asked = [LAST, SECOND, NOTHING]
    cells = io.StringIO(f"{LAST}\n\n  {SECOND} \r\n{NOTHING}")
    status, out, err = query(f"oracle.path={table_path}", stdin=cells)
    assert (status, err) == (0, "")
    blocks = out.strip().split("\n\n")
    assert len(blocks) == 3
    for cell, block in zip(asked, blocks, strict=True):
        row = by_cell[cell]
        lines = block.splitlines()
        assert lines[0].split() == ["cell", cell]
        shown = {name.strip(): value for name, _, value in (line.partition("  ") for line in lines)}
        assert shown["index"].split() == [str(computed_index(cell)), "(this", "program's)"]
        assert shown["benchmark index"].split() == [row["index"], "(NAS-Bench-201's", "own)"]
        assert any(line.startswith("canonical") for line in lines)
        assert any(line.startswith("parameters") and f"{int(row['params_cifar10']):,} " in line for line in lines)
        assert any(line.startswith("FLOPs") for line in lines)
        for answer in expected_accuracies(table_rows, row):
            (line,) = (line for line in lines if f"{answer['split']}, {answer['epochs']} epochs" in line)
            assert f"{answer['value']:.3f}%" in line
            assert f"rank {answer['rank']:,} of 15,625" in line
            assert "nb201-cifar10" in line  # every value carries its table's name


@pytest.mark.parametrize("stdin", [Terminal(""), io.StringIO(""), io.StringIO("\n  \n")], ids=["tty", "empty", "blank"])
def test_no_cells_is_a_mistake_with_a_mend(query: Callable[..., tuple[int, str, str]], stdin: io.StringIO) -> None:
    status, out, err = query("oracle=none", stdin=stdin)
    assert (status, out) == (2, "")
    assert "no cells" in err
    assert "standard input" in err


@pytest.mark.parametrize("form", ["xml", "JSON", "null", "''"])
def test_an_unknown_format_names_the_allowed_ones(query: Callable[..., tuple[int, str, str]], form: str) -> None:
    status, out, err = query(SECOND, f"format={form}")
    assert (status, out) == (2, "")
    assert err.startswith("darts: format:")
    assert "table, json" in err


@pytest.mark.parametrize("oracle", ["csv", "nats"])
def test_an_oracle_that_needs_a_file_says_so(query: Callable[..., tuple[int, str, str]], oracle: str) -> None:
    status, out, err = query(SECOND, f"oracle={oracle}")
    assert (status, out) == (2, "")
    assert "oracle.path" in err


@pytest.mark.parametrize("oracle", ["auto", "csv", "nats"])
def test_a_wrong_path_is_named(query: Callable[..., tuple[int, str, str]], oracle: str) -> None:
    status, out, err = query(SECOND, f"oracle={oracle}", "oracle.path=no/such.file")
    assert (status, out) == (2, "")
    assert err.startswith("darts: oracle.path: there is no file no/such.file")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((SECOND, "oracle=nasbench"), "auto, csv, nats, none"),
        ((SECOND, "orakel=none"), "oracle"),
        ((SECOND, "oracle.paht=x"), "oracle.path"),
        ((SECOND, "output=t.npz"), "output: .*import"),
        (("import=no/such.pth",), "output"),
        (("import=no/such.pth", "output=t.npz", SECOND), "import.*no cells"),
        (("import=no/such.pth", "output=t.npz"), "import: .*no/such.pth"),
        (("import=no/such.pth", "output=no/t.npz"), "output: .*no"),
        ((SECOND, "-m"), "-m"),
    ],
)
def test_a_wrong_word_is_named(
    query: Callable[..., tuple[int, str, str]], words: tuple[str, ...], named: str, tmp_path: Path
) -> None:
    status, out, err = query(*words)
    assert (status, out) == (2, "")
    assert re.search(named, err.replace("analog, ", ""))
    assert list(tmp_path.iterdir()) == []


def test_import_never_writes_over_a_file(query: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    (tmp_path / "precious.npz").write_text("mine")
    (tmp_path / "official").mkdir()
    status, _, err = query("import=official", "output=precious.npz")
    assert status == 2
    assert "precious.npz" in err
    assert (tmp_path / "precious.npz").read_text() == "mine"


def test_without_a_table_the_cell_itself_is_still_known(query: Callable[..., tuple[int, str, str]]) -> None:
    status, out, err = query(SECOND, "oracle=none", "format=json")
    assert (status, err) == (0, "")
    answer = json.loads(out)
    assert (answer["index"], answer["params"], answer["flops"]) == (11_791, 802_426, SECOND_FLOPS)
    assert (answer["benchmark_index"], answer["table"], answer["accuracies"]) == (None, None, [])
    status, out, err = query(SECOND, "oracle=none")
    assert (status, err) == (0, "")
    assert "%" not in out


def test_auto_without_a_table_answers_and_tells_how_to_get_one(
    query: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(darts.oracle.auto, "find_data", lambda: None)
    monkeypatch.setattr(darts.oracle.analog, "find_data", lambda: None)
    status, out, err = query(SECOND, "format=json")
    assert status == 0
    assert json.loads(out)["table"] is None
    assert len(err.splitlines()) == 1
    assert "oracle.path" in err


def test_a_retraining_is_never_shown_under_the_name_of_the_benchmark(
    query: Callable[..., tuple[int, str, str]],
) -> None:
    if darts.oracle.analog.find_data() is None:
        pytest.skip("analog-nasbench is not installed: pip install analog-nasbench")
    status, out, err = query(SECOND)
    assert (status, err) == (0, "")
    (line,) = (line for line in out.splitlines() if "%" in line)
    assert "analog-cifar10" in line
    assert "epochs unstated" in line
    assert "200" not in line


@pytest.mark.parametrize("name", ["a=b, (1) é.csv", "it's [a] {b}.csv", 'a"b~c.csv'])
def test_a_table_may_have_any_name(
    query: Callable[..., tuple[int, str, str]], table_path: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).symlink_to(table_path)
    status, out, err = query(SECOND, f"oracle.path={name}", "format=json")
    assert (status, err) == (0, "")
    assert json.loads(out)["table"] == Path(name).stem
    assert json.loads(out)["benchmark_index"] == 1


def test_cells_are_found_by_either_number(
    table_path: Path, table_rows: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    row = table_rows[6111]
    for word in (f"index={computed_index(row['cell'])}", f"benchmark_index=[{row['index']}]"):
        assert main(["query", word, "format=json", f"oracle.path={table_path}"]) == 0
        assert json.loads(capsys.readouterr().out)["cell"] == row["cell"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("index=15625", "index: got 15625; give whole numbers from 0 to 15624"),
        ("index=first", "index: got 'first'"),
        ("benchmark_index=[-1]", "benchmark_index: got -1"),
        ("benchmark_index=3", "benchmark_index: no table here knows the benchmark's numbers"),
    ],
)
def test_numbers_of_no_cell_are_refused(word: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", word, "oracle=none"]) == 2
    assert message in capsys.readouterr().err
