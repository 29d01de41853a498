"""`darts baseline` and `darts compare` as users run them: real processes, a made-up table, kills, a real browser."""

from __future__ import annotations

import csv
import json
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from scipy import stats
from tables import write_table

from darts.blackbox.result import BaselineResult
from darts.cli import main
from darts.compare.load import load
from darts.oracle.base import BENCHMARK, Column
from darts.oracle.csv import CsvOracle
from supernet.spaces.cells import CellSpace
from tests.compared import left_alone

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("table") / "made.csv")


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The command in this process, which saves its start; from an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        status = main([str(word) for word in words])
        return subprocess.CompletedProcess(words, status, *capsys.readouterr())

    return run


def result(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return content


@pytest.mark.usefixtures("pictures")
def test_a_run_leaves_a_result_its_config_and_a_picture(darts: Run, table: Path, tmp_path: Path) -> None:
    words = ["baseline", f"oracle.path={table}", "seeds=[0-2,7]", "budget.evaluations=120"]
    done = darts(*words, "run_dir=one")
    assert done.returncode == 0, done.stderr
    assert "regularized_evolution, 4 runs of 120 evaluations" in done.stdout
    assert "known accuracy" in done.stdout
    content = result(tmp_path / "one")
    assert (content["kind"], content["label"]) == ("baseline", "regularized_evolution")
    assert [run["seed"] for run in content["runs"]] == [0, 1, 2, 7]
    with table.open(newline="") as stream:
        known = {row["cell"]: row for row in csv.DictReader(stream)}
    for run in content["runs"]:
        assert run["evaluations"] == 120
        signals = [point["signal"] for point in run["trajectory"]]
        assert signals == sorted(signals)
        for point in run["trajectory"]:
            assert point["signal"] == float(known[point["cell"]]["cifar10_valid_200"])
            assert point["truth"] == float(known[point["cell"]]["cifar10_test_200"])
    assert yaml.safe_load((tmp_path / "one/config.yaml").read_text())["budget"] == {"evaluations": 120}
    assert (tmp_path / "one/figures/trajectory.png").read_bytes()[:4] == b"\x89PNG"
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["config.yaml", "figures", "result.json"]
    darts(*words, "run_dir=two")
    again = result(tmp_path / "two")
    assert {**again, "seconds": 0} == {**content, "seconds": 0}
    assert BaselineResult.read(tmp_path / "one/result.json").runs[3].seed == 7


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(console: list[str], darts: Run, table: Path, tmp_path: Path) -> None:
    words = ["baseline", f"oracle.path={table}", "seeds=0-11", "baseline=predictor", "budget.evaluations=40"]
    words += ["baseline.trees=3", "baseline.children=20"]
    whole = darts(*words, "run_dir=whole")
    assert whole.returncode == 0, whole.stderr
    command = [*console, *words, "run_dir=killed"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    file = tmp_path / "killed/runs.jsonl"
    while not (file.is_file() and file.read_text().count("\n") >= 2):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    lines = file.read_text()
    file.write_text(lines + '{"seconds": 1, "seed": 11, "traj')  # torn by the kill
    refused = darts("baseline", "resume=killed", "seeds=0-9")
    assert refused.returncode == 2
    assert "seeds: a resumed run keeps its settings" in refused.stderr
    done = darts("baseline", "resume=killed")
    assert done.returncode == 0, done.stderr
    assert {**result(tmp_path / "killed"), "seconds": 0} == {**result(tmp_path / "whole"), "seconds": 0}
    assert not file.exists()
    assert "40 evaluations" in darts("baseline", "resume=killed").stdout


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster that lives longer than what runs on it."""
    found = pytest.importorskip("ray.cluster_utils", reason="Ray is an extra")
    running = found.Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield running.address
    running.shutdown()


@pytest.mark.slow
def test_candidates_on_a_cluster_by_its_address_give_the_same_run(cluster: str, darts: Run, tmp_path: Path) -> None:
    words = ["baseline", "baseline=regularized_evolution", "baseline.population=3", "baseline.sample=2", "seeds=[0]"]
    words += ["evaluator=train", "evaluator.lengths=[1]", "evaluator.batch_size=16", "evaluator.channels=2"]
    words += ["budget.evaluations=6", "dataset=fake", "dataset.images=96", "oracle=none", "evaluator.workers=2"]
    here = darts(*words, "evaluator.executor=process", "run_dir=here")
    there = darts(*words, "evaluator.executor=ray", f"ray_address={cluster}", "run_dir=there")
    for done in (here, there):
        assert done.returncode == 0, done.stderr
    mine, theirs = (left_alone(result(tmp_path / name)) for name in ("here", "there"))
    for content in (mine, theirs):
        content["evaluator"].pop("executor", None)
    assert mine == theirs


def test_an_interrupted_run_says_how_to_go_on(console: list[str], table: Path, tmp_path: Path) -> None:
    words = ["baseline", f"oracle.path={table}", "seeds=0-99", "baseline=predictor", "run_dir=it's mine"]
    words += ["budget.evaluations=60", "baseline.trees=5"]
    process = subprocess.Popen(
        [*console, *words], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "it's mine/runs.jsonl").is_file():
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "darts baseline 'resume=it'\"'\"'s mine'" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["budget.evaluations=50", "baseline.population=100"],
            "baseline.population: got 100 with budget.evaluations=50; give population at most",
        ),
        (
            ["evaluator.signal=cifar100/valid/200"],
            "evaluator.signal: table made has no column cifar100/valid/200; it",
        ),
        (["evaluator.truth=cifar10/test/12"], "evaluator.truth: table made has no column cifar10/test/12"),
        (["baseline.population=x"], "baseline.population: got 'x'; give a whole number or null"),
        (["seeds=0-x"], "seeds: got '0-x'; give a number, a range such as 0-499"),
        (["seeds=[1,0-3]"], "seeds: got [1, '0-3'], which names a seed twice"),
        (["baseline=nothing"], "baseline: got 'nothing'; allowed are bohb, genetic, given, gp"),
        (["baseline.size=3"], "unknown option 'baseline.size'"),
        (["budget.evaluations=0"], "budget.evaluations: got 0; give 1 to 1,562,500, 100 times the 15,625 cells"),
        (["budget.evaluations=99999999999"], "budget.evaluations: got 99,999,999,999; give 1 to 1,562,500"),
        (["seeds=0-99999999999"], "seeds: got '0-99999999999'; give 1,000,000 seeds or fewer"),
        (["engine.threads=100000"], "engine.threads: got 100000; give 1 to "),
        (["budget.evaluations=1.5"], "budget.evaluations: got 1.5; give a whole number"),
        (["budget.evaluations=many", "isomorphic_cache=maybe"], "budget.evaluations: got 'many'; give a whole number"),
        (["budget.evaluations=many", "isomorphic_cache=maybe"], "\nisomorphic_cache: got 'maybe'; give true or false"),
        (["run_dir="], "run_dir: got an empty name; give a folder, or leave it out for outputs/baseline/DATE/TIME"),
        (["space.num_nodes=3"], "got 4 nodes, the space has 3; give an intact file, or another space="),
        (["baseline=hyperband", "evaluator.signal=cifar10/valid/12"], "several lengths of training"),
        (["resume=nowhere"], "nowhere is no run folder"),
    ],
)
def test_mistakes_end_in_one_message(here: Run, table: Path, tmp_path: Path, words: list[str], message: str) -> None:
    given = words if words[0].startswith("resume") else [f"oracle.path={table}", "run_dir=run", *words]
    done = here("baseline", *given)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_without_a_table_it_says_which_option_gives_one(here: Run, tmp_path: Path) -> None:
    done = here("baseline", "oracle=none")
    assert done.returncode == 2
    assert "give oracle.path=FILE.csv" in done.stderr
    (tmp_path / "part.csv").write_text("cell,cifar10_valid_200\n" + f"{CellSpace().genotype(0)},1\n")
    done = here("baseline", "oracle.path=part.csv")
    assert done.returncode == 2
    assert "it needs each of the 15625 cells once" in done.stderr


def test_scores_without_training_are_searched_and_judged(here: Run, table: Path, tmp_path: Path) -> None:
    words = ["baseline", "baseline=random_search", "evaluator=zero_cost", "evaluator.channels=2", "evaluator.cells=1"]
    words += ["evaluator.batch_size=8", "evaluator.proxy=synflow", "budget.evaluations=6", "seeds=3"]
    done = here(*words, f"oracle.path={table}", "run_dir=with")
    assert done.returncode == 0, done.stderr
    content = result(tmp_path / "with")
    assert content["truth"] == "cifar10/test/200"
    assert content["evaluator"]["batch"] == "8 images of digits"
    assert content["runs"][0]["cost"] == pytest.approx(6 * 8 / 5e6)
    seconds = content["seconds"]["runs"][0]
    assert seconds == sorted(seconds)
    assert len(seconds) == len(content["runs"][0]["trajectory"]) + 1
    rows = list(csv.DictReader((tmp_path / "with/evaluations.csv").read_text().splitlines()))
    assert len({row["cell"] for row in rows}) == content["rank_correlation"]["cells"] == 6
    ranks = stats.spearmanr([float(row["value"]) for row in rows], [float(row["truth"]) for row in rows]).statistic
    assert content["rank_correlation"]["spearman"] == pytest.approx(ranks)
    assert "rank correlation" in done.stdout
    assert here("compare", "with", "axis=seconds", "run_dir=compared").returncode == 0
    assert here(*words, "oracle=none", "run_dir=without").returncode == 0
    assert result(tmp_path / "without")["truth"] is None
    wrong = here(*words, f"oracle.path={table}", "evaluator.truth=cifar100/test/200", "run_dir=wrong")
    assert wrong.returncode == 2
    assert "evaluator.truth: table made has no column cifar100/test/200" in wrong.stderr


def test_a_signal_that_is_the_truth_is_said_loudly(here: Run, table: Path, tmp_path: Path) -> None:
    same = "evaluator.signal=cifar10/test/200"
    done = here("baseline", f"oracle.path={table}", "baseline=random_search", same, "run_dir=run")
    assert done.returncode == 0
    assert "WARNING" in done.stdout
    assert "saw what they are judged by" in done.stdout
    here("compare", "run", "run_dir=compared", "oracle=none")
    assert "it saw what it is judged by" in (tmp_path / "compared/report.html").read_text()


# --- Comparing


@pytest.fixture(scope="module")
def runs(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of three methods, one of them twice with other settings, and one search."""
    folder = tmp_path_factory.mktemp("runs")
    common = [f"oracle.path={table}", "budget.evaluations=40", "seeds=0-11"]
    for name, words in {
        "random": ["baseline=random_search"],
        "wide": ["baseline.population=20", "baseline.sample=3"],
        "narrow": ["baseline.population=5", "baseline.sample=3"],
        "hyper": ["baseline=hyperband"],
    }.items():
        assert main(["baseline", *common, *words, f"run_dir={folder / name}"]) == 0
    tiny = [
        "dataset=fake",
        "network.channels=2",
        "budget.epochs=2",
        "method=plain",
        "monitor=[]",
        f"oracle.path={table}",
    ]
    assert main(["search", *tiny, f"run_dir={folder / 'search'}"]) == 0
    return folder


class Page(HTMLParser):
    """The tags of a page and everything that it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action") and value and value[0] != "#":
                self.fetched.append(value)


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "compare.csv").open(newline="") as stream:
        return {row["method"]: row for row in csv.DictReader(stream)}


def test_any_mixture_of_runs_is_compared(here: Run, table: Path, runs: Path, tmp_path: Path) -> None:
    done = here("compare", runs, "run_dir=out", f"oracle.path={table}")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out")
    header = list(next(iter(rows.values())))
    expected = "method,runs,truth_mean,truth_low,truth_high,rank,cost,p_better_than_random"
    assert ",".join(header).startswith(expected)
    assert set(rows) == {
        "random_search",
        "hyperband",
        "regularized_evolution (population=20)",
        "regularized_evolution (population=5)",
        "Softmax, FirstOrder",
    }
    random_search, narrow = rows["random_search"], rows["regularized_evolution (population=5)"]
    truths = [run["trajectory"][-1]["truth"] for run in result(runs / "narrow")["runs"]]
    others = [run["trajectory"][-1]["truth"] for run in result(runs / "random")["runs"]]
    assert float(narrow["truth_mean"]) == pytest.approx(sum(truths) / 12)
    pairs = [(a > b) + 0.5 * (a == b) for a in truths for b in others]
    assert float(narrow["p_better_than_random"]) == pytest.approx(sum(pairs) / 144)
    assert random_search["p_better_than_random"] == ""
    assert float(random_search["truth_low"]) < float(random_search["truth_mean"]) < float(random_search["truth_high"])
    assert (rows["Softmax, FirstOrder"]["cost"], rows["Softmax, FirstOrder"]["runs"]) == ("", "1")
    assert rows["hyperband"]["notes"] == ""
    for name in ("anytime", "regret", "boxes", "space"):
        assert (tmp_path / f"out/figures/{name}.svg").read_text().startswith("<svg")
    page = Page((tmp_path / "out/report.html").read_text())
    assert page.tags.count("svg") == 4 + 5 + 2 * 5  # pictures, cells, and lines of two legends
    assert [address for address in page.fetched if not address.startswith("data:")] == []
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", (tmp_path / "out/report.html").read_text())
    first = undated(tmp_path / "out/report.html")
    here("compare", runs, "run_dir=out", f"oracle.path={table}")
    assert undated(tmp_path / "out/report.html") == first


def undated(page: Path) -> str:
    """Its text without the minute in which it was made."""
    text, dates = re.subn(r"\d{4}-\d\d-\d\d \d\d:\d\d</dd>", "</dd>", page.read_text())
    assert dates
    return text


def test_what_a_stop_between_the_result_and_its_report_left_out_is_completed(
    here: Run, runs: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(runs / "search", tmp_path / "killed")
    whole = result(folder)
    assert whole["oracle"]["same_cost"] >= 100
    (folder / "result.json").write_text(json.dumps(whole | {"oracle": None}))
    for picture in ("alphas.png", "cell.png"):
        (folder / "figures" / picture).unlink()
    done = here("search", "resume=killed")
    assert done.returncode == 0, done.stderr
    assert "known accuracy is of CIFAR-10, table made" in done.stdout
    assert result(folder) == whole
    assert {path.name for path in (folder / "figures").iterdir()} >= {"alphas.png", "progress.png", "cell.png"}


def test_searches_without_a_table_are_compared_by_their_own_numbers(here: Run, table: Path, tmp_path: Path) -> None:
    tiny = ["dataset=fake", "network.channels=2", "budget.epochs=2", "method=plain", "monitor=[]", "oracle=none"]
    for name, words in {"slow": ["seed=0"], "again": ["seed=1"], "fast": ["seed=0", "arch_step.lr=0.1"]}.items():
        assert here("search", *tiny, *words, f"run_dir=runs/{name}").returncode == 0
    done = here("compare", "runs", "run_dir=out", "oracle=none")
    assert done.returncode == 0, done.stderr
    assert "no table knows these cells" in done.stdout
    rows = {row["truth_best"]: row for row in rows_of(tmp_path / "out").values()}
    found = {name: result(tmp_path / "runs" / name) for name in ("slow", "again", "fast")}
    assert float(max(rows, key=float)) == max(content["supernet_valid_accuracy"] for content in found.values())
    (pair,) = (row for row in rows.values() if row["runs"] == "2")
    both = [found[name]["supernet_valid_accuracy"] for name in ("slow", "again")]
    assert float(pair["truth_mean"]) == pytest.approx(sum(both) / 2)
    assert pair["measure"] == "supernet accuracy on fake"
    assert 0 <= float(pair["truth_low"]) < float(pair["truth_high"]) <= 100
    cells = [
        found[name]["cell"].replace("+", "").strip("|").replace("||", "|").split("|") for name in ("slow", "again")
    ]
    alike = sum(one == other for one, other in zip(*cells, strict=True))
    assert float(pair["agreement"]) == pytest.approx((alike + 0.5 * (6 - alike)) / 6)
    assert "their own" in (tmp_path / "out/report.html").read_text()
    assert here("compare", "runs", "run_dir=out", f"oracle.path={table}").returncode == 0, "a table can be given later"
    assert {row["measure"] for row in rows_of(tmp_path / "out").values()} == {"cifar10/test/200"}


@pytest.mark.parametrize("name", ["../../../escape", "/tmp/escape", "", " ", ".", "..", "a/b", "a\\b"])
def test_a_study_stays_in_its_folder(name: str, here: Run, table: Path, tmp_path: Path) -> None:
    (tmp_path / "mine/experiment").mkdir(parents=True)
    study = {"common": ["budget.evaluations=5"], "study": {name: ["baseline=random_search"]}}
    (tmp_path / "mine/experiment/odd.yaml").write_text("# @package _global_\n" + yaml.safe_dump(study))
    done = here(
        "compare", "experiment=odd", "--config-dir", "mine", f"oracle.path={table}", "run_dir=a/b/c/out", "seeds=0"
    )
    assert done.returncode == 2, done.stdout
    assert f"study: got the name {name!r}" in done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("mine", "a")] == []
    assert not list(tmp_path.rglob("result.json"))


def test_a_file_that_cannot_be_written_is_a_message(here: Run, runs: Path, tmp_path: Path) -> None:
    """Files of more than 40,000 bytes fail, as on a full disk: the page is larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        done = here("compare", runs / "random", "run_dir=out", "oracle=none")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "File too large; what was complete before is kept" in done.stderr
    assert not [path for path in (tmp_path / "out").rglob("*") if path.suffix == ".html" or "tmp" in path.name]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("random", {"runs": []}), ("search", {"history": []}), ("search", {"params": "NaN"}),
        ("search", {"cell": "|x|", "oracle": None}), ("search", {"history": [{"step": 1, "cell": "|x|"}]}),
    ],
)  # fmt: skip
def test_results_that_hold_something_else_are_refused(
    name: str, change: dict[str, Any], here: Run, runs: Path, table: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(runs / name, tmp_path / "odd")
    (folder / "result.json").write_text(json.dumps(result(folder) | change))
    done = here("compare", folder, "run_dir=out", f"oracle.path={table}")
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stderr
    assert "odd/result.json" in done.stderr


def test_folders_of_images_of_one_name_are_told_apart(here: Run, tmp_path: Path) -> None:
    for seed, place in enumerate(("one", "other")):
        for name in ("cat", "dog"):
            (tmp_path / place / "photos/train" / name).mkdir(parents=True)
            for number in range(8):
                picture = Image.new("RGB", (4, 4), (20 * number, 9, 99))
                picture.save(tmp_path / place / f"photos/train/{name}/{number}.png")
        done = here(
            "search", "dataset=image_folder", f"dataset.root={place}/photos", "dataset.name=photos", f"seed={seed}",
            "dataset.image_size=4", "data.batch_size=4", "method=plain", "network.channels=2", "budget.steps=1",
            "monitor=[]", "oracle=none",
            f"run_dir=runs/{place}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert here("compare", "runs", "run_dir=out", "oracle=none").returncode == 0
    rows = rows_of(tmp_path / "out")
    assert [row["runs"] for row in rows.values()] == ["1", "1"]
    assert set(rows) == {f"Softmax, FirstOrder (root={place}/photos)" for place in ("one", "other")}


def test_runs_of_other_seeds_are_of_one_method(here: Run, table: Path, tmp_path: Path) -> None:
    for seeds in ("2-3", "0-1"):
        here("baseline", "baseline=random_search", "budget.evaluations=10", f"seeds={seeds}", f"oracle.path={table}",
             f"run_dir=runs/{seeds}")  # fmt: skip
    content = result(tmp_path / "runs/0-1")
    content["runs"][0]["failed"] = 3
    (tmp_path / "runs/0-1/result.json").write_text(json.dumps(content))
    assert here("compare", "runs", "runs/0-1", "run_dir=out", "oracle=none").returncode == 0, (
        "a folder given twice counts once"
    )
    row = rows_of(tmp_path / "out")["random_search"]
    assert (row["runs"], row["failed"]) == ("4", "3")
    ends = [run["trajectory"][-1] for name in ("0-1", "2-3") for run in result(tmp_path / "runs" / name)["runs"]]
    assert row["best_cell"] == max(ends, key=lambda end: end["truth"])["cell"]


def test_every_cell_of_a_search_stands_where_it_was_found(table: Path, runs: Path) -> None:
    oracle = CsvOracle(str(table))
    known = oracle.load(BENCHMARK)
    (method,) = load([runs / "search"], Column("cifar10", "test", 200), oracle).methods
    content, (trial,) = json.loads((runs / "search/result.json").read_text()), method.trials
    assert [place for place, _ in trial.curve["images"]] == [content["images"] / 2, content["images"]]
    cells = [known.space.parse(record["cell"]) for record in content["history"]]
    assert [truth for _, truth in trial.curve["images"]] == [
        known.value(cell, "cifar10", "test", 200) for cell in cells
    ]


def test_cells_are_not_marked_in_another_table(here: Run, runs: Path, tmp_path: Path) -> None:
    other = write_table(tmp_path / "other.csv", seed=1)
    assert here("compare", runs / "random", "run_dir=out", f"oracle.path={other}").returncode == 0
    assert not (tmp_path / "out/figures/space.svg").exists()


def test_one_run_alone_is_a_comparison_too(here: Run, runs: Path, tmp_path: Path) -> None:
    done = here("compare", runs / "random", "run_dir=out", "axis=evaluations", "oracle=none")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out/figures").iterdir()) == ["anytime.svg", "boxes.svg"]


@pytest.mark.slow
def test_a_study_is_run_once_and_compared(here: Run, table: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine/experiment"
    own.mkdir(parents=True)
    (own / "small.yaml").write_text(
        "# @package _global_\n# darts compare: two small ones.\ncommon: [budget.evaluations=30]\n"
        "study:\n  chance: [baseline=random_search]\n  climbing: [baseline=local_search]\n"
    )
    words = ["compare", "experiment=small", "--config-dir", "mine", "seeds=0-10", f"oracle.path={table}", "run_dir=out"]
    done = here(*words)
    assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path / "out")["climbing"]["runs"] == "11"
    assert rows_of(tmp_path / "out")["climbing"]["p_better_than_random"] != ""
    before = (tmp_path / "out/runs/chance/result.json").stat().st_mtime_ns
    (tmp_path / "out/runs/climbing/result.json").unlink()
    assert here(*words).returncode == 0
    assert (tmp_path / "out/runs/chance/result.json").stat().st_mtime_ns == before
    wrong = here("search", "experiment=all_baselines")
    assert wrong.returncode == 2
    assert "there is no such file" in wrong.stderr or "allowed are" in wrong.stderr


PATIENT = """
import time
from pathlib import Path

from darts.blackbox.methods.random_search import RandomSearch


class Patient(RandomSearch):
    def setup(self):
        with Path("begun").open("a") as stream:
            stream.write("x")

    def propose(self):
        if Path("hold").exists() and Path("begun").read_text().count("x") == 4:
            Path("held").touch()
            while Path("hold").exists():
                time.sleep(0.01)
        return super().propose()
"""


@pytest.mark.slow
@pytest.mark.parametrize("plugins", ["in the words", "in the file"])
def test_an_interrupted_study_with_parts_of_ones_own_goes_on_by_the_same_words(
    plugins: str, console: list[str], here: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The method comes from a plug-in, its settings and the study from a folder of one's own."""
    (tmp_path / "packages/patience").mkdir(parents=True)
    (tmp_path / "packages/patience/__init__.py").write_text(PATIENT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    by_words = plugins == "in the words"
    study = "study:\n  first: [baseline=patient]\n  second: [baseline=patient, budget.evaluations=20]\n"
    named = "" if by_words else "plugins: [patience]\n"
    for name, text in {
        "baseline/patient.yaml": "_target_: patience.Patient\n",
        "experiment/ours.yaml": f"# @package _global_\ncommon: [budget.evaluations=30]\n{study}{named}",
    }.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True)
        (tmp_path / "mine" / name).write_text(text)
    words = [*console, "compare", "experiment=ours", "--config-dir", str(tmp_path / "mine"), "seeds=0-4", "run_dir=out"]
    words += [f"oracle.path={table}", *["plugins=[patience]"] * by_words]

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    stopped.mkdir()
    (stopped / "hold").touch()
    process = subprocess.Popen(words, cwd=stopped, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (stopped / "held").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    (stopped / "hold").unlink()
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 130, errors
    assert "first was interrupted after 2 of 5 seeds; the same words with run_dir=out go on" in errors
    assert "Traceback" not in errors
    assert [path.name for path in (stopped / "out/runs").iterdir()] == ["first"]
    assert (stopped / "out/runs/first/runs.jsonl").read_text().count("\n") == 2
    (stopped / "begun").unlink()

    if by_words:
        refused = here(*words[len(console) : -1], f"run_dir={stopped / 'out'}")
        assert refused.returncode == 2
        assert "if it is your own package, name it with plugins=[patience]" in refused.stderr

    monkeypatch.syspath_prepend(tmp_path / "packages")
    for folder in (stopped, whole):
        monkeypatch.chdir(folder)
        done = here(*words[len(console) :])
        assert done.returncode == 0, done.stderr
    assert len((stopped / "begun").read_text()) == (1 + 3) + (1 + 5), "seeds that were done are not run once more"
    for name in ("first", "second"):
        ended = [result(folder / "out/runs" / name) for folder in (whole, stopped)]
        for content in ended:
            content["seconds"] = content["versions"] = None  # of the libraries that other tests loaded, too
        assert ended[0] == ended[1]
        assert len(ended[0]["runs"]) == 5
    assert (stopped / "out/compare.csv").read_text() == (whole / "out/compare.csv").read_text()


def test_runs_that_do_not_go_together_are_refused(here: Run, table: Path, runs: Path, tmp_path: Path) -> None:
    def refused(*words: object) -> str:
        done = here("compare", *words, "run_dir=out", "oracle=none")
        assert done.returncode == 2, done.stdout
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "needs run folders" in refused()
    assert "there is no such folder" in refused("nowhere")
    (tmp_path / "empty").mkdir()
    assert "holds no result.json" in refused("empty")
    broken = tmp_path / "broken"
    shutil.copytree(runs / "random", broken)
    text = (broken / "result.json").read_text()
    (broken / "result.json").write_text(text[: len(text) // 2])
    assert "cannot be read" in refused(runs / "wide", broken)
    other = write_table(tmp_path / "other.csv", seed=1)
    short = ["baseline", "baseline=random_search", "budget.evaluations=10", "seeds=0-1"]
    here(*short, f"oracle.path={other}", "run_dir=elsewhere")
    assert "different tables of known accuracies" in refused(runs / "random", "elsewhere")
    here(*short, f"oracle.path={table}", "evaluator.truth=cifar10/valid/200", "run_dir=judged")
    assert "these runs know no accuracy in common" in refused(runs / "random", "judged")
    assert "its truth is cifar10/valid/200, not cifar10/test/200" in refused("judged", "truth=cifar10/test/200")
    assert here("compare", runs / "random", "judged", "run_dir=both", f"oracle.path={table}").returncode == 0, (
        "the table knows what the second run was not looked up for"
    )
    assert "seed 0 is there twice" in refused(runs / "random", shutil.copytree(runs / "random", tmp_path / "copy"))
    assert "darts: axis: got 'money'; allowed are auto, cost, evaluations, images, seconds" in refused(
        runs, "axis=money"
    )
    assert "does not know its seconds" in refused(runs, "axis=seconds")
    assert "darts: truth: got 'test'" in refused(runs, "truth=test")


def test_the_folder_of_a_run_is_not_overwritten_by_a_comparison(here: Run, runs: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(runs / "random", tmp_path / "mine")
    before = {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()}
    done = here("compare", mine, f"run_dir={mine}", "oracle=none")
    assert done.returncode == 2
    assert "mine/config.yaml is no config of darts compare; give a folder that darts compare made" in done.stderr
    assert {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()} == before


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: install Debian's package chromium")
def test_the_page_works_in_a_real_browser(here: Run, table: Path, runs: Path, tmp_path: Path) -> None:
    """It loads without a word on the console, a press on a heading sorts, one on a name hides its curve in both views,
    a hint says what is wider than the screen, and what it shows is not blank."""
    from matplotlib.image import imread

    assert here("compare", runs, "run_dir=out", f"oracle.path={table}").returncode == 0
    page = (tmp_path / "out/report.html").read_text()
    press = "<script>document.querySelectorAll('th button')[{place}].click();</script></body>"
    flags = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
    flags += ["--v=0", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000"]

    def opened(text: str, *words: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "page.html").write_text(text)
        return subprocess.run(
            [*map(str, flags), *words, f"file://{tmp_path / 'page.html'}"],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip

    def methods(text: str) -> list[str]:
        body = text[text.index("<tbody>") : text.index("</tbody>")]
        return re.findall(r'<tr>\s*<td data-value="([^"]*)"', body)

    plain = opened(page, "--dump-dom")
    assert "CONSOLE" not in plain.stderr
    assert len(methods(plain.stdout)) == 5
    by_name = opened(page.replace("</body>", press.format(place=0)), "--dump-dom").stdout
    assert methods(by_name) == sorted(methods(by_name))
    twice = press.format(place=0).replace("</body>", "") + press.format(place=0)
    assert methods(opened(page.replace("</body>", twice), "--dump-dom").stdout) == sorted(
        methods(by_name), reverse=True
    )

    def hidden(text: str) -> list[str]:
        return re.findall(r'<g id="([a-z]+-line-\d+)" style="display: none', text)

    def press_curve(curve: str) -> str:
        return f"<script>document.querySelector('[data-curve=\"{curve}\"]').click();</script></body>"

    assert hidden(plain.stdout) == []
    pressed = opened(page.replace("</body>", press_curve("1")), "--dump-dom").stdout
    assert hidden(pressed) == ["anytime-line-1", "regret-line-1"]
    assert len(re.findall(r'data-curve="1" aria-pressed="false"', pressed)) == 2
    assert len(hidden(opened(page.replace("</body>", press_curve("all")), "--dump-dom").stdout)) == 2 * 5
    hints = re.compile(r'<p class="hint" style="display: (\w+)')
    narrow = opened(page, "--dump-dom", "--window-size=400,2400").stdout
    assert hints.findall(narrow).count("block") > hints.findall(plain.stdout).count("block")
    for name, size in (("wide", "1000,2400"), ("phone", "400,2400")):
        picture = tmp_path / f"{name}.png"
        opened(page, f"--screenshot={picture}", f"--window-size={size}")
        pixels = imread(picture)[..., :3]
        assert pixels.shape[:2] == (2400, int(size.split(",")[0]))
        assert 0.01 < (abs(pixels - pixels[0, 0]).sum(-1) > 0.1).mean() < 0.7
