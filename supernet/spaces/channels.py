"""Sizes: the channels of five blocks, as in NATS-Bench's size space (Dong et al. 2021, arXiv:2009.00437)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from supernet.genomes import Widths
from supernet.size import NetworkSize
from supernet.spaces.base import Space
from supernet.wiring import Cell

if TYPE_CHECKING:
    import torch

    from supernet.sized import SizedNetwork, SizedSuperNet

CHANNELS = (8, 16, 24, 32, 40, 48, 56, 64)
PLACES = 5


class Channels(Space):
    """Networks of five residual blocks, the second and the fourth of which halve the image, each with channels of its
    own; all 32,768 of them by default. In the supernet narrow blocks are the first channels of wide ones.

    Args:
        channels: numbers to choose from, ascending.

    Raises:
        ValueError: fewer than two, or none that a block can have.
    """

    def __init__(self, channels: Sequence[int] = CHANNELS) -> None:
        fits = all(type(number) is int and 1 <= number <= 4096 for number in channels)
        if len(channels) < 2 or not fits or sorted(set(channels)) != list(channels):
            raise ValueError(f"channels: got {list(channels)}; give two or more different numbers, ascending")
        self.channels = tuple(channels)

    def describe(self) -> dict[str, Any]:
        return {"channels": list(self.channels)}

    def parse(self, text: str) -> Widths:
        """Read ``8:16:32:32:64``.

        Raises:
            ValueError: it is something else; the message names the place.
        """
        parts = text.strip().split(":")
        if len(text) > 200 or len(parts) != PLACES or not all(part.isascii() and part.isdigit() for part in parts):
            raise ValueError(f"sizes: got {text[:60]!r}; give {PLACES} numbers such as 8:16:32:32:64")
        found = Widths(tuple(map(int, parts)))
        self.check(found)
        return found

    def check(self, genotype: Widths) -> None:
        for place, number in enumerate(genotype.channels, start=1):
            if number not in self.channels:
                allowed = ", ".join(map(str, self.channels))
                raise ValueError(f"block {place}: got {number} channels; allowed are {allowed}")

    def sample(self, rng: random.Random) -> Widths:
        """Every block drawn uniformly."""
        return Widths(tuple(rng.choices(self.channels, k=PLACES)))

    def neighbours(self, genotype: Widths) -> list[Widths]:
        """All that differ in one block."""
        given = genotype.channels
        return [
            Widths((*given[:place], number, *given[place + 1 :]))
            for place in range(PLACES)
            for number in self.channels
            if number != given[place]
        ]

    def mutate(self, genotype: Widths, rng: random.Random) -> Widths:
        """A neighbour, drawn uniformly."""
        return rng.choice(self.neighbours(genotype))

    def crossover(self, first: Widths, second: Widths, rng: random.Random) -> Widths:
        """A child that takes each block from one of its parents, either with probability one half."""
        return Widths(tuple(rng.choice(pair) for pair in zip(first.channels, second.channels, strict=True)))

    @cached_property
    def choices(self) -> tuple[int, ...]:  # type: ignore[override]
        """One decision a block."""
        return (len(self.channels),) * PLACES

    def decisions(self, genotype: Widths) -> tuple[int, ...]:
        return tuple(map(self.channels.index, genotype.channels))

    def decided(self, decisions: Sequence[int]) -> Widths:
        return Widths(tuple(self.channels[choice] for choice in decisions))

    @property
    def size(self) -> int:
        """Number of networks."""
        return len(self.channels) ** PLACES

    def encode(self, genotype: Widths) -> list[int]:
        """The channels of every block."""
        return list(genotype.channels)

    def connections(self, genotype: Widths) -> dict[str, tuple[tuple[int, int, str], ...]]:
        """A chain of blocks by their channels."""
        return {"network": tuple((place, place + 1, str(width)) for place, width in enumerate(genotype.channels))}

    @cached_property
    def cells(self) -> dict[str, Cell]:  # type: ignore[override]
        """A row of architecture parameters a block."""
        edges = tuple((place, place + 1) for place in range(PLACES))
        return {"network": Cell(tuple(map(str, self.channels)), edges)}

    @property
    def edge_names(self) -> tuple[str, ...]:
        return tuple(f"block {place}" for place in range(1, PLACES + 1))

    def final_size(self, size: NetworkSize) -> NetworkSize:
        """A genotype has all of its size in itself."""
        return size

    def size_text(self, size: NetworkSize) -> str:
        return size.data

    def network(self, genotype: Widths, size: NetworkSize, batch_norm: str = "running") -> SizedNetwork:
        from supernet.sized import SizedNetwork

        return SizedNetwork(genotype, size, batch_norm)

    def supernet(
        self, size: NetworkSize, batch_norm: str = "batch", generator: torch.Generator | None = None
    ) -> SizedSuperNet:
        from supernet.sized import SizedSuperNet

        return SizedSuperNet(self.channels, size, batch_norm, generator)
