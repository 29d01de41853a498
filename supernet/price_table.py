"""A price for every operation on every edge, which together say what a cell costs where it was measured.

Shape suffixes: N cells, E edges, O operations, F features.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from supernet.spaces.base import Genotype, Space

COUNTS = ("all", "needed")
FOLDS = 5
DIGITS = 10  # of prices, behind the point: equal ones are equal


@dataclass(frozen=True)
class PriceTable:
    """The price of a cell is `beside` plus the prices of its operations.

    Attributes:
        candidates, edges: names, of the columns and rows.
        prices_EO: of an operation on an edge, in `unit`.
        beside: of the rest of the network.
        counts: which operations have a price: ``all``, or those that are ``needed``, whose result leads on to the
            output; what is left over, compilers for telephones and the like take out of a network.
        name, unit: of what the prices are.
    """

    candidates: tuple[str, ...]
    edges: tuple[str, ...]
    prices_EO: tuple[tuple[float, ...], ...]
    beside: float
    counts: str
    name: str
    unit: str

    def check(self, space: Space) -> None:
        """Refuse another space than it was made for.

        Raises:
            ValueError: operations or edges differ.
        """
        if tuple(space.candidates) != self.candidates or tuple(space.edge_names) != self.edges:
            raise ValueError(
                f"path: the prices are of the operations {', '.join(self.candidates)} on the edges "
                f"{', '.join(self.edges)}, another space; make them anew with darts latency"
            )

    def price(self, space: Space, genotype: Genotype) -> float:
        """Of a cell, in `unit`."""
        path_E = space.path(genotype)
        counted_E = needed(space, path_E) if self.counts == "needed" else [True] * len(path_E)
        prices = [row[choice] for row, choice, counts in zip(self.prices_EO, path_E, counted_E, strict=True) if counts]
        return self.beside + math.fsum(prices)

    @classmethod
    def read(cls, path: Path) -> PriceTable:
        """From a file that `darts latency` wrote.

        Raises:
            ValueError: there is none, or it holds something else.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            fields = {name: content[name] for name in cls.__dataclass_fields__}
            rows = tuple(tuple(float(price) for price in row) for row in fields.pop("prices_EO"))
            candidates, edges = tuple(fields.pop("candidates")), tuple(fields.pop("edges"))
            found = cls(candidates, edges, rows, **fields)
            fits = len(rows) == len(edges) and {len(row) for row in rows} == {len(candidates)}
            names = (*candidates, *edges, found.name, found.unit)
            if not all(isinstance(name, str) and name.isprintable() for name in names):
                raise ValueError("its names are none")
            if not fits or found.counts not in COUNTS or not all(map(math.isfinite, (found.beside, *sum(rows, ())))):
                raise ValueError("its parts do not fit")
        except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise ValueError(
                f"{path} holds no prices ({type(error).__name__}: {error}); give a prices.json of darts latency"
            ) from None
        return found

    def stored(self) -> dict[str, Any]:
        """As `read` takes it."""
        return asdict(self)


def needed(space: Space, path_E: Sequence[int]) -> list[bool]:
    """Edges whose result leads on to an output."""
    found: list[bool] = []
    for cell in space.cells.values():
        own = path_E[len(found) : len(found) + len(cell.edges)]
        found += cell.needed([cell.candidates[choice] != "none" for choice in own])
    return found


def features(space: Space, genotypes: Sequence[Genotype], counts: str) -> Tensor:
    """Ones where a cell has an operation on an edge that counts, and a last one for the rest: (N, E * O + 1)."""
    edges, operations = space.architecture_shapes["alpha_EO"]
    found_NF = torch.zeros(len(genotypes), edges * operations + 1, dtype=torch.float64)
    found_NF[:, -1] = 1
    for row_F, genotype in zip(found_NF, genotypes, strict=True):
        path_E = space.path(genotype)
        counted_E = needed(space, path_E) if counts == "needed" else [True] * edges
        for edge, (choice, counted) in enumerate(zip(path_E, counted_E, strict=True)):
            if counted:
                row_F[edge * operations + choice] = 1
    return found_NF


def solved(features_NF: Tensor, values_N: Tensor) -> Tensor:
    """Least squares; of all solutions the one of the smallest norm, since each edge has one operation."""
    return torch.linalg.lstsq(features_NF, values_N[:, None], driver="gelsd").solution[:, 0]


def fitted(
    space: Space, genotypes: Sequence[Genotype], values: Sequence[float], name: str, unit: str
) -> tuple[PriceTable, dict[str, float]]:
    """The table nearest to measured values, with whichever operations counted that predict held out cells better.

    Returns:
        The table, and by `COUNTS` the root mean squared error on cells left out in turns, five folds.
    """
    values_N = torch.tensor(values, dtype=torch.float64)
    by_counts = {counts: features(space, genotypes, counts) for counts in COUNTS}
    fold_N = torch.arange(len(values)) % FOLDS
    errors = {}
    for counts, features_NF in by_counts.items():
        missed = 0.0
        for fold in range(FOLDS):
            out = fold_N == fold
            weights_F = solved(features_NF[~out], values_N[~out])
            missed += float(((features_NF[out] @ weights_F - values_N[out]) ** 2).sum())
        errors[counts] = math.sqrt(missed / len(values))
    counts = min(errors, key=errors.__getitem__)
    weights_F = solved(by_counts[counts], values_N)
    edges, operations = space.architecture_shapes["alpha_EO"]
    prices_EO, beside = weights_F[:-1].view(edges, operations), weights_F[-1]
    if counts == "all":  # every edge has one operation, so what all of its prices share belongs to the rest
        cheapest_E1 = prices_EO.amin(dim=1, keepdim=True)
        prices_EO, beside = prices_EO - cheapest_E1, beside + cheapest_E1.sum()
    rows = tuple(tuple(round(price, DIGITS) for price in row) for row in prices_EO.tolist())
    table = PriceTable(
        tuple(space.candidates), tuple(space.edge_names), rows, round(float(beside), DIGITS), counts, name, unit
    )
    return table, errors
