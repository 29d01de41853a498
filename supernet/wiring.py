"""How a searched cell is wired. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OUTPUTS = ("last", "sum", "concat")


@dataclass(frozen=True)
class Cell:
    """The wiring of a searched cell.

    Nodes 0 to inputs - 1 are the inputs; every other node is the sum over its incoming edges.

    Attributes:
        candidates: names of the operations on every edge, in the order O of the architecture parameters.
        edges: (source, target) in the order E of the architecture parameters, ordered by target.
        inputs: how many values the cell gets.
        output: what it gives: the ``last`` node, the ``sum`` or the ``concat``enation of all nodes but the inputs.
        stride: of the operations on edges that leave an input.
        normalised_pools: whether poolings are normalised while all operations compete, as DARTS does it.

    Raises:
        ValueError: no candidates, a node that no edge reaches, an edge backwards or into an input, edges out of order,
            an unknown output, or a number below 1.
    """

    candidates: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    inputs: int = 1
    output: str = "last"
    stride: int = 1
    normalised_pools: bool = False

    def __post_init__(self) -> None:
        targets = [target for _, target in self.edges]
        forward = all(0 <= source < target for source, target in self.edges)
        nodes = list(range(self.inputs, max(targets, default=0) + 1))
        if not targets or not forward or targets != sorted(targets) or sorted(set(targets)) != nodes:
            raise ValueError(
                f"edges: got {self.edges}; give (source, target) forwards, ordered by target, into all but the inputs"
            )
        for name, number in (("candidates", len(self.candidates)), ("inputs", self.inputs), ("stride", self.stride)):
            if number < 1:
                raise ValueError(f"{name}: got {number}; give 1 or more")
        if self.output not in OUTPUTS:
            raise ValueError(f"output: got {self.output!r}; allowed are {', '.join(OUTPUTS)}")

    @property
    def num_nodes(self) -> int:
        """Nodes, the inputs among them."""
        return self.edges[-1][1] + 1

    def stride_from(self, source: int) -> int:
        """Of the operations on the edges that leave a node."""
        return self.stride if source < self.inputs else 1

    def live(self, used_E: Sequence[bool]) -> tuple[bool, ...]:
        """Edges from a node that something reaches to one that leads on to the output, by way of used edges."""
        reached = set(range(self.inputs))
        for (source, target), used in zip(self.edges, used_E, strict=True):  # ordered by target
            if used and source in reached:
                reached.add(target)
        needed_E = self.needed(used_E)
        return tuple(source in reached and needed for (source, _), needed in zip(self.edges, needed_E, strict=True))

    def needed(self, used_E: Sequence[bool]) -> tuple[bool, ...]:
        """Edges that lead on to the output, by way of used edges, whether or not something reaches them."""
        last = self.num_nodes - 1
        needed = {last} if self.output == "last" else set(range(self.inputs, last + 1))
        for (source, target), used in reversed(list(zip(self.edges, used_E, strict=True))):
            if used and target in needed:
                needed.add(source)
        return tuple(target in needed for _, target in self.edges)
