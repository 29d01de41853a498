"""Monte Carlo tree search over the decisions that make a cell (UCT: Kocsis & Szepesvari 2006; Wistuba 2017,
arXiv:1712.07420)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from darts.blackbox.methods.base import Baseline, Candidate, at_least
from supernet.spaces.base import Genotype


@dataclass
class Node:
    """A row of first decisions: visits, sum of the rewards, and the rows that go on from it."""

    visits: int = 0
    total: float = 0.0
    children: dict[int, Node] = field(default_factory=dict)


class MonteCarloTreeSearch(Baseline):
    """Goes down by the upper confidence bound, adds one node, and completes the cell at random.

    Rewards are values scaled to [0, 1] between the lowest and the highest seen. A candidate whose answer is not there
    yet counts as a visit with the lowest reward, so that several at once spread out.

    Args:
        exploration: weight of the confidence term.
    """

    requires = ("decided",)

    def __init__(self, exploration: float = 0.3) -> None:
        at_least("exploration", exploration, 0)
        self.exploration = exploration

    def setup(self) -> None:
        self.root = Node()
        self.paths: dict[int, tuple[list[Node], float]] = {}  # by number of the candidate; with its reward for now

    def propose(self) -> Genotype:
        options, node = self.space.options, self.root
        decisions: list[int] = []
        path = [node]
        while (count := options(decisions)) and len(node.children) == count:
            choice = self._best(node)
            decisions.append(choice)
            node = node.children[choice]
            path.append(node)
        if count:
            choice = self.rng.choice([c for c in range(count) if c not in node.children])
            decisions.append(choice)
            path.append(node.children.setdefault(choice, Node()))
        while count := options(decisions):
            decisions.append(self.rng.randrange(count))
        for node in path:
            node.visits += 1
            node.total += self.lowest
        self.paths[self.asked] = (path, self.lowest)
        return self.space.decided(decisions)

    def _best(self, node: Node) -> int:
        scale = max(self.highest - self.lowest, 1e-9)
        log = math.log(node.visits)

        def bound(child: Node) -> float:
            mean = (child.total / child.visits - self.lowest) / scale
            return mean + self.exploration * math.sqrt(log / child.visits)

        return max(node.children, key=lambda choice: bound(node.children[choice]))

    def observe(self, candidate: Candidate, value: float) -> None:
        value = self.finite(value)
        path, placeholder = self.paths.pop(candidate.number)
        for node in path:
            node.total += value - placeholder
