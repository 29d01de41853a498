"""Phases that choose among cells by what they are worth with the weights of the trained supernet."""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from typing import Any

import torch

from darts.search.inherited import inherited, some_batches
from darts.search.phases import Phase, Steps
from darts.search.standing import standing
from darts.search.state import SearchState
from supernet.relaxations.base import Relaxation
from supernet.spaces.base import Genotype

TRIES = 100  # at a cell that was not judged yet; then one is judged twice


class OneShot(Phase):
    """A step judges a cell; the best of them is what the search has found. All see the same batches.

    Args:
        share: see `Phase`.
        batches: of the architecture part, the same for all cells; all of it if None.

    Raises:
        ValueError: a value out of range.
    """

    trains_architecture = False
    moves_supernet = False
    anytime = True
    chooses = True

    def __init__(self, share: float = 1.0, batches: int | None = 16) -> None:
        super().__init__(share)
        self.batches = some_batches(batches)
        self.worth: dict[str, float] = {}  # of the cells judged, in their order

    @abstractmethod
    def propose(self, state: SearchState, rng: random.Random) -> Genotype:
        """The cell to be judged next."""

    def passes(self, steps: Steps, relaxation: Relaxation) -> int:
        return 0  # none that trains; evaluations are counted by themselves

    def enter(self, state: SearchState) -> None:
        self.worth = {}

    def step(self, state: SearchState, steps: Steps) -> dict[str, float]:
        rng = random.Random(int(torch.randint(2**62, (), generator=state.sampling)))
        genotype = self.propose(state, rng)
        value = inherited(state.compute, state.space, state.task, genotype, self.batches)
        state.evaluation_images += min(state.task.sizes[1], (self.batches or 2**62) * state.task.batch_size)
        self.worth[str(genotype)] = value
        state.found = self._best()
        return {"one_shot_value": value}

    def exit(self, state: SearchState) -> Genotype | None:
        if not self.worth:
            return None
        metric = state.task.metric
        best_first = sorted(self.worth.items(), key=lambda item: -item[1])
        rows = [(cell, metric.worth(worth), None, 1) for cell, worth in best_first]
        measure = f"{metric.name} with shared weights"
        state.standing = standing(measure, rows, metric.unit, metric.higher_is_better)
        return state.space.parse(self._best())

    def _best(self) -> str:
        return max(self.worth, key=self.worth.__getitem__)

    def state_dict(self) -> dict[str, Any]:
        return {"worth": dict(self.worth)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.worth = dict(state.get("worth", {}))


class BestOfK(OneShot):
    """Cells drawn with the probabilities that the relaxation gives, all alike where nothing trained them; as many as
    the phase has steps (Li & Talwalkar 2019, arXiv:1902.07638, section 3; Dong & Yang 2019, arXiv:1910.05733). The
    heaviest operations after Gumbel noise moved the logarithms of the weights have these probabilities."""

    def propose(self, state: SearchState, rng: random.Random) -> Genotype:
        weights_EO = state.expected_weights().mean_EO.clamp_min(0)
        noise_EO = [[-math.log(-math.log(rng.random() or 0.5)) for _ in row] for row in weights_EO]
        return state.space.strongest((weights_EO.log() + torch.tensor(noise_EO)).tolist())


class Evolution(OneShot):
    """Single Path One-Shot's second phase (Guo et al. 2020, arXiv:1904.00420, algorithm 1): a random population, then
    generations of as many children of the best cells so far, half by crossover and half by mutation, none twice.

    Args:
        share, batches: see `OneShot`.
        population: cells of a generation.
        parents: best cells so far that have children.

    Raises:
        ValueError: a value out of range.
    """

    requires = ("mutate", "crossover")

    def __init__(
        self,
        share: float = 1.0,
        batches: int | None = 16,
        population: int = 50,
        parents: int = 10,
    ) -> None:
        super().__init__(share, batches)
        if not 2 <= parents <= population:
            raise ValueError(f"parents: got {parents} of a population of {population}; give 2 to {population}")
        self.population, self.parents = population, parents

    def propose(self, state: SearchState, rng: random.Random) -> Genotype:
        space, number = state.space, len(self.worth)
        full = list(self.worth.items())[: number - number % self.population]  # generations that are complete
        best = [cell for cell, _ in sorted(full, key=lambda item: -item[1])[: self.parents]]
        first_half = number % self.population < self.population // 2
        for attempt in range(TRIES):  # parents that are much alike soon have no new children by crossover
            if not full:
                child = space.sample(rng)
            elif first_half and attempt < TRIES // 2:
                one, other = (space.parse(cell) for cell in rng.sample(best, 2))
                child = space.crossover(one, other, rng)
            else:
                child = space.mutate(space.parse(rng.choice(best)), rng)
            if str(child) not in self.worth:
                break
        return child
