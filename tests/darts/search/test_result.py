from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from darts.command.config import compose_config
from darts.run.errors import UserError
from darts.search.build import build_search
from darts.search.result import SearchResult

CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"
WORDS = [
    "dataset=fake", "dataset.images=64", "dataset.image_size=4", "data.batch_size=8", "network.channels=2",
    "method=plain", "monitor=[]", "oracle=none", "budget.steps=5",
]  # fmt: skip


def result(**changes: Any) -> SearchResult:
    record = {
        "epoch": 1, "step": 4, "alphas": {"alpha_EO": [[0.1, 1 / 3], [-2.5e-17, 1e300]]}, "cell": CELL,
        "train_loss": 2.302585092994046, "valid_loss": 2.1, "valid_accuracy": 12.5,
    }  # fmt: skip
    plain = SearchResult(
        cell=CELL, seed=0, planned_steps=4, stopped_by="steps", epochs=1, steps=4, images=64, evaluation_images=32,
        seconds={"total": 1.5}, history=[record], alphas=record["alphas"], supernet_valid=12.5, flops=7,
        params=8, network_size="C=16", searched_on="fake", settings={"split": 0.5}, versions={"torch": "2"},
    )  # fmt: skip
    return replace(plain, **changes)


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [{"dataset": "cifar10", "split": "test", "epochs": None, "value": 93.1, "rank": 17}]
    written = result(oracle={"table": "analog-cifar10", "searched_on": "fake", "rows": rows})
    written.write(tmp_path / "result.json")
    assert SearchResult.read(tmp_path / "result.json") == written
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_a_result_of_version_0_1_is_read(tmp_path: Path) -> None:
    """It had accuracy alone, and no space was narrowed."""
    result().write(tmp_path / "result.json")
    content = json.loads((tmp_path / "result.json").read_text())
    for name in ("metric", "allowed"):
        del content[name]
    (tmp_path / "result.json").write_text(json.dumps(content))
    found = SearchResult.read(tmp_path / "result.json")
    assert (found.supernet_valid, found.judged_by.text(found.supernet_valid), found.allowed) == (12.5, "12.50%", None)
    assert (found.judged_by.name, found.judged_by.limits) == ("accuracy", (0, 100))


def test_what_a_table_knows_stands_beside_what_was_searched_on() -> None:
    rows = [{"dataset": "cifar10", "split": "test", "epochs": 200, "value": 93.1, "rank": 17}]
    found = result()
    found.look_up("nb201-cifar10", 15625, 100, rows)
    assert found.oracle == {
        "table": "nb201-cifar10", "cells": 15625, "searched_on": "fake", "same_cost": 100, "rows": rows,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["my [ 1, 2 ] images", "a\n[  3  ]", "é ü 漢", '"quoted" \\ path'])
def test_texts_come_back_letter_by_letter(tmp_path: Path, name: str) -> None:
    result(searched_on=name).write(tmp_path / "result.json")
    assert SearchResult.read(tmp_path / "result.json").searched_on == name


def test_numbers_come_back_bit_for_bit(tmp_path: Path) -> None:
    values = [math.sin(place) * 10.0 ** (place % 40 - 20) for place in range(200)]
    result(alphas={"alpha_EO": [values, [-0.0]]}).write(tmp_path / "result.json")
    found = SearchResult.read(tmp_path / "result.json").alphas["alpha_EO"]
    assert [value.hex() for value in found[0]] == [value.hex() for value in values]
    assert math.copysign(1, found[1][0]) == -1


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """result.json of the same search twice, and with another seed."""
    contents = []
    for seed in (0, 0, 1):
        path = tmp_path_factory.mktemp("run") / "result.json"
        build_search(compose_config("search", [*WORDS, f"seed={seed}"]), None).run().write(path)
        contents.append(json.loads(path.read_text()))
    return contents


def test_the_file_holds_what_the_interface_promises(files: list[dict[str, Any]]) -> None:
    content = files[0]
    promised = (
        "schema_version kind cell seed planned_steps stopped_by epochs steps images seconds history alphas "
        "supernet_valid_accuracy flops params versions oracle timing"
    )
    assert set(promised.split()) <= content.keys()
    assert (content["kind"], content["seed"], content["oracle"]) == ("search", 0, None)
    assert content["seconds"]["total"] > 0
    assert content["images"] == 2 * 8 * 5
    assert [record["step"] for record in content["history"]] == [4, 5]
    for record in content["history"]:
        assert record.keys() == {"epoch", "step", "alphas", "cell", "train_loss", "valid_loss", "valid_accuracy"}
        assert [len(row) for row in record["alphas"]["alpha_EO"]] == [5] * 6
    last = content["history"][-1]
    assert (content["cell"], content["alphas"]) == (last["cell"], last["alphas"])
    assert content["supernet_valid_accuracy"] == last["valid_accuracy"]


def test_only_seconds_and_timing_differ_between_equal_runs(files: list[dict[str, Any]]) -> None:
    plain = [json.dumps({k: v for k, v in content.items() if k not in ("seconds", "timing")}) for content in files]
    assert plain[0] == plain[1] != plain[2]


def test_cost_of_the_cell_is_the_published_one(files: list[dict[str, Any]], table_rows: list[dict[str, str]]) -> None:
    row = next(row for row in table_rows if row["cell"] == files[0]["cell"])
    assert files[0]["benchmark_cost"]["params"] == int(row["params_cifar10"])


def test_a_missing_result_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^run: .*holds no result\.json; .*resume="):
        SearchResult.read(tmp_path / "result.json")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '"text"', '{"schema_version": 1}', '{"schema_version": 2}', "{}", "\x00", '{"cell": "x"}'],
)
def test_a_foreign_or_broken_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(UserError, match=r"^run: .*result\.json"):
        SearchResult.read(tmp_path / "result.json")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(UserError, match=r"^run: .*result\.json"):
        SearchResult.read(tmp_path / "result.json")


def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result().write(tmp_path / "result.json")

    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        result(seed=1).write(tmp_path / "result.json")
    assert SearchResult.read(tmp_path / "result.json") == result()
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_the_file_is_valid_json_for_other_programs(tmp_path: Path) -> None:
    """JSON knows neither NaN nor Infinity."""
    with pytest.raises(ValueError, match="JSON"):
        result(supernet_valid=math.nan).write(tmp_path / "result.json")
    assert not (tmp_path / "result.json").exists()
    result().write(tmp_path / "result.json")
    found = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert found.pop("supernet_valid_accuracy") == 12.5
    expected = asdict(result()) | {"metric": {**result().metric, "limits": [0, 100]}}
    assert expected.pop("supernet_valid") == 12.5
    assert found == expected
