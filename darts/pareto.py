"""Fronts of two objectives: a value, of which more is better, and a price, of which less is better."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pair = tuple[float, float]  # value and price


class Member(NamedTuple):
    """A cell of a front.

    Attributes:
        value, price: as the search saw them.
        truth: known accuracy, looked up after the search.
    """

    cell: str
    value: float
    price: float
    truth: float | None = None


def dominates(first: Pair, second: Pair) -> bool:
    """At least as good in both, and better in one."""
    return first[0] >= second[0] and first[1] <= second[1] and first != second


def front_of(pairs: Iterable[Pair]) -> list[Pair]:
    """Those that no other dominates, each once, by rising price."""
    found: list[Pair] = []
    for value, price in sorted(set(pairs), key=lambda pair: (pair[1], -pair[0])):
        if not found or value > found[-1][0]:
            found.append((value, price))
    return found


def hypervolume(pairs: Iterable[Pair], reference: Pair) -> float:
    """Area dominated by some pairs and dominating the reference (Zitzler & Thiele 1998, PPSN V)."""
    area, floor = 0.0, reference[0]
    for value, price in front_of(pairs):
        if price < reference[1] and value > floor:
            area += (value - floor) * (reference[1] - price)
            floor = value
    return area


class Front:
    """The undominated among the cells trained longest; of equal ones the first."""

    def __init__(self) -> None:
        self.members: list[Member] = []  # by rising price
        self.epochs = 0

    def add(self, member: Member, epochs: int) -> None:
        """Consider a cell that was trained for so long."""
        if epochs < self.epochs:
            return
        if epochs > self.epochs:
            self.members, self.epochs = [], epochs
        if any(known.value >= member.value and known.price <= member.price for known in self.members):
            return
        left = [known for known in self.members if known.value > member.value or known.price < member.price]
        self.members = sorted([*left, member], key=lambda known: known.price)


class TrueFront:
    """Of a whole space, to judge fronts by.

    Args:
        truths: known accuracies of all cells.
        prices: theirs, in the same order.
    """

    def __init__(self, truths: NDArray[np.float64], prices: NDArray[np.float64]) -> None:
        self.truths, self.prices = truths, prices
        self.reference = (float(truths.min()), float(prices.max()))
        self.pairs = front_of(zip(truths.tolist(), prices.tolist(), strict=True))
        self.volume = hypervolume(self.pairs, self.reference)

    def share(self, members: Sequence[Member]) -> float:
        """Hypervolume of a front's known accuracies, as a share of the true front's.

        The reference is the lowest accuracy and the highest price of the space.
        """
        pairs = [(member.truth, member.price) for member in members if member.truth is not None]
        return hypervolume(pairs, self.reference) / self.volume
