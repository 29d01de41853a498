"""Fronts of two objectives: a value, of which more is better, and a price, of which less is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Pair = tuple[float, float]  # value and price
Item = TypeVar("Item")


class Member(NamedTuple):
    """A genotype of a front.

    Attributes:
        value, price: as the search saw them.
        truth: known accuracy, looked up after the search.
    """

    cell: str
    value: float
    price: float
    truth: float | None = None


def pair_of(member: Member) -> Pair:
    """Value and price."""
    return member.value, member.price


def as_it_is(item: Any) -> Pair:
    """An item that is a pair."""
    return item


def front_of(items: Iterable[Item], pair: Callable[[Item], Pair] = as_it_is) -> list[Item]:
    """Those that no other one dominates, which is at least as good in both and better in one; by rising price. Of equal
    ones the first.

    Args:
        items: in order of their coming.
        pair: value and price of one; items are pairs themselves by default.
    """
    found: list[Item] = []
    highest = -math.inf
    for item in sorted(items, key=lambda item: (pair(item)[1], -pair(item)[0])):
        if not found or pair(item)[0] > highest:
            found.append(item)
            highest = pair(item)[0]
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
        self.members = front_of([*self.members, member], pair_of)


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
