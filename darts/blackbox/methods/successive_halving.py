"""Successive halving and Hyperband over the lengths of training on offer (Jamieson & Talwalkar 2016,
arXiv:1502.07943; Li et al. 2018, arXiv:1603.06560)."""

from __future__ import annotations

from dataclasses import dataclass, field

from darts.blackbox.methods.base import Baseline, Candidate, at_least
from supernet.spaces.base import Genotype


@dataclass
class Bracket:
    """One run of successive halving.

    Attributes:
        rung: number of the length of training that is being filled.
        waiting: cells to ask at this rung; None stands for a new cell.
        open: numbers of candidates that are being evaluated.
        answers: value, number and cell of this rung.
    """

    rung: int
    waiting: list[Genotype | None]
    open: set[int] = field(default_factory=set)
    answers: list[tuple[float, int, Genotype]] = field(default_factory=list)


class SuccessiveHalving(Baseline):
    """Many cells trained shortly, the best 1/eta of them for longer, and so on; then the next bracket.

    Answers that a bracket waits for hold up nothing: the next bracket begins.

    Args:
        eta: divisor of the number of cells from a length to the next.
        cells: number of cells that a bracket ends with.
    """

    def __init__(self, eta: float = 3.0, cells: int = 2) -> None:
        if eta <= 1:
            raise ValueError(f"eta: got {eta}; give a number above 1")
        at_least("cells", cells, 1)
        self.eta, self.cells = eta, cells

    def setup(self) -> None:
        if len(self.fidelities) < 2:
            raise ValueError(
                f"fidelities: got {self.fidelities} epochs alone; choose a signal that the table has after several "
                "lengths of training, such as cifar10/valid/200 beside cifar10/valid/12"
            )
        self.brackets: list[Bracket] = []
        self.places: dict[int, Bracket] = {}  # by number of the candidate
        self.begun = 0

    def first_rung(self) -> int:
        """Where the next bracket begins."""
        return 0

    def new_cell(self) -> Genotype:
        """A cell for the first rung of a bracket."""
        return self.space.sample(self.rng)

    def propose(self) -> Genotype:
        bracket = next((bracket for bracket in self.brackets if bracket.waiting), None)
        if bracket is None:
            rung = self.first_rung()
            number = round(self.cells * self.eta ** (len(self.fidelities) - 1 - rung))
            bracket = Bracket(rung, [None] * max(1, number))
            self.brackets.append(bracket)
            self.begun += 1
        self.epochs = self.fidelities[bracket.rung]
        bracket.open.add(self.asked)
        self.places[self.asked] = bracket
        cell = bracket.waiting.pop(0)
        return self.new_cell() if cell is None else cell

    def observe(self, candidate: Candidate, value: float) -> None:
        bracket = self.places.pop(candidate.number)
        bracket.open.discard(candidate.number)
        bracket.answers.append((value, candidate.number, candidate.genotype))
        if bracket.waiting or bracket.open:
            return
        if bracket.rung == len(self.fidelities) - 1:
            self.brackets.remove(bracket)
            return
        best = sorted(bracket.answers, key=lambda answer: (-answer[0], answer[1]))
        kept = max(1, round(len(best) / self.eta))
        bracket.rung, bracket.answers, bracket.waiting = bracket.rung + 1, [], [cell for *_, cell in best[:kept]]


class Hyperband(SuccessiveHalving):
    """Brackets in turn that begin with the shortest training, the next longer, ..., and full length.

    Args:
        eta: divisor of the number of cells from a length to the next.
        cells: number of cells that a bracket ends with.
    """

    def first_rung(self) -> int:
        return self.begun % len(self.fidelities)
