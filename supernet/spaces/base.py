"""What a space is: what methods, engine and reports ask of it. No torch.

Genotypes belong to their space: any hashable value whose text, `str`, can be parsed back. Nobody else looks into one.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from supernet.size import Cost, NetworkSize
from supernet.wiring import Cell

if TYPE_CHECKING:
    import torch
    from torch import nn

Genotype = Any
"""Any hashable value, in the eyes of everybody but its space."""

ABILITIES = {
    "supernet": "a supernet",
    "neighbours": "neighbours",
    "mutate": "mutations",
    "crossover": "crossover",
    "decided": "rows of decisions",
    "choices": "rows of fixed length",
    "encode": "an encoding of fixed length",
    "size": "a known size",
}
"""What a space may lack: name of the method or property, and how messages call it."""

LEFT_OUT = -1
"""In a path, for an edge that a genotype does not have."""


class Space(ABC):
    """A set of genotypes. What is not overridden, the space cannot do; `abilities` knows.

    A subclass gives at least `parse`, `sample`, `describe` and `network`; methods that need more say so, and
    are refused with the name of what is lacking before a run starts.

    Attributes:
        takes: what its networks get: ``images`` (B, C, H, W), or ``series`` (B, L, C) of L steps.
    """

    takes = "images"

    @abstractmethod
    def parse(self, text: str) -> Genotype:
        """Read a genotype; `str` of it gives the same text back.

        Raises:
            ValueError: no genotype of this space; the message names the place.
        """

    def check(self, genotype: Genotype) -> None:
        """Refuse what is not of this space.

        Raises:
            ValueError: it is not.
        """
        self.parse(str(genotype))

    @abstractmethod
    def sample(self, rng: random.Random) -> Genotype:
        """A genotype at random."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Plain values that identify the space, as they stand in checkpoints and results."""

    def cost(self, genotype: Genotype, size: NetworkSize) -> Cost:
        """Parameters and multiply-adds of a genotype's network, of all steps where it takes series."""
        from supernet.cost import network_cost

        return network_cost(self, genotype, size)

    @abstractmethod
    def network(self, genotype: Genotype, size: NetworkSize, batch_norm: str = "running") -> nn.Module:
        """The network of a genotype, from inputs to outputs (B, K); `inherit(parent)` of it copies weights of another.

        Args:
            genotype: of this space.
            size: of the network.
            batch_norm: ``running`` to train and use it, ``batch`` to normalise every batch by itself.
        """

    def final_size(self, size: NetworkSize) -> NetworkSize:
        """As wide and deep as networks of this space are trained in the end, for the data of a size."""
        return replace(size, channels=NetworkSize.channels, cells=NetworkSize.cells)

    def size_text(self, size: NetworkSize) -> str:
        """What of a size decides a network of this space, for reports."""
        return str(size)

    def canonical_form(self, genotype: Genotype) -> str:
        """Text equal for genotypes that compute the same; the genotype's own where nothing is known."""
        return str(genotype)

    def connections(self, genotype: Genotype) -> dict[str, tuple[tuple[int, int, str], ...]]:
        """Kind of cell to (source, target, operation) of every edge, to be drawn; empty if it is no graph."""
        return {}

    def neighbours(self, genotype: Genotype) -> list[Genotype]:
        """All genotypes one step away."""
        raise NotImplementedError

    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """A genotype one step away, at random."""
        raise NotImplementedError

    @property
    def mutations(self) -> Mapping[str, Any]:
        """Name to function (genotype, rng) of further mutations; `mutate` is always among them."""
        return {"mutate": self.mutate}

    def crossover(self, first: Genotype, second: Genotype, rng: random.Random) -> Genotype:
        """A child of two parents."""
        raise NotImplementedError

    @property
    def choices(self) -> tuple[int, ...]:
        """A genotype as a row of decisions: how many choices each of them has, where that is always the same."""
        raise NotImplementedError

    def options(self, decisions: Sequence[int]) -> int:
        """How many choices the next decision has after these; 0 when the row is complete. Rows may differ in length."""
        return self.choices[len(decisions)] if len(decisions) < len(self.choices) else 0

    def decisions(self, genotype: Genotype) -> tuple[int, ...]:
        """The row of decisions of a genotype."""
        raise NotImplementedError

    def decided(self, decisions: Sequence[int]) -> Genotype:
        """The genotype of a complete row; the inverse of `decisions`."""
        raise NotImplementedError

    def encode(self, genotype: Genotype) -> list[int]:
        """Numbers for predictors, always as many."""
        raise NotImplementedError

    @property
    def size(self) -> int | None:
        """How many genotypes there are; None if that is not known or unbounded."""
        return None

    def genotype(self, index: int) -> Genotype:
        """The genotype at a place in [0, size): its decisions as digits, the first most significant."""
        digits = []
        for count in reversed(self.choices):
            index, digit = divmod(index, count)
            digits.append(digit)
        return self.decided(digits[::-1])

    def index(self, genotype: Genotype) -> int:
        """The place of a genotype; the inverse of `genotype`."""
        found = 0
        for digit, count in zip(self.decisions(genotype), self.choices, strict=True):
            found = found * count + digit
        return found

    def __iter__(self) -> Iterator[Genotype]:
        """All genotypes in order of their place, where the size is known."""
        return map(self.genotype, range(self.size or 0))

    @property
    def cells(self) -> dict[str, Cell]:
        """Kind of cell to its wiring, of a space with a supernet.

        Architecture parameters have a row an edge: those of the first kind, then those of the second, and so on.
        """
        raise NotImplementedError

    def supernet(
        self, size: NetworkSize, batch_norm: str = "batch", generator: torch.Generator | None = None
    ) -> nn.Module:
        """All networks in one: `forward(inputs, edge_weights)`, `inherit(genotype)` and `resting(paths)`.

        Args:
            size: of the network.
            batch_norm: ``batch`` or ``running`` statistics, see `supernet.norm`.
            generator: source of the initial weights.
        """
        raise NotImplementedError

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of the operations O of every edge."""
        return next(iter(self.cells.values())).candidates

    @property
    def edge_names(self) -> tuple[str, ...]:
        """Names of the edges E: ``2<-0``, with the kind of cell before it if there are several."""
        several = len(self.cells) > 1
        return tuple(
            f"{kind} {target}<-{source}" if several else f"{target}<-{source}"
            for kind, cell in self.cells.items()
            for source, target in cell.edges
        )

    @property
    def architecture_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the architecture parameters: ``alpha_EO`` with the rows of all kinds of cell."""
        return {"alpha_EO": (len(self.edge_names), len(self.candidates))}

    @property
    def every_edge(self) -> bool:
        """Whether a genotype has one operation on every edge of the supernet, and any choice of allowed ones is one."""
        return True

    @property
    def allowed_EO(self) -> tuple[tuple[bool, ...], ...] | None:
        """Operations that a search begins with, where edges differ in them; None for all."""
        return None

    def edge_costs(self, size: NetworkSize) -> tuple[list[list[Cost]], Cost]:
        """What every operation costs on every edge, beside the cheapest one there, and what the rest costs; exact where
        a network's cost is a sum over its edges. Operations that are not allowed cost nothing.

        Raises:
            ValueError: genotypes that have not all edges.
        """
        if not self.every_edge:
            raise ValueError(f"genotypes of {type(self).__name__} leave edges out, so no edge has a cost of its own")
        every = (True,) * len(self.candidates)
        marks_EO = self.allowed_EO or (every,) * len(self.edge_names)
        allowed = [[o for o, mark in enumerate(row) if mark] for row in marks_EO]
        base = [row[0] for row in allowed]
        rest = self.cost(self.relaxed(base), size)
        rows: list[list[Cost]] = []
        for edge, row in enumerate(allowed):
            found = {o: self.cost(self.relaxed([*base[:edge], o, *base[edge + 1 :]]), size) for o in row}
            least = Cost(min(c.params for c in found.values()), min(c.flops for c in found.values()))
            rows.append([found[o] + least * -1 if o in found else Cost() for o in range(len(every))])
            rest += least + found[base[edge]] * -1
        return rows, rest

    def strongest(self, weights_EO: Sequence[Sequence[float]]) -> Genotype:
        """The genotype that edge weights stand for: the heaviest operation of every edge, the first of equals."""
        every = range(len(self.candidates))
        marks_EO = self.allowed_EO or ((True,) * len(every),) * len(weights_EO)
        pairs = zip(weights_EO, marks_EO, strict=True)
        return self.relaxed([max((o for o in every if marks[o]), key=row.__getitem__) for row, marks in pairs])

    def relaxed(self, choice_E: Sequence[int]) -> Genotype:
        """The genotype with one candidate on every edge of the supernet, or `LEFT_OUT` where it has none.

        Raises:
            ValueError: no genotype has these.
        """
        return self.decided(choice_E)

    def path(self, genotype: Genotype) -> tuple[int, ...]:
        """The candidate that a genotype has on every edge of the supernet, `LEFT_OUT` where it has none; the inverse of
        `relaxed`."""
        return self.decisions(genotype)

    def operation(self, choice: int) -> str:
        """The name of an entry of a path."""
        return "left out" if choice == LEFT_OUT else self.candidates[choice]

    @property
    def abilities(self) -> frozenset[str]:
        """Those of `ABILITIES` that the space has: what its class overrides."""
        return frozenset(name for name in ABILITIES if getattr(type(self), name) is not getattr(Space, name))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and type(self) is type(other) and self.describe() == other.describe()

    def __hash__(self) -> int:
        return hash(_frozen(self.describe()))


def _frozen(value: Any) -> Hashable:
    return tuple(sorted((k, repr(v)) for k, v in value.items()))


def require(space: Space, abilities: Sequence[str], who: str, instead: str = "") -> None:
    """Refuse a space that cannot do what somebody needs.

    Args:
        space: to be asked.
        abilities: of `ABILITIES`.
        who: needs them, for the message.
        instead: what can be taken for it, for the message.

    Raises:
        ValueError: some are lacking.
    """
    lacking = [ABILITIES[name] for name in abilities if name not in space.abilities]
    if lacking:
        name = type(space).__name__
        raise ValueError(f"{who} needs {' and '.join(lacking)}, which the space {name} lacks{instead}")
