"""BOHB: Hyperband whose new cells come from a density model (Falkner et al. 2018, arXiv:1807.01774, section 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from darts.blackbox.methods.base import Candidate, at_least, share
from darts.blackbox.methods.successive_halving import Hyperband
from supernet.spaces.base import Genotype


class BOHB(Hyperband):
    """New cells maximise the ratio of two densities over decisions: of the best cells, and of the others.

    The model is of the longest training that has enough answers. A density is the product over decisions of
    frequencies, smoothed by one more cell spread evenly.

    Args:
        eta, cells: see `Hyperband`.
        random: share of new cells drawn uniformly.
        good: share of answers in the better density.
        draws: cells drawn from the better density, of which the best ratio is taken among those not told of before;
            if there is none, a cell drawn uniformly.
    """

    requires = ("decided", "choices")

    def __init__(
        self, eta: float = 3.0, cells: int = 2, random: float = 1 / 3, good: float = 0.15, draws: int = 64
    ) -> None:
        super().__init__(eta, cells)
        share("random", random)
        share("good", good)
        at_least("draws", draws, 1)
        self.random, self.good, self.draws = random, good, draws

    def setup(self) -> None:
        super().setup()
        self.known: set[tuple[int, ...]] = set()
        self.seen: dict[int, list[tuple[float, int, tuple[int, ...]]]] = {length: [] for length in self.fidelities}

    def observe(self, candidate: Candidate, value: float) -> None:
        decisions = self.space.decisions(candidate.genotype)
        self.known.add(decisions)
        self.seen[candidate.epochs].append((value, candidate.number, decisions))
        super().observe(candidate, value)

    def new_cell(self) -> Genotype:
        least = len(self.space.choices) + 1
        lengths = [length for length in reversed(self.fidelities) if len(self.seen[length]) >= 2 * least]
        if not lengths or self.rng.random() < self.random:
            return self.space.sample(self.rng)
        answers = sorted(self.seen[lengths[0]], key=lambda answer: (-answer[0], answer[1]))
        number = max(least, round(self.good * len(answers)))
        better, worse = (self._density([d for *_, d in part]) for part in (answers[:number], answers[number:]))

        def ratio(decisions: Sequence[int]) -> float:
            return sum(
                math.log(good[choice] / bad[choice]) for choice, good, bad in zip(decisions, better, worse, strict=True)
            )

        drawn = {tuple(self.rng.choices(range(len(row)), row)[0] for row in better) for _ in range(self.draws)}
        new = sorted(drawn - self.known)
        return self.space.decided(max(new, key=ratio)) if new else self.space.sample(self.rng)

    def _density(self, cells: list[tuple[int, ...]]) -> list[list[float]]:
        """Probability of each choice, by decision."""
        return [
            [(sum(cell[place] == choice for cell in cells) + 1 / count) / (len(cells) + 1) for choice in range(count)]
            for place, count in enumerate(self.space.choices)
        ]
