"""Chains of inverted residuals (Cai et al. 2019, ProxylessNAS, arXiv:1812.00332, section 4): kernel and expansion of
every block, or none of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

from supernet.chain import ChainPlan, Place
from supernet.genomes import Blocks
from supernet.size import NetworkSize
from supernet.spaces.base import Space
from supernet.wiring import Cell

if TYPE_CHECKING:
    import torch

    from supernet.mobile_network import MobileNetwork
    from supernet.mobile_supernet import MobileSuperNet

SKIP = "skip"


class Mobile(Space):
    """Stages of blocks after a stem and one fixed block; the first block of a stage changes channels and size, each of
    the others may be left out.

    Args:
        stages: channels, blocks and stride of every stage.
        stem: channels of the stem.
        stem_stride: 2 for large images.
        first: channels of the fixed block (kernel 3, no expansion).
        head: channels of the 1x1 convolution before the classifier.
        kernels, expansions: of blocks, ascending.
        stabilised: a block that is left out is a 1x1 convolution while its weights are shared (SCARLET-NAS, Chu et al.
            2021, arXiv:1908.06022, section 3.2); files for other programs do without.

    Raises:
        ValueError: numbers that no chain has.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[int]] = ((24, 3, 2), (40, 3, 2), (80, 3, 1)),
        stem: int = 16,
        stem_stride: int = 1,
        first: int = 16,
        head: int = 320,
        kernels: Sequence[int] = (3, 5, 7),
        expansions: Sequence[int] = (3, 6),
        stabilised: bool = False,
    ) -> None:
        if not stages or not all(
            len(stage) == 3 and min(stage) >= 1 and stage[1] <= 32 and stage[2] in (1, 2) for stage in stages
        ):
            raise ValueError(
                f"stages: got {[list(s) for s in stages]}; give [channels, blocks, stride 1 or 2] for each"
            )
        for name, number in (("stem", stem), ("first", first), ("head", head)):
            if number < 1:
                raise ValueError(f"{name}: got {number}; give 1 or more channels")
        if stem_stride not in (1, 2):
            raise ValueError(f"stem_stride: got {stem_stride}; give 1 or 2")
        for name, numbers, fits in (
            ("kernels", kernels, (1, 3, 5, 7, 9)), ("expansions", expansions, tuple(range(1, 13))),
        ):  # fmt: skip
            if not numbers or sorted(set(numbers)) != list(numbers) or not set(numbers) <= set(fits):
                raise ValueError(f"{name}: got {list(numbers)}; give different ones of {fits}, ascending")
        shape = tuple(tuple(map(int, stage)) for stage in stages)
        self.plan = ChainPlan(shape, stem, stem_stride, first, head, stabilised)  # type: ignore[arg-type]
        self.names = tuple(f"k{kernel}e{expansion}" for kernel in kernels for expansion in expansions)
        self.operations = (SKIP, *self.names)
        self.places: tuple[Place, ...] = self.plan.places

    def describe(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "stages": [list(stage) for stage in plan.stages], "stem": plan.stem, "stem_stride": plan.stem_stride,
            "first": plan.first, "head": plan.head, "operations": list(self.operations),
            "stabilised": plan.stabilised,
        }  # fmt: skip

    def allowed(self, place: int) -> tuple[str, ...]:
        """Names of what a block may be."""
        return self.operations if self.places[place].residual else self.names

    def parse(self, text: str) -> Blocks:
        """Read ``k3e3+k5e6+skip+...``.

        Raises:
            ValueError: it is something else; the message names the block.
        """
        if len(text) > 10_000:
            raise ValueError(f"chain: got {len(text)} characters; give names such as k3e6+skip+k5e3")
        genotype = Blocks(tuple(text.strip().split("+")))
        self.check(genotype)
        return genotype

    def check(self, genotype: Blocks) -> None:
        if len(genotype.names) != len(self.places):
            raise ValueError(
                f"chain: got {len(genotype.names)} blocks, joined by '+'; the space has {len(self.places)}"
            )
        for place, name in enumerate(genotype.names):
            if name not in (allowed := self.allowed(place)):
                raise ValueError(f"block {place + 1}: got {name[:40]!r}; allowed are {', '.join(allowed)}")

    def sample(self, rng: random.Random) -> Blocks:
        """Every block drawn uniformly."""
        return Blocks(tuple(rng.choice(self.allowed(place)) for place in range(len(self.places))))

    def neighbours(self, genotype: Blocks) -> list[Blocks]:
        """All that differ in one block."""
        given = genotype.names
        return [
            Blocks((*given[:place], name, *given[place + 1 :]))
            for place in range(len(given))
            for name in self.allowed(place)
            if name != given[place]
        ]

    def mutate(self, genotype: Blocks, rng: random.Random) -> Blocks:
        """A neighbour, drawn uniformly."""
        return rng.choice(self.neighbours(genotype))

    def crossover(self, first: Blocks, second: Blocks, rng: random.Random) -> Blocks:
        """A child that takes each block from one of its parents, either with probability one half."""
        return Blocks(tuple(rng.choice(pair) for pair in zip(first.names, second.names, strict=True)))

    @cached_property
    def choices(self) -> tuple[int, ...]:  # type: ignore[override]
        """One decision a block."""
        return tuple(len(self.allowed(place)) for place in range(len(self.places)))

    def decisions(self, genotype: Blocks) -> tuple[int, ...]:
        return tuple(self.allowed(place).index(name) for place, name in enumerate(genotype.names))

    def decided(self, decisions: Sequence[int]) -> Blocks:
        return Blocks(tuple(self.allowed(place)[choice] for place, choice in enumerate(decisions)))

    @property
    def size(self) -> int:
        """Number of chains."""
        return prod(self.choices)

    def encode(self, genotype: Blocks) -> list[int]:
        """One-hot code, block by block."""
        return [int(name == known) for name in genotype.names for known in self.operations]

    def connections(self, genotype: Blocks) -> dict[str, tuple[tuple[int, int, str], ...]]:
        """A chain."""
        return {"chain": tuple((place, place + 1, name) for place, name in enumerate(genotype.names))}

    @cached_property
    def cells(self) -> dict[str, Cell]:  # type: ignore[override]
        """A row of architecture parameters a block."""
        return {"chain": Cell(self.operations, tuple((place, place + 1) for place in range(len(self.places))))}

    @property
    def edge_names(self) -> tuple[str, ...]:
        return tuple(f"block {place}" for place in range(1, len(self.places) + 1))

    @property
    def allowed_EO(self) -> tuple[tuple[bool, ...], ...]:
        """Only blocks that keep the shape may be left out."""
        return tuple(
            tuple(name in self.allowed(place) for name in self.operations) for place in range(len(self.places))
        )

    def relaxed(self, choice_E: Sequence[int]) -> Blocks:
        found = Blocks(tuple(self.operations[choice] for choice in choice_E))
        self.check(found)
        return found

    def path(self, genotype: Blocks) -> tuple[int, ...]:
        return tuple(map(self.operations.index, genotype.names))

    def final_size(self, size: NetworkSize) -> NetworkSize:
        """A space has all of its size in itself."""
        return size

    def size_text(self, size: NetworkSize) -> str:
        return size.data

    def network(self, genotype: Blocks, size: NetworkSize, batch_norm: str = "running") -> MobileNetwork:
        from supernet.mobile_network import MobileNetwork

        return MobileNetwork(genotype, self.plan, size, batch_norm)

    def supernet(
        self, size: NetworkSize, batch_norm: str = "batch", generator: torch.Generator | None = None
    ) -> MobileSuperNet:
        from supernet.mobile_supernet import MobileSuperNet

        return MobileSuperNet(self.operations, self.plan, size, batch_norm, generator)
