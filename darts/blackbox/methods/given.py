"""Cells of one's own, one after the other: what a search found beside what baselines find, by the same evaluator."""

from __future__ import annotations

from collections.abc import Sequence

from darts.blackbox.methods.base import Baseline, Candidate, at_least
from supernet.spaces.base import Genotype


class Given(Baseline):
    """Asks for these cells and for no others.

    Args:
        cells: their texts.
        upfront: images that were passed forward to find them; they count as spent.
    """

    searches = False

    def __init__(self, cells: Sequence[str] = (), upfront: int = 0) -> None:
        at_least("upfront", upfront, 0)
        self.cells, self.upfront = tuple(cells), upfront

    def setup(self) -> None:
        if not self.cells:
            raise ValueError("cells: got none; give texts of cells, baseline.cells=['...','...']")
        try:
            self.left = [self.space.parse(cell) for cell in reversed(self.cells)]
        except ValueError as error:
            raise ValueError(f"cells: {error}") from None

    def propose(self) -> Genotype | None:
        return self.left.pop() if self.left else None

    def observe(self, candidate: Candidate, value: float) -> None:
        return
