"""Local search: hill climbing over neighbours, with restarts (White et al. 2020, arXiv:2005.02960)."""

from __future__ import annotations

from darts.blackbox.methods.base import Baseline, Candidate
from supernet.spaces.base import Genotype

MOVES = ("best", "first")


class LocalSearch(Baseline):
    """From a random cell to a better neighbour until there is none, then from another random cell.

    Cells whose value it knows are not asked for again, except as starts.

    Args:
        move: to the ``best`` of all neighbours, or to the ``first`` better one.
    """

    requires = ("neighbours",)

    def __init__(self, move: str = "best") -> None:
        if move not in MOVES:
            raise ValueError(f"move: got {move!r}; allowed are {', '.join(MOVES)}")
        self.move = move

    def setup(self) -> None:
        self.known: dict[Genotype, float] = {}
        self.centre: Genotype | None = None  # none while a start is being evaluated
        self.starting = False
        self.waiting: list[Genotype] = []  # neighbours still to be asked
        self.open: set[int] = set()  # numbers of neighbours that are being evaluated
        self.best: tuple[float, Genotype] | None = None  # of the centre's neighbours

    def propose(self) -> Genotype | None:
        if self.centre is None:
            if self.starting:
                return None
            self.starting = True
            return self.space.sample(self.rng)
        if not self.waiting:
            return None
        self.open.add(self.asked)
        return self.waiting.pop()

    def observe(self, candidate: Candidate, value: float) -> None:
        self.known[candidate.genotype] = value
        if self.centre is None and self.starting:
            self._stand_on(candidate.genotype)
            return
        if candidate.number not in self.open:  # a neighbour of an earlier centre
            return
        self.open.discard(candidate.number)
        self._consider(candidate.genotype, value)
        self._move()

    def _consider(self, genotype: Genotype, value: float) -> None:
        if self.best is None or value > self.best[0]:
            self.best = (value, genotype)

    def _stand_on(self, genotype: Genotype) -> None:
        self.centre, self.starting, self.best = genotype, False, None
        self.open.clear()
        self.waiting = []
        for neighbour in self.space.neighbours(genotype):
            if neighbour in self.known:
                self._consider(neighbour, self.known[neighbour])
            else:
                self.waiting.append(neighbour)
        self.rng.shuffle(self.waiting)
        self._move()

    def _move(self) -> None:
        """Go on to a better neighbour, or start anew, as soon as that is decided."""
        assert self.centre is not None
        here = self.known[self.centre]
        complete = not self.waiting and not self.open
        better = self.best is not None and self.best[0] > here
        if better and (complete or self.move == "first"):
            assert self.best is not None
            self._stand_on(self.best[1])
        elif complete:
            self.centre = None
