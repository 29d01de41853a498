"""Recurrent networks of the usual kinds: which one, its depth, width and dropout, and what comes before the answer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

from supernet.genomes import GENES, RecurrentGenome
from supernet.size import NetworkSize
from supernet.spaces.base import Space
from supernet.wiring import Cell

if TYPE_CHECKING:
    import torch

    from supernet.recurrent_layers import LayersNetwork, LayersSuperNet

KINDS = ("rnn", "gru", "lstm")
ACTIVATIONS = ("identity", "tanh", "relu")


class RecurrentNetworks(Space):
    """Networks of one to several layers of one kind, with dropout between them and before the answer, and an activation
    between the last state and the linear answer.

    Args:
        kinds: of ``rnn`` (tanh), ``gru``, ``lstm``.
        layers, widths: numbers of layers, and of numbers in a state, ascending.
        dropouts: shares from 0, below 1.
        activations: of ``identity``, ``tanh``, ``relu``.

    Raises:
        ValueError: nothing to choose from, or something that no network has.
    """

    takes = "series"

    def __init__(
        self,
        kinds: Sequence[str] = KINDS,
        layers: Sequence[int] = (1, 2, 3),
        widths: Sequence[int] = (8, 16, 32, 64, 128),
        dropouts: Sequence[float] = (0.0, 0.1, 0.2),
        activations: Sequence[str] = ACTIVATIONS,
    ) -> None:
        self.values: dict[str, tuple[Any, ...]] = {
            "kind": tuple(kinds), "layers": tuple(layers), "width": tuple(widths),
            "dropout": tuple(map(float, dropouts)), "activation": tuple(activations),
        }  # fmt: skip
        fits = {
            "kind": (KINDS.__contains__, ", ".join(KINDS)),
            "layers": (lambda n: type(n) is int and 1 <= n <= 8, "numbers from 1 to 8"),
            "width": (lambda n: type(n) is int and 1 <= n <= 1024, "numbers from 1 to 1024"),
            "dropout": (lambda p: 0 <= p < 1, "shares from 0, below 1"),
            "activation": (ACTIVATIONS.__contains__, ", ".join(ACTIVATIONS)),
        }
        for name, values in self.values.items():
            test, allowed = fits[name]
            if not values or len(set(values)) != len(values) or not all(map(test, values)):
                raise ValueError(f"{name}: got {list(values)}; give different ones of: {allowed}")

    def describe(self) -> dict[str, Any]:
        return {name: list(values) for name, values in self.values.items()}

    def parse(self, text: str) -> RecurrentGenome:
        """Read a genome.

        Raises:
            ValueError: it is none, or none of this space; the message names the gene.
        """
        shape = "a genome reads gru/layers=2/width=32/dropout=0.1/tanh"
        genes = text.strip().split("/")
        if len(text) > 1000 or len(genes) != len(GENES):
            raise ValueError(f"genome {text[:60]!r}: got {len(genes)} genes, give {len(GENES)}; {shape}")
        found = []
        for name, gene in zip(GENES, genes, strict=True):
            value = gene if name in ("kind", "activation") else gene.removeprefix(f"{name}=")
            known = {f"{one:g}" if isinstance(one, float) else str(one): one for one in self.values[name]}
            if value not in known or (name not in ("kind", "activation") and not gene.startswith(f"{name}=")):
                raise ValueError(f"gene {name}: got {gene!r}; allowed are {', '.join(known)}; {shape}")
            found.append(known[value])
        return RecurrentGenome(*found)

    def sample(self, rng: random.Random) -> RecurrentGenome:
        """Every gene drawn uniformly."""
        return RecurrentGenome(*(rng.choice(values) for values in self.values.values()))

    def neighbours(self, genotype: RecurrentGenome) -> list[RecurrentGenome]:
        """All that differ in one gene."""
        return [
            genotype._replace(**{name: value})
            for name, values in self.values.items()
            for value in values
            if value != getattr(genotype, name)
        ]

    def mutate(self, genotype: RecurrentGenome, rng: random.Random) -> RecurrentGenome:
        """A neighbour, drawn uniformly."""
        others = self.neighbours(genotype)
        return rng.choice(others) if others else genotype

    def crossover(self, first: RecurrentGenome, second: RecurrentGenome, rng: random.Random) -> RecurrentGenome:
        """A child that takes each gene from one of its parents, either with probability one half."""
        return RecurrentGenome._make(rng.choice(pair) for pair in zip(first, second, strict=True))

    @cached_property
    def choices(self) -> tuple[int, ...]:  # type: ignore[override]
        """One decision a gene."""
        return tuple(map(len, self.values.values()))

    def decisions(self, genotype: RecurrentGenome) -> tuple[int, ...]:
        return tuple(values.index(gene) for gene, values in zip(genotype, self.values.values(), strict=True))

    def decided(self, decisions: Sequence[int]) -> RecurrentGenome:
        return RecurrentGenome(*(v[choice] for choice, v in zip(decisions, self.values.values(), strict=True)))

    @property
    def size(self) -> int:
        """Number of genomes."""
        return prod(self.choices)

    def encode(self, genotype: RecurrentGenome) -> list[int]:
        """One-hot code, gene by gene."""
        pairs = zip(genotype, self.values.values(), strict=True)
        return [int(gene == value) for gene, values in pairs for value in values]

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where the values of each gene begin among all."""
        return tuple(sum(self.choices[:place]) for place in range(len(GENES)))

    @cached_property
    def cells(self) -> dict[str, Cell]:  # type: ignore[override]
        """A row of architecture parameters a gene; the values of all genes are the operations, of which each row allows
        its own."""
        names = tuple(
            f"{name} {value:g}" if isinstance(value, int | float) else value
            for name, values in self.values.items()
            for value in values
        )
        return {"network": Cell(names, tuple((place, place + 1) for place in range(len(GENES))))}

    @property
    def edge_names(self) -> tuple[str, ...]:
        return GENES

    @property
    def allowed_EO(self) -> tuple[tuple[bool, ...], ...]:
        total = sum(self.choices)
        return tuple(
            tuple(start <= place < start + count for place in range(total))
            for start, count in zip(self.offsets, self.choices, strict=True)
        )

    def relaxed(self, choice_E: Sequence[int]) -> RecurrentGenome:
        return self.decided([choice - start for choice, start in zip(choice_E, self.offsets, strict=True)])

    def path(self, genotype: RecurrentGenome) -> tuple[int, ...]:
        return tuple(c + start for c, start in zip(self.decisions(genotype), self.offsets, strict=True))

    def final_size(self, size: NetworkSize) -> NetworkSize:
        """A genome has all of its size in itself."""
        return size

    def size_text(self, size: NetworkSize) -> str:
        return f"{size.image_size} steps of {size.in_channels} columns"

    def network(self, genotype: RecurrentGenome, size: NetworkSize, batch_norm: str = "running") -> LayersNetwork:
        from supernet.recurrent_layers import LayersNetwork

        return LayersNetwork(genotype, size)

    def supernet(
        self, size: NetworkSize, batch_norm: str = "batch", generator: torch.Generator | None = None
    ) -> LayersSuperNet:
        from supernet.recurrent_layers import LayersSuperNet

        return LayersSuperNet(self.values, size, generator)
