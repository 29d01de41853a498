"""How shared weights rank cells: depth and correlations against brute force, and the command from end to end."""

from __future__ import annotations

import csv
import itertools
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from darts.cli import main
from darts.compare.rank import Ranked, correlations, depth, drawn, summary
from supernet.spaces.cells import CellSpace

SEARCH = (
    "search", "method=plain", "dataset=fake", "dataset.images=64", "dataset.image_size=4", "data.batch_size=8",
    "network.channels=2", "monitor=[]", "oracle=none", "space.num_nodes=3", "budget.epochs=1",
)  # fmt: skip


def test_depth_is_the_longest_path() -> None:
    """Over all paths of the text's own edges, for cells drawn at random and for the extremes."""
    space, rng = CellSpace(), random.Random(0)
    all_of = "|{0}~0|+|{0}~0|{0}~1|+|{0}~0|{0}~1|{0}~2|"
    texts = [str(space.sample(rng)) for _ in range(300)]
    texts += [all_of.format(name) for name in ("none", "skip_connect", "nor_conv_1x1", "avg_pool_3x3")]
    for text in texts:
        edges = {
            (int(source), target): name
            for target, node in enumerate(text.split("+"), start=1)
            for name, source in re.findall(r"(\w+)~(\d)", node)
        }
        lengths = [-1]
        for between in itertools.chain([()], [(1,)], [(2,)], [(1, 2)]):
            way = list(itertools.pairwise((0, *between, 3)))
            if all(edges[pair] != "none" for pair in way):
                lengths.append(sum("conv" in edges[pair] for pair in way))
        assert depth(space, space.parse(text)) == max(lengths), text
    assert [depth(space, space.parse(text)) for text in texts[-4:]] == [-1, 0, 3, 0]


def test_correlations_are_scipy_s_and_their_intervals_hold_the_truth() -> None:
    """Of a bivariate normal distribution tau is 2/pi asin(rho) (Kruskal 1958): covered in nearly all of 30 samples."""
    rng, rho, covered = np.random.default_rng(0), 0.7, 0
    for _ in range(30):
        x = rng.normal(size=60)
        y = rho * x + (1 - rho**2) ** 0.5 * rng.normal(size=60)
        found = correlations(x.tolist(), y.tolist())
        assert found["kendall"]["value"] == pytest.approx(stats.kendalltau(x, y).statistic)
        assert found["spearman"]["value"] == pytest.approx(stats.spearmanr(x, y).statistic)
        assert found["kendall"]["low"] < found["kendall"]["value"] < found["kendall"]["high"]
        covered += found["kendall"]["low"] <= 2 / np.pi * np.arcsin(rho) <= found["kendall"]["high"]
    assert covered >= 25
    assert correlations([1, 2, 3], [10, 20, 30])["kendall"]["value"] == 1.0
    assert correlations([1, 1, 1], [10, 20, 30])["kendall"] is None


def test_cells_are_drawn_once_each() -> None:
    space = CellSpace(num_nodes=2)
    assert sorted(map(str, drawn(space, 200, 0))) == sorted({str(cell) for cell in drawn(space, 5, 1)})
    many = [str(cell) for cell in drawn(CellSpace(), 200, 3)]
    assert len(set(many)) == 200
    assert many == [str(cell) for cell in drawn(CellSpace(), 200, 3)]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Accuracies of all 125 cells of three nodes."""
    path, rng = tmp_path_factory.mktemp("table") / "toy.csv", random.Random(5)
    names = CellSpace(num_nodes=3).candidates
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["cell", "cifar10_test_200"])
        for a, b, c in itertools.product(names, repeat=3):
            writer.writerow([f"|{a}~0|+|{b}~0|{c}~1|", round(rng.uniform(10, 90), 3)])
    return path


@pytest.mark.usefixtures("pictures")
def test_the_command_from_a_search_to_a_picture(table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*SEARCH, f"run_dir={tmp_path / 'run'}"]) == 0
    capfd.readouterr()
    words = ["rank", f"run={tmp_path / 'run'}", f"oracle.path={table}", "cells=40", f"run_dir={tmp_path / 'rank'}"]
    assert main(words) == 0
    out = capfd.readouterr().out
    content = json.loads((tmp_path / "rank/rank.json").read_text())
    cells = content["cells"]
    assert len(cells) == len({one["cell"] for one in cells}) == 40
    with table.open() as stream:
        truth = {row["cell"]: float(row["cifar10_test_200"]) for row in csv.DictReader(stream)}
    assert all(one["truth"] == truth[one["cell"]] for one in cells)
    values = [one["value"] for one in cells]
    expected = stats.kendalltau(values, [one["truth"] for one in cells]).statistic
    assert content["correlations"]["all"]["value"]["kendall"]["value"] == pytest.approx(expected)
    assert content["correlations"]["top tenth"]["value"]["cells"] == 4
    assert f"{expected:.2f}" in out
    for words_of in ("shared weights", "depth alone", "parameters alone", "rank.png"):
        assert words_of in out
    assert (tmp_path / "rank/figures/rank.png").stat().st_size > 5_000
    first = (tmp_path / "rank/rank.json").read_text()
    assert main(words) == 0
    assert (tmp_path / "rank/rank.json").read_text() == first, "the same seed, the same figures"
    cell = cells[0]["cell"]
    same = ["baseline", "baseline=grid_search", "evaluator=supernet", f"evaluator.run={tmp_path / 'run'}"]
    same += ["space.num_nodes=3", f"oracle.path={table}", "seeds=0", "budget.evaluations=125"]
    assert main([*same, f"run_dir={tmp_path / 'grid'}"]) == 0
    with (tmp_path / "grid/evaluations.csv").open() as stream:
        seen = {row["cell"]: float(row["value"]) for row in csv.DictReader(stream)}
    assert seen[cell] == pytest.approx(cells[0]["value"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "run: darts rank needs the folder of a search; give run=RUN_DIR"),
        (["run=RUN", "cells=1"], "cells: got 1; give 2 or more"),
        (["run=RUN", "truth=cifar10"], "truth"),
        (["run=RUN", "oracle=none"], "oracle: a ranking needs known accuracies; give oracle.path=TABLE"),
        (["run=NOWHERE"], "run: "),
    ],
)
def test_what_cannot_be_ranked_is_said(
    words: list[str], message: str, table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*SEARCH, f"run_dir={tmp_path / 'RUN'}"]) == 0
    capfd.readouterr()
    oracle = [] if "oracle=none" in words else [f"oracle.path={table}"]
    named = [word.replace("=RUN", f"={tmp_path / 'RUN'}") for word in words]
    assert main(["rank", *oracle, *named, f"run_dir={tmp_path / 'rank'}"]) == 2
    assert message in capfd.readouterr().err
    assert not (tmp_path / "rank").exists()


def test_groups_of_cells() -> None:
    cells = [Ranked(str(k), float(k), 10 * k, k % 4 - 1, 100.0 - k) for k in range(40)]
    found = summary(cells)
    assert found["all"]["value"]["kendall"]["value"] == -1.0
    assert found["top tenth"]["value"]["cells"] == 4
    assert found["living"]["depth"]["cells"] == 30
