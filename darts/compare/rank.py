"""How a cheap value ranks cells, beside what is known of them.

Shape suffixes: N cells, R resamples.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from darts.oracle.base import Column, Table
from supernet.cost import edge_cost
from supernet.size import NetworkSize
from supernet.spaces.base import LEFT_OUT, Genotype, Space

RESAMPLES = 500
Array = NDArray[np.float64]
TOP = 0.1  # share of the cells, by known accuracy


@dataclass(frozen=True)
class Ranked:
    """One cell.

    Attributes:
        cell: its text.
        value: the cheap one, more is better.
        params: of its network in the benchmark.
        depth: most operations with weights on a way from an input to the output; -1 where nothing comes through.
        truth: what is known of it.
    """

    cell: str
    value: float
    params: int
    depth: int
    truth: float


def drawn(space: Space, count: int, seed: int) -> list[Genotype]:
    """So many different genotypes, uniformly; all there are, if they are fewer."""
    rng = random.Random(seed)
    found: dict[str, Genotype] = {}
    for _ in range(100 * count):
        if len(found) == min(count, space.size or count):
            break
        genotype = space.sample(rng)
        found.setdefault(str(genotype), genotype)
    return list(found.values())


def depth(space: Space, genotype: Genotype) -> int:
    """Most operations with weights on a way from an input to the output of any kind of cell; -1 if there is none."""
    size, path_E, best = NetworkSize(), list(space.path(genotype)), -1
    for cell in space.cells.values():
        choices, path_E = path_E[: len(cell.edges)], path_E[len(cell.edges) :]
        reached = [0] * cell.inputs + [-1] * (cell.num_nodes - cell.inputs)
        for (source, target), choice in zip(cell.edges, choices, strict=True):  # ordered by target
            name = space.operation(choice)
            if choice != LEFT_OUT and name != "none" and reached[source] >= 0:
                reached[target] = max(reached[target], reached[source] + (edge_cost(name, size).params > 0))
        best = max(best, reached[-1] if cell.output == "last" else max(reached[cell.inputs :]))
    return best


def rank(
    genotypes: Iterable[Genotype], value: Callable[[Genotype], float | None], space: Space, table: Table, truth: Column
) -> list[Ranked]:
    """Values first, all of them; then the table is asked. Cells without a value are left out."""
    values = [(genotype, value(genotype)) for genotype in genotypes]
    return [
        Ranked(
            str(genotype), found, space.cost(genotype, NetworkSize()).params, depth(space, genotype),
            table.value(genotype, truth.dataset, truth.split, truth.epochs),
        )
        for genotype, found in values
        if found is not None
    ]  # fmt: skip


def correlations(signal_N: Sequence[float], truth_N: Sequence[float]) -> dict[str, Any]:
    """Kendall's tau-b and Spearman's rho, each with its 95% interval by bootstrap over cells; None where one side is
    constant."""
    signal, truth = np.asarray(signal_N, dtype=float), np.asarray(truth_N, dtype=float)
    if len(set(signal)) < 2 or len(set(truth)) < 2:
        return {"kendall": None, "spearman": None, "cells": len(signal)}
    rows_RN = np.random.default_rng(0).integers(len(signal), size=(RESAMPLES, len(signal)))
    found = {
        "kendall": (float(stats.kendalltau(signal, truth).statistic), _kendall(signal, truth, rows_RN)),
        "spearman": (float(stats.spearmanr(signal, truth).statistic), _spearman(signal[rows_RN], truth[rows_RN])),
    }
    return {
        name: {
            "value": value,
            "low": float(np.nanquantile(again_R, 0.025)),
            "high": float(np.nanquantile(again_R, 0.975)),
        }
        for name, (value, again_R) in found.items()
    } | {"cells": len(signal)}


def _kendall(signal_N: Array, truth_N: Array, rows_RN: NDArray[np.int64]) -> Array:
    """Tau-b of resamples; nan where one side is constant."""
    one_NN, other_NN = (np.sign(values[:, None] - values) for values in (signal_N, truth_N))
    found = []
    for row_N in rows_RN:
        pairs = np.ix_(row_N, row_N)
        a_NN, b_NN = one_NN[pairs], other_NN[pairs]
        scale = np.sqrt(np.abs(a_NN).sum() * np.abs(b_NN).sum())
        found.append((a_NN * b_NN).sum() / scale if scale else np.nan)
    return np.array(found)


def _spearman(signal_RN: Array, truth_RN: Array) -> Array:
    """Rho of resamples; nan where one side is constant."""
    a_RN, b_RN = (stats.rankdata(values, axis=1) for values in (signal_RN, truth_RN))
    a_RN, b_RN = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (a_RN, b_RN))
    scale_R = np.sqrt((a_RN**2).sum(axis=1) * (b_RN**2).sum(axis=1))
    return np.divide((a_RN * b_RN).sum(axis=1), scale_R, out=np.full(len(scale_R), np.nan), where=scale_R > 0)


def summary(cells: Sequence[Ranked]) -> dict[str, Any]:
    """Correlations of the value, of depth and of parameters with what is known: over all cells, over the tenth that is
    known to be best, and over those through which something comes."""
    ordered = sorted(cells, key=lambda one: -one.truth)
    groups = {
        "all": ordered,
        "top tenth": ordered[: max(2, round(TOP * len(ordered)))],
        "living": [one for one in ordered if one.depth >= 0],
    }
    signals: dict[str, Callable[[Ranked], float]] = {
        "value": lambda one: one.value, "depth": lambda one: one.depth, "params": lambda one: one.params,
    }  # fmt: skip
    return {
        group: {
            name: correlations([signal(one) for one in members], [one.truth for one in members])
            for name, signal in signals.items()
        }
        for group, members in groups.items()
        if len(members) > 1
    }


def as_content(cells: Sequence[Ranked], about: dict[str, Any]) -> dict[str, Any]:
    """What rank.json holds."""
    return {**about, "correlations": summary(cells), "cells": [asdict(one) for one in cells]}
