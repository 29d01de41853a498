"""From words to settings: quoting, composition through the real Hydra, and messages for what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from darts.cli import main
from darts.command.config import compose_config
from darts.command.quoting import quoted

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
CELL = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|none~2|"
# The keys that hold paths or cells, from the Interface section of the design.
KEYS = ["cell", "run", "resume", "run_dir", "model", "output", "import", "oracle.path", "dataset.root", "any.x.path"]
AWKWARD = [
    "a b", " lead", "trail ", "a=b", "a,b", "(x)", "[x]", "{a: 1}", "a:b", "a|b", "~", "a~/b", "#1", "%s", "*?!;&<>",
    "é ü 漢 🙂", "it's", "'abc", "abc'", '"abc', 'say "x" now', "'", '"', "\\", "a\\b", "end\\", "end\\\\", "\\'",
    "x\\'y", "${x}", "$${x}", "a${", "${oc.env:HOME}", "'${x}'s", "\\${x}", "\\\\${x}", "\\\\\\${x}\\\\", "${x}\\'",
    "$HOME", "true", "1", "1e3", "-1", "Null", "none", "null ", "a\nb", "\ttab", "choice(1,2)", "range(3)", "", "+a=b",
    "key=null",
]  # fmt: skip
MARKS = list(" =,(){}[]é'\"\\\\$${{#~/:|+*.a1\n")


def through_hydra(key: str, value: str) -> Any:
    """What a command receives for KEY=VALUE on the command line."""
    node: Any = compose_config("derive", [quoted(f"+{key}={value}" if key != "run" else f"run={value}")])
    for part in key.split("."):
        node = node[part]
    return node


def all_through_hydra(values: list[str]) -> list[Any]:
    """The same for many values at once."""
    node = compose_config("derive", [quoted(f"+v{number}.path={value}") for number, value in enumerate(values)])
    return [node[f"v{number}"]["path"] for number in range(len(values))]


def is_plain(value: str) -> bool:
    """Neither null, nor in the home folder, nor something that may count as quoted already."""
    wrapped = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return not wrapped and value not in ("null", "~") and not value.startswith("~/")


def test_awkward_text_arrives_as_it_was_typed() -> None:
    values = [value for value in AWKWARD if is_plain(value)]
    assert all_through_hydra(values) == values


TEXT = st.one_of(st.text(st.sampled_from(MARKS), max_size=12), st.text(st.characters(exclude_categories=["Cs"])))


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(TEXT.filter(lambda value: is_plain(value) and "\0" not in value), min_size=1, max_size=12))
@example(["\\${x}'\\", "'\\\\${", "\\", "${'}", "a\\'${b}\\\\"])
def test_any_text_arrives_as_it_was_typed(values: list[str]) -> None:
    assert all_through_hydra(values) == values


@pytest.mark.parametrize("key", KEYS)
def test_every_key_of_a_path_or_cell_is_quoted(key: str) -> None:
    for value in (CELL, "/tmp/a b, (c)=é"):
        assert through_hydra(key, value) == value
        assert quoted(f"{key}='{value}'") == f"{key}='{value}'"


@pytest.mark.parametrize(
    "override",
    ["seed=0,1", "monitor=[progress,tensorboard]", "dataset=fake", "data.split=0.5", "method=plain", "~seed"],
)
def test_other_keys_keep_the_grammar_of_hydra(override: str) -> None:
    assert quoted(override) == override


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([1, 3, 6, 10]).flatmap(lambda n: st.lists(st.sampled_from(OPERATIONS), min_size=n, max_size=n)))
def test_every_kind_of_cell_string_passes_raw_and_quoted(operations: list[str]) -> None:
    names, nodes, target = iter(operations), [], 1
    while sum(range(target)) < len(operations):
        nodes.append("|" + "".join(f"{next(names)}~{source}|" for source in range(target)))
        target += 1
    cell = "+".join(nodes)
    forms = {"run": cell, "+cell": f"'{cell}'", "+model": f'"{cell}"'}
    arrived = compose_config("derive", [quoted(f"{key}={form}") for key, form in forms.items()])
    assert [arrived[key] for key in ("run", "cell", "model")] == [cell] * 3


@pytest.mark.parametrize("value", ["'a b'", '"a b"', "'it\\'s'", "''", "null", "'null'", "'~/x'", "'a, \"b\"'"])
def test_quoted_values_and_null_stay_as_they_are(value: str) -> None:
    assert quoted(f"run={value}") == f"run={value}"
    arrived = through_hydra("run", value)
    assert arrived is None if value == "null" else arrived == value[1:-1].replace("\\'", "'")


@pytest.mark.parametrize("key", ["run", "run_dir", "oracle.path", "dataset.root"])
def test_the_home_folder_is_expanded_at_the_start_alone(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home of (é)")
    assert through_hydra(key, "~/a b") == "/home of (é)/a b"
    assert through_hydra(key, "x~/a") == "x~/a"
    assert through_hydra(key, "|none~0|") == "|none~0|"


def test_a_raw_cell_is_a_word_and_not_an_override(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", CELL, "format=json", "oracle=none"]) == 0
    assert json.loads(capsys.readouterr().out)["cell"] == CELL


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The message of a command line that must end with status 2, without output and without a traceback."""
    assert main(list(words)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("darts: ")
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("search relaxation.temprature=3", ["relaxation.temprature", "did you mean relaxation.temperature"]),
        ("search buget.steps=3", ["buget.steps", "did you mean budget.steps"]),
        ("search relaxaton=softmax", ["relaxaton", "did you mean relaxation"]),
        ("search relaxation=sofmax", ["relaxation", "sofmax", "softmax"]),
        ("search dataset=cifar11", ["dataset", "cifar11", "cifar10", "digits"]),
        ("search monitor=[progress,tensorbord]", ["monitor", "tensorbord", "tensorboard"]),
        ("search regularizer=[beta]", ["regularizer", "beta_decay"]),
        ("search method=darts", ["method", "darts_v1", "darts_v2"]),
        ("search seed=0,1", ["seed=0,1", "-m"]),
        ("search dataset=digits,fake", ["dataset", "-m"]),
        ("search here", ["here", "key=value", "search --help"]),
        ("search --sed=3", ["--sed", "--help"]),
        ("search --config-dir", ["--config-dir"]),
        ("search --config-dir=/no/such/folder", ["--config-dir", "/no/such/folder"]),
        ("search device=[a", ["device=[a", "quote"]),
        ("search dataset=image_folder", ["dataset.root", "give dataset.root="]),
        ("search seed=${nope}", ["seed", "nope"]),
        ("search plugins=[no_such_package]", ["plugins", "no_such_package", "PYTHONPATH"]),
        ("derive", ["run", "run="]),
        ("derive -m seed=1", ["-m"]),
        ("derive run=x discretizer=argmin", ["discretizer", "argmin", "argmax"]),
        ("derive run=x epok=3", ["epok", "did you mean epoch"]),
        ("query -m format=json", ["-m"]),
    ],
)
def test_a_wrong_word_ends_with_a_message_that_names_it_and_the_mend(
    words: str, parts: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = refused(capsys, *words.split(" "))
    assert [part for part in parts if part not in message] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["dataset", "relaxation", "discretizer", "oracle", "space", "weight_step"])
def test_a_part_cannot_be_left_out_with_null(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert name in refused(capsys, "search", f"run_dir={tmp_path / 'run'}", f"{name}=null")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words",
    [
        "search experiment=mine",  # there is no such file
        "search oracle=none oracle.path=/x",  # this choice has no such option
        "search relaxation=softmax relaxation.factor=3",
        "derive discretizer=argmax discretizer.factor=3",
    ],
)
def test_no_message_advises_a_plus_that_would_not_help(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, *words.split(" "))
    assert words.split()[-1].split("=")[0] in message
    assert "+" not in message


def test_a_budget_on_the_command_line_takes_the_place_of_the_default() -> None:
    for name, value in (("steps", 5), ("images", 640), ("seconds", 2.5), ("epochs", 3)):
        budget = compose_config("search", [f"budget.{name}={value}"])["budget"]
        assert budget == {"epochs": None, "steps": None, "images": None, "seconds": None} | {name: value}


def test_own_settings_come_from_the_folder_that_is_given(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /arch_step: unrolled\nseed: 7\nbudget: {epochs: 2}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    composed = compose_config("search", ["experiment=mine", "weight_step.lr=0.5"], tmp_path)
    assert (composed["seed"], composed["budget"]["epochs"], composed["weight_step"]["lr"]) == (7, 2, 0.5)
    assert composed["arch_step"]["_target_"].endswith("Unrolled")


@pytest.mark.parametrize("choice_in_file", [True, False])
def test_own_settings_may_name_a_plug_in_and_use_its_parts(
    choice_in_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"parts_{choice_in_file}".lower()
    (tmp_path / package / "configs" / "relaxation").mkdir(parents=True)
    (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / package / "configs" / "relaxation" / "sharp.yaml").write_text(f"_target_: {package}.Sharp\nfactor: 2\n")
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    choice = "defaults:\n  - override /relaxation: sharp\n" if choice_in_file else ""
    text = f"# @package _global_\n{choice}plugins: [{package}]\n"
    (tmp_path / "mine" / "experiment" / "own.yaml").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    words = ["experiment=own", *([] if choice_in_file else ["relaxation=sharp"])]
    composed = compose_config("search", words, tmp_path / "mine")
    assert composed["relaxation"] == {"_target_": f"{package}.Sharp", "factor": 2}
    assert composed["plugins"] == [package]


def test_a_run_is_called_by_its_method_unless_it_is_named() -> None:
    assert compose_config("search", ["method=gdas"])["label"] == "gdas"
    assert compose_config("search", [])["label"] == "finalists"
    assert compose_config("search", ["method=gdas", "label=mine"])["label"] == "mine"
    assert compose_config("baseline", ["baseline=genetic"])["label"] == "genetic"
