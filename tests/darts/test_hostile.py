"""Texts and files from strangers: only our own errors come out, in bounded time, whatever is in them."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from darts.cli import main
from darts.command.config import compose_config
from darts.oracle.csv import CsvOracle
from darts.run.errors import UserError
from darts.run.parts import build_one
from darts.tasks.datasets.series import CsvSeries
from supernet.spaces.base import Space
from supernet.spaces.cells import CellSpace
from tests.quickly import slow_but

SPACES = sorted(file.stem for file in (Path(__file__).resolve().parents[2] / "configs" / "space").glob("*.yaml"))
PIECES = ["", "|", "+", "~", "/", "-", "(", "[", "Genotype(", "0", "9" * 5000, "1e999", "-1", "\0", "\x1b[2J", "ß", " "]
DEEP = [
    "(" * 20_000,
    "[" * 20_000,
    "-" * 50_000 + "1",
    "Genotype(normal=" + "[" * 5_000,
    "|" * 50_000,
    "+".join("a" * 9),
]
JSON: list[Any] = [None, True, -1, 0, 1e308, 10**400, "", "<script>", "\x1b[2J", "../../x", [], [[]], {}, {"a": None}]


def changed(text: str, rng: random.Random) -> str:
    """A few pieces taken out, doubled, or put in."""
    for _ in range(rng.randint(1, 4)):
        first, last = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        text = rng.choice(
            [
                text[:first] + text[last:],
                text[:last] + text[first:],
                text[:first] + rng.choice(PIECES) + text[first:],
                text[:first] + rng.choice(PIECES) + text[last:],
            ]
        )
    return text


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    """A few bytes flipped, cut or doubled."""
    for _ in range(rng.randint(1, 6)):
        first, last = sorted(rng.randrange(len(content) + 1) for _ in range(2))
        last = min(last, first + rng.choice([1, 1, 1, 20, 10**6]))
        new = bytes(rng.randrange(256) for _ in range(min(4, last - first)))
        content = content[:first] + rng.choice([b"", new, content[first:last] * 2]) + content[last:]
    return content


@pytest.mark.parametrize("name", SPACES)
def test_a_text_is_a_genotype_or_a_value_error(name: str) -> None:
    space: Space = build_one(compose_config("baseline", [f"space={name}"]), "space")
    rng = random.Random(name)
    for text in [*DEEP, *(changed(str(space.sample(rng)), rng) for _ in range(300))]:
        with suppress(ValueError):
            assert space.parse(str(space.parse(text))) == space.parse(text)


@pytest.mark.parametrize("text", slow_but(DEEP[:1], DEEP))
def test_the_command_line_refuses_what_is_too_deep(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", f"cell={text}"]) == 2
    assert main(["search", f"seed={text}"]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    words = ["dataset=fake", "method=plain", "network.channels=2", "network.cells=1", "budget.epochs=2", "oracle=none"]
    assert main(["search", *words, f"run_dir={folder}"]) == 0
    return folder


def places(content: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Of every value inside."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [found for key, value in pairs for found in [(*place, key), *places(value, (*place, key))]]


def with_another_value(content: Any, rng: random.Random) -> Any:
    content = json.loads(json.dumps(content))
    place = rng.choice(places(content))
    inside = content
    for key in place[:-1]:
        inside = inside[key]
    if rng.random() < 0.2:
        del inside[place[-1]]
    else:
        inside[place[-1]] = rng.choice(JSON)
    return content


@pytest.mark.parametrize("tries", [15, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("command", ["search resume=", "derive run="])
def test_a_folder_with_other_values_ends_a_command_with_a_message(
    command: str, tries: int, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, rng = json.loads((finished / "result.json").read_text()), random.Random(tries)
    folder = shutil.copytree(finished, tmp_path / "run")
    name, option = command.split()
    for _ in range(tries):
        (folder / "result.json").write_text(json.dumps(with_another_value(content, rng)))
        assert main([name, f"{option}{folder}"]) in (0, 2)
        assert "Traceback" not in capsys.readouterr().err


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("baseline")
    (base / "table.csv").write_text(TABLE)
    words = ["space.num_nodes=2", f"oracle.path={base / 'table.csv'}", "evaluator.signal=cifar10/valid/12", "seeds=0-2"]
    words += ["objective=params", "budget.evaluations=5", f"run_dir={base / 'run'}"]
    assert main(["baseline", *words]) == 0
    return base / "run"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["finished", "baseline"])
def test_a_comparison_of_folders_with_other_values_ends_with_a_message(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(request.getfixturevalue(kind), tmp_path / "run")
    content, rng, refused = json.loads((folder / "result.json").read_text()), random.Random(3), 0
    for number in range(80):
        (folder / "result.json").write_text(json.dumps(with_another_value(content, rng)))
        status = main(["compare", str(folder), "oracle=none", f"run_dir={tmp_path / str(number)}"])
        assert status in (0, 2)
        refused += status == 2
        assert "Traceback" not in capsys.readouterr().err
    assert 5 < refused < 80


CELLS = [str(genotype) for genotype in CellSpace(num_nodes=2)]
TABLE = "index,cell,cifar10_valid_12,cifar10_test_200\n" + "".join(
    f"{place},{cell},{50 + place},{90 + place / 4}\n" for place, cell in enumerate(CELLS)
)


def read_table(file: Path) -> None:
    CsvOracle(str(file)).load(CellSpace(num_nodes=2))


def read_series(file: Path) -> None:
    CsvSeries(str(file), window=3, horizon=1).load(0.5)


SERIES = "time,load\n" + "".join(f"{step},{step % 7 / 3:.3f}\n" for step in range(60))


@pytest.mark.parametrize(("text", "read"), [(TABLE, read_table), (SERIES, read_series)], ids=["table", "series"])
def test_a_csv_file_is_read_or_refused(text: str, read: Callable[[Path], None], tmp_path: Path) -> None:
    file, rng, refused = tmp_path / "file.csv", random.Random(2), set()
    file.write_text(text)
    read(file)
    for _ in range(300):
        file.write_bytes(changed_bytes(text.encode(), rng))
        try:
            read(file)
        except (UserError, ValueError) as error:  # commands say what a ValueError of a part says
            refused.add(type(error))
    assert refused
    assert refused <= {UserError, ValueError}
