"""Prices by operation: planted ones come back, whichever operations count; the real columns are predicted."""

from __future__ import annotations

import csv
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from supernet.genotype import Genotype
from supernet.price_table import PriceTable, fitted
from supernet.spaces.cells import CellSpace

SPACE = CellSpace()
PRICE = {"none": 0.0, "skip_connect": 0.25, "nor_conv_1x1": 1.0, "nor_conv_3x3": 6.5, "avg_pool_3x3": 1.5}
DATA = Path(os.environ.get("DARTS_TEST_DATA", Path(__file__).resolve().parents[2].parent / "shared/data"))
HARDWARE = DATA / "hw-nas-bench-cifar10.csv"


def leads_on(cell: Genotype, edge: int) -> bool:
    """Whether a chain of operations other than none goes from the edge's target to node 3, tried one by one."""
    edges = [(s, t, name) for s, t, name in cell.connections]
    reached = {edges[edge][1]}
    for _ in range(4):
        reached |= {t for s, t, name in edges if s in reached and name != "none"}
    return 3 in reached


def cost(cell: Genotype, counts: str) -> float:
    """Beside 2.5 the price of every operation, one and a half times of those on the last edge."""
    total = 2.5
    for edge, name in enumerate(cell.operations):
        if counts == "all" or leads_on(cell, edge):
            total += PRICE[name] * (1.5 if edge == 5 else 1.0)
    return total


def drawn(count: int, seed: int) -> list[Genotype]:
    rng = random.Random(seed)
    return [SPACE.sample(rng) for _ in range(count)]


@pytest.mark.parametrize("counts", ["all", "needed"])
def test_planted_prices_are_recovered(counts: str, tmp_path: Path) -> None:
    cells = drawn(400, seed=0)
    table, errors = fitted(SPACE, cells, [cost(cell, counts) for cell in cells], "planted", "ms")
    assert table.counts == counts
    assert errors[counts] < 1e-9 < 0.1 < max(errors.values())
    for cell in drawn(300, seed=1):
        assert table.price(SPACE, cell) == pytest.approx(cost(cell, counts), abs=1e-9)
    for edge, row in enumerate(table.prices_EO if counts == "all" else ()):  # of needed ones only sums are decided
        over_none = [price - row[0] for price in row]
        assert over_none == pytest.approx([PRICE[n] * (1.5 if edge == 5 else 1) for n in table.candidates], abs=1e-9)
    (tmp_path / "prices.json").write_text(json.dumps(table.stored()))
    assert PriceTable.read(tmp_path / "prices.json") == table


@pytest.mark.skipif(not HARDWARE.is_file(), reason=f"no {HARDWARE}: give DARTS_TEST_DATA")
@pytest.mark.parametrize(
    ("column", "counts", "least"),
    [
        ("fpga_latency_ms", "all", 0.999), ("raspi4_latency_ms", "needed", 0.95), ("pixel3_latency_ms", "needed", 0.95),
        ("edgegpu_latency_ms", "needed", 0.95),
    ],
)  # fmt: skip
def test_measured_latencies_of_cells_left_out_are_ranked(column: str, counts: str, least: float) -> None:
    with HARDWARE.open(newline="") as stream:
        known = {row["cell"]: float(row[column]) for row in csv.DictReader(stream)}
    cells = [SPACE.parse(text) for text in random.Random(0).sample(sorted(known), 4000)]
    table, _ = fitted(SPACE, cells[:1000], [known[str(cell)] for cell in cells[:1000]], column, "ms")
    assert table.counts == counts
    foretold = [table.price(SPACE, cell) for cell in cells[1000:]]
    assert stats.spearmanr(foretold, [known[str(cell)] for cell in cells[1000:]]).statistic > least


def test_another_space_is_refused() -> None:
    cells = drawn(50, seed=0)
    table, _ = fitted(SPACE, cells, [1.0] * 50, "x", "")
    table.check(SPACE)
    with pytest.raises(ValueError, match="another space"):
        table.check(CellSpace(3))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.pop("beside"), lambda content: content.update(counts="some"),
        lambda content: content["prices_EO"].pop(), lambda content: content["prices_EO"][0].pop(),
        lambda content: content.update(beside=float("nan")), lambda content: content.update(prices_EO="x"),
    ],
)  # fmt: skip
def test_a_file_of_something_else_is_refused(spoil: object, tmp_path: Path) -> None:
    cells = drawn(50, seed=0)
    content = json.loads(json.dumps(fitted(SPACE, cells, list(np.arange(50.0)), "x", "")[0].stored()))
    spoil(content)  # type: ignore[operator]
    (tmp_path / "prices.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"prices.json holds no prices"):
        PriceTable.read(tmp_path / "prices.json")
