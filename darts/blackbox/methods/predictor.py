"""Search guided by a predictor of accuracy (BANANAS: White et al. 2021, arXiv:1910.11858), a random forest."""

from __future__ import annotations

import numpy as np

from darts.blackbox.methods.base import FAILED, Baseline, Candidate, at_least
from supernet.spaces.base import Genotype


class PredictorGuided(Baseline):
    """A forest learns accuracies; mutations of the best cells that no one asked for are ranked by Thompson samples.

    Codes are the space's (`Space.encode`): of the NAS-Bench-201 cell one-hot by edge and by paths. A Thompson sample is
    a normal number with the mean and the deviation of the trees' predictions (independent sampling; section 5 there).

    Args:
        start: cells drawn uniformly before the first forest.
        batch: cells asked between two forests.
        parents: best cells that are mutated.
        children: mutations of them that are ranked.
        trees: of the forest.
    """

    requires = ("mutate", "encode")

    def __init__(
        self, start: int = 20, batch: int = 10, parents: int = 10, children: int = 200, trees: int = 50
    ) -> None:
        settings = {"start": start, "batch": batch, "parents": parents, "children": children, "trees": trees}
        for name, value in settings.items():
            at_least(name, value, 1)
        self.first, self.batch, self.parents, self.children, self.trees = start, batch, parents, children, trees

    def setup(self) -> None:
        self.needs("start", self.first)
        self.random = np.random.default_rng(self.rng.getrandbits(63))
        self.known: dict[Genotype, float] = {}
        self.asked_cells: set[Genotype] = set()
        self.codes: dict[Genotype, list[int]] = {}
        self.waiting: list[Genotype] = []

    def propose(self) -> Genotype | None:
        if self.asked < self.first:
            cell = self.space.sample(self.rng)
        else:
            if not self.waiting:
                if not self.known:
                    return None
                self.waiting = self._ranked()
            cell = self.waiting.pop(0)
        self.asked_cells.add(cell)
        return cell

    def observe(self, candidate: Candidate, value: float) -> None:
        if value != FAILED:
            self.known[candidate.genotype] = value

    def _ranked(self) -> list[Genotype]:
        from sklearn.ensemble import RandomForestRegressor

        best = sorted(self.known, key=lambda cell: (-self.known[cell], str(cell)))[: self.parents]
        children: dict[Genotype, None] = {}
        for _ in range(self.children):
            child = self.rng.choice(best)
            for _ in range(self.rng.randint(1, 2)):
                child = self.space.mutate(child, self.rng)
            if child not in self.asked_cells:
                children[child] = None
        if not children:
            return [self.space.sample(self.rng)]  # the neighbourhood is exhausted
        forest = RandomForestRegressor(self.trees, max_features="sqrt", random_state=self.rng.getrandbits(31))
        forest.fit(self._code(self.known), list(self.known.values()))
        codes = np.asarray(self._code(children), dtype=np.float32)
        predictions = np.stack([tree.predict(codes) for tree in forest.estimators_])
        samples = self.random.normal(predictions.mean(0), predictions.std(0))
        cells = list(children)
        return [cells[place] for place in np.argsort(-samples, kind="stable")[: self.batch]]

    def _code(self, cells: dict[Genotype, float] | dict[Genotype, None]) -> list[list[int]]:
        for cell in cells:
            if cell not in self.codes:
                self.codes[cell] = self.space.encode(cell)
        return [self.codes[cell] for cell in cells]
