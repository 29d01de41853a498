"""A genetic algorithm by generations: tournaments, crossover, mutations, elitism (Goldberg 1989, chapters 1 and 4)."""

from __future__ import annotations

from collections.abc import Mapping

from darts.blackbox.methods.base import Baseline, Candidate, at_least, known_mutations, share
from supernet.spaces.base import Genotype


class Genetic(Baseline):
    """The best members stay; the rest of the next generation are children of winners of tournaments.

    Args:
        population: members of a generation.
        elite: members that stay as they are, without another evaluation.
        sample: members drawn, with replacement, for a tournament.
        crossover: probability that a child takes each edge from either of two parents.
        change, swap, inversion: probability of each mutation, one after the other: `mutate`, `swap` and `invert` of
            the space.
        mutations: names of the space's mutations, and the probability of each, one after the other, in place of these
            three; None for those of them that the space has.
    """

    requires = ("mutate", "crossover")

    def __init__(
        self,
        population: int = 50,
        elite: int = 5,
        sample: int = 5,
        crossover: float = 0.5,
        change: float = 0.8,
        swap: float = 0.1,
        inversion: float = 0.1,
        mutations: Mapping[str, float] | None = None,
    ) -> None:
        at_least("population", population, 2)
        at_least("elite", elite, 0)
        at_least("sample", sample, 1)
        if elite >= population:
            raise ValueError(f"elite: got {elite} of a population of {population}; give fewer")
        probabilities = {"crossover": crossover, "change": change, "swap": swap, "inversion": inversion}
        for name, value in probabilities.items():
            share(name, value)
        self.population, self.elite, self.sample, self.crossover = population, elite, sample, crossover
        for value in (mutations or {}).values():
            share("mutations", value)
        self.usual, self.given = {"mutate": change, "swap": swap, "invert": inversion}, mutations

    def setup(self) -> None:
        self.needs("population", self.population)
        known = self.space.mutations
        if self.given is None:
            self.steps = {name: chance for name, chance in self.usual.items() if name in known}
        else:
            self.steps = known_mutations(self.given, self.space)
        self.parents: list[tuple[float, int, Genotype]] = []
        self.members: list[tuple[float, int, Genotype]] = []  # of the generation that is being evaluated
        self.left = self.population  # of it to be asked

    def propose(self) -> Genotype | None:
        if not self.left:
            return None
        self.left -= 1
        return self._child() if self.parents else self.space.sample(self.rng)

    def _child(self) -> Genotype:
        child, made_by = self._winner(), []
        if self.rng.random() < self.crossover:
            child = self.space.crossover(child, self._winner(), self.rng)
            made_by.append("crossover")
        for name, probability in self.steps.items():
            if self.rng.random() < probability:
                child = self.space.mutations[name](child, self.rng)
                made_by.append(name)
        self.made_by = "+".join(made_by) or "copy"
        return child

    def _winner(self) -> Genotype:
        return max(self.rng.choices(self.parents, k=self.sample))[-1]

    def observe(self, candidate: Candidate, value: float) -> None:
        self.members.append((value, candidate.number, candidate.genotype))
        if len(self.members) == self.population:
            self.parents = sorted(self.members, reverse=True)
            self.members, self.left = self.parents[: self.elite], self.population - self.elite
