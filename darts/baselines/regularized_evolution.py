"""Regularized (aging) evolution (Real et al. 2019, arXiv:1802.01548, algorithm 1)."""

from __future__ import annotations

from darts.baselines.base import Baseline, Candidate, at_least
from supernet.genotype import Genotype

REMOVE = ("oldest", "worst", "none")
Rated = tuple[float, int, Genotype]  # value, number and cell


class RegularizedEvolution(Baseline):
    """The best of a random sample of the population has a child with one mutation; the oldest member is removed.

    Args:
        population: members P, first drawn uniformly.
        sample: members S drawn, with replacement, for a tournament.
        remove: ``oldest`` as published, ``worst``, or ``none``, which keeps all.
    """

    names_parents = True

    def __init__(self, population: int = 100, sample: int = 10, remove: str = "oldest") -> None:
        at_least("population", population, 1)
        at_least("sample", sample, 1)
        if remove not in REMOVE:
            raise ValueError(f"remove: got {remove!r}; allowed are {', '.join(REMOVE)}")
        self.population, self.sample, self.remove = population, sample, remove

    def setup(self) -> None:
        self.needs("population", self.population)
        self.members: list[Rated] = []  # in order of answers

    def propose(self) -> Genotype | None:
        if self.asked < self.population:
            return self.space.sample(self.rng)
        if not self.members:
            return None
        members, count, draw = self.members, len(self.members), self.rng.random
        _, self.parent, genotype = self.winner([members[int(draw() * count)] for _ in range(self.sample)])
        return self.space.mutate(genotype, self.rng)

    def winner(self, sample: list[Rated]) -> Rated:
        """Of a tournament; of equal ones the younger."""
        return max(sample)

    def observe(self, candidate: Candidate, value: float) -> None:
        self.members.append((value, candidate.number, candidate.genotype))
        if len(self.members) > self.population and self.remove != "none":
            del self.members[0 if self.remove == "oldest" else self.members.index(min(self.members))]
