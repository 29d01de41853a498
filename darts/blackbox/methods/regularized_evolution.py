"""Regularized (aging) evolution (Real et al. 2019, arXiv:1802.01548, algorithm 1)."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping

from darts.blackbox.methods.base import Baseline, Candidate, at_least, known_mutations
from supernet.spaces.base import Genotype

REMOVE = ("oldest", "worst", "none")
Rated = tuple[float, int, Genotype]  # value, number and cell


class RegularizedEvolution(Baseline):
    """The best of a random sample of the population has a child with one mutation; the oldest member is removed.

    Args:
        population: members P, first drawn uniformly; None for `usual`, or a fifth of the evaluations if that is less.
        sample: members S drawn, with replacement, for a tournament.
        remove: ``oldest`` as published, ``worst``, or ``none``, which keeps all.
        mutations: names of the space's mutations, and how often each is taken, relative to the others; None for
            `mutate` alone.
    """

    requires = ("mutate",)
    names_parents = True

    usual = 100

    def __init__(
        self,
        population: int | None = None,
        sample: int = 10,
        remove: str = "oldest",
        mutations: Mapping[str, float] | None = None,
    ) -> None:
        if population is not None:
            at_least("population", population, 1)
        at_least("sample", sample, 1)
        if remove not in REMOVE:
            raise ValueError(f"remove: got {remove!r}; allowed are {', '.join(REMOVE)}")
        if mutations is not None and (not sum(mutations.values()) > 0 or min(mutations.values()) < 0):
            raise ValueError(f"mutations: got {dict(mutations)}; give numbers from 0, at least one above")
        self.given, self.sample, self.remove, self.mutations = population, sample, remove, mutations

    def setup(self) -> None:
        if self.given is not None:
            self.needs("population", self.given)
        self.steps = None if self.mutations is None else known_mutations(self.mutations, self.space)
        self.population = self.given or min(self.usual, max(1, self.evaluations // 5))
        self.members: list[Rated] = []  # in order of answers
        self.ranked: list[Rated] = []  # the same ones, the worst first; of equal ones the older

    def propose(self) -> Genotype | None:
        if self.asked < self.population:
            return self.space.sample(self.rng)
        if not self.members:
            return None
        _, self.parent, genotype = self.winner()
        self.made_by = "mutate"
        if self.steps is not None:
            (self.made_by,) = self.rng.choices(list(self.steps), list(self.steps.values()))
        return self.space.mutations[self.made_by](genotype, self.rng)

    def winner(self) -> Rated:
        """Of a tournament.

        The best of S ranks drawn from n is among the lowest k with probability (k / n)^S; inverting that draws the
        winner at once.
        """
        count = len(self.ranked)
        return self.ranked[min(int(count * self.rng.random() ** (1 / self.sample)), count - 1)]

    def observe(self, candidate: Candidate, value: float) -> None:
        rated = (value, candidate.number, candidate.genotype)
        self.members.append(rated)
        insort(self.ranked, rated)
        if len(self.members) > self.population and self.remove != "none":
            removed = self.members[0] if self.remove == "oldest" else self.ranked[0]
            self.members.remove(removed)
            del self.ranked[bisect_left(self.ranked, removed)]
