"""Genotypes that are rows of genes, and their texts. No torch."""

from __future__ import annotations

from typing import NamedTuple

from supernet.genotype import Genotype


class Layer(NamedTuple):
    """One convolution; `reduces` says whether its stride is 2."""

    reduces: bool
    filters: int
    kernel: int
    activation: str

    def __str__(self) -> str:
        return f"{'R' if self.reduces else 'N'}{self.filters}-{self.kernel}-{self.activation}"


class Genome(NamedTuple):
    """The layers in order."""

    layers: tuple[Layer, ...]

    def __str__(self) -> str:
        return "+".join(map(str, self.layers))


class RecurrentGenotype(NamedTuple):
    """Activation and source of every node; node 0 is what the inputs make of the last state."""

    nodes: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return "|" + "".join(f"{name}~{source}|" for name, source in self.nodes)


GENES = ("kind", "layers", "width", "dropout", "activation")


class RecurrentGenome(NamedTuple):
    """The five decisions."""

    kind: str
    layers: int
    width: int
    dropout: float
    activation: str

    def __str__(self) -> str:
        return f"{self.kind}/layers={self.layers}/width={self.width}/dropout={self.dropout:g}/{self.activation}"


class Widths(NamedTuple):
    """Channels of every block."""

    channels: tuple[int, ...]

    def __str__(self) -> str:
        return ":".join(map(str, self.channels))


class Motifs(NamedTuple):
    """Graphs of all levels, the lowest first; the last is the cell."""

    motifs: tuple[Genotype, ...]

    def __str__(self) -> str:
        return ";".join(map(str, self.motifs))


class Blocks(NamedTuple):
    """Names of the blocks of a chain."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return "+".join(self.names)
