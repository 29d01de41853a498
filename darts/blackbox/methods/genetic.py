"""A genetic algorithm by generations: tournaments, crossover, mutations, elitism (Goldberg 1989, chapters 1 and 4)."""

from __future__ import annotations

from darts.blackbox.methods.base import Baseline, Candidate, at_least, share
from supernet.spaces.base import Genotype


class Genetic(Baseline):
    """The best members stay; the rest of the next generation are children of winners of tournaments.

    Args:
        population: members of a generation.
        elite: members that stay as they are, without another evaluation.
        sample: members drawn, with replacement, for a tournament.
        crossover: probability that a child takes each edge from either of two parents.
        change, swap, inversion: probability of each mutation, one after the other: another operation on one edge,
            two edges exchange theirs, a row of edges in reverse order.
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
        self.mutations = {"mutate": change, "swap": swap, "invert": inversion}

    def setup(self) -> None:
        self.needs("population", self.population)
        known = self.space.mutations
        for name, argument in (("swap", "swap"), ("invert", "inversion")):
            if self.mutations[name] and name not in known:
                raise ValueError(f"{argument}: {type(self.space).__name__} has no such mutation; give {argument}=0")
        self.steps = {name: (known[name], chance) for name, chance in self.mutations.items() if name in known}
        self.parents: list[tuple[float, int, Genotype]] = []
        self.members: list[tuple[float, int, Genotype]] = []  # of the generation that is being evaluated
        self.left = self.population  # of it to be asked

    def propose(self) -> Genotype | None:
        if not self.left:
            return None
        self.left -= 1
        return self._child() if self.parents else self.space.sample(self.rng)

    def _child(self) -> Genotype:
        child = self._winner()
        if self.rng.random() < self.crossover:
            child = self.space.crossover(child, self._winner(), self.rng)
        for mutation, probability in self.steps.values():
            if self.rng.random() < probability:
                child = mutation(child, self.rng)
        return child

    def _winner(self) -> Genotype:
        return max(self.rng.choices(self.parents, k=self.sample))[-1]

    def observe(self, candidate: Candidate, value: float) -> None:
        self.members.append((value, candidate.number, candidate.genotype))
        if len(self.members) == self.population:
            self.parents = sorted(self.members, reverse=True)
            self.members, self.left = self.parents[: self.elite], self.population - self.elite
