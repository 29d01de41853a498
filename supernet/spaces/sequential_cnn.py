"""Sequential convolutional networks as genome strings: layers without skips, two of which halve the image."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from supernet.genomes import Genome, Layer
from supernet.size import NetworkSize
from supernet.spaces.base import Space

if TYPE_CHECKING:
    from supernet.sequential_network import SequentialNetwork

ACTIVATIONS = ("relu", "sigmoid", "tanh", "swish", "gelu")
KERNELS = (1, 3, 5, 7)
FILTERS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
REDUCTIONS = 2
SHAPE = "a genome reads N32-3-relu+R64-5-gelu+...: kind, filters, kernel, activation of every layer"


class SequentialCnn(Space):
    """Any number of normal layers (stride 1) and exactly two reduction layers (stride 2) in any order, each with
    filters, a kernel and an activation; then the mean over pixels, a fully connected layer of 64, and one of the number
    of classes.

    Args:
        filters: numbers of filters to choose from, ascending.
        kernels: their sides, odd.
        activations: of ``relu``, ``sigmoid``, ``tanh``, ``swish``, ``gelu``.
        most_layers: normal layers and reductions together, at least 3.

    Raises:
        ValueError: nothing to choose from, or something that no layer has.
    """

    def __init__(
        self,
        filters: Sequence[int] = FILTERS,
        kernels: Sequence[int] = KERNELS,
        activations: Sequence[str] = ACTIVATIONS,
        most_layers: int = 8,
    ) -> None:
        given: tuple[tuple[str, Sequence[Any], Callable[[Any], bool], str], ...] = (
            ("filters", filters, lambda f: type(f) is int and 1 <= f <= 4096, "numbers from 1 to 4096"),
            ("kernels", kernels, lambda k: k in (1, 3, 5, 7, 9, 11), "odd numbers up to 11"),
            ("activations", activations, lambda a: a in ACTIVATIONS, ", ".join(ACTIVATIONS)),
        )
        for name, values, fits, allowed in given:
            if not values or len(set(values)) != len(values) or not all(map(fits, values)):
                raise ValueError(f"{name}: got {list(values)}; give different ones of: {allowed}")
        if not REDUCTIONS < most_layers <= 64:
            raise ValueError(f"most_layers: got {most_layers}; give 3 to 64")
        self.filters, self.kernels, self.activations = tuple(filters), tuple(kernels), tuple(activations)
        self.most_layers = most_layers

    def describe(self) -> dict[str, Any]:
        return {
            "filters": list(self.filters), "kernels": list(self.kernels), "activations": list(self.activations),
            "most_layers": self.most_layers,
        }  # fmt: skip

    def parse(self, text: str) -> Genome:
        """Read a genome.

        Raises:
            ValueError: it is none, or none of this space; the message names the gene.
        """
        if len(text) > 10_000:
            raise ValueError(f"genome: got {len(text)} characters; {SHAPE}")
        layers = []
        for number, gene in enumerate(text.strip().split("+"), start=1):
            found = re.fullmatch(r"([NR])([0-9]{1,4})-([0-9]{1,2})-([a-z]+)", gene)
            if found is None:
                raise ValueError(f"gene {number}: got {gene!r}; {SHAPE}")
            layers.append(Layer(found[1] == "R", int(found[2]), int(found[3]), found[4]))
        genome = Genome(tuple(layers))
        self.check(genome)
        return genome

    def check(self, genotype: Genome) -> None:
        for number, layer in enumerate(genotype.layers, start=1):
            for name, value, allowed in (
                ("filters", layer.filters, self.filters), ("kernel", layer.kernel, self.kernels),
                ("activation", layer.activation, self.activations),
            ):  # fmt: skip
                if value not in allowed:
                    raise ValueError(
                        f"gene {number}, {layer}: the {name} {value} is not in this space; allowed are "
                        f"{', '.join(map(str, allowed))}"
                    )
        reductions = sum(layer.reduces for layer in genotype.layers)
        if reductions != REDUCTIONS:
            raise ValueError(f"genome {genotype}: got {reductions} reduction layers; give exactly {REDUCTIONS}")
        if len(genotype.layers) > self.most_layers:
            raise ValueError(f"genome: got {len(genotype.layers)} layers; give at most {self.most_layers}")

    def sample(self, rng: random.Random) -> Genome:
        """The number of layers uniformly from 3, the places of the reductions, and everything about each layer."""
        count = rng.randint(REDUCTIONS + 1, self.most_layers)
        places = rng.sample(range(count), REDUCTIONS)
        return Genome(tuple(self._layer(place in places, rng) for place in range(count)))

    def _layer(self, reduces: bool, rng: random.Random) -> Layer:
        return Layer(reduces, rng.choice(self.filters), rng.choice(self.kernels), rng.choice(self.activations))

    def mutate(self, genotype: Genome, rng: random.Random) -> Genome:
        """One of the other mutations, drawn uniformly among those that can be done."""
        names = [name for name in self.mutations if name != "mutate"]
        names = [name for name in names if name != "add" or len(genotype.layers) < self.most_layers]
        return self.mutations[rng.choice(names)](genotype, rng)

    @cached_property
    def mutations(self) -> Mapping[str, Callable[[Genome, random.Random], Genome]]:  # type: ignore[override]
        """`swap`: two layers change places; `invert`: a row of layers in reverse order; `filters`: other filters of one
        layer; `layer`: another layer of its kind in its place; `add` and `remove`: a normal layer more, or less."""
        return {
            "mutate": self.mutate, "swap": self.swap, "invert": self.invert, "filters": self.change_filters,
            "layer": self.change_layer, "add": self.add, "remove": self.remove,
        }  # fmt: skip

    def swap(self, genotype: Genome, rng: random.Random) -> Genome:
        """Two layers, drawn uniformly, change places."""
        layers = list(genotype.layers)
        one, other = rng.sample(range(len(layers)), 2)
        layers[one], layers[other] = layers[other], layers[one]
        return Genome(tuple(layers))

    def invert(self, genotype: Genome, rng: random.Random) -> Genome:
        """The layers between two, drawn uniformly, both included, in reverse order."""
        layers = list(genotype.layers)
        first, last = sorted(rng.sample(range(len(layers)), 2))
        layers[first : last + 1] = reversed(layers[first : last + 1])
        return Genome(tuple(layers))

    def change_filters(self, genotype: Genome, rng: random.Random) -> Genome:
        """Another number of filters in one layer."""
        place = rng.randrange(len(genotype.layers))
        others = [number for number in self.filters if number != genotype.layers[place].filters]
        if not others:
            return genotype
        return self._with(genotype, place, genotype.layers[place]._replace(filters=rng.choice(others)))

    def change_layer(self, genotype: Genome, rng: random.Random) -> Genome:
        """Another layer, of the same kind, in the place of one."""
        place = rng.randrange(len(genotype.layers))
        return self._with(genotype, place, self._layer(genotype.layers[place].reduces, rng))

    def add(self, genotype: Genome, rng: random.Random) -> Genome:
        """A normal layer somewhere; a network with as many layers as it may have changes one instead."""
        if len(genotype.layers) == self.most_layers:
            return self.change_layer(genotype, rng)
        place = rng.randint(0, len(genotype.layers))
        return Genome((*genotype.layers[:place], self._layer(False, rng), *genotype.layers[place:]))

    def remove(self, genotype: Genome, rng: random.Random) -> Genome:
        """A normal layer less; of a network without any a layer is changed instead."""
        normal = [place for place, layer in enumerate(genotype.layers) if not layer.reduces]
        if not normal:
            return self.change_layer(genotype, rng)
        place = rng.choice(normal)
        return Genome((*genotype.layers[:place], *genotype.layers[place + 1 :]))

    @staticmethod
    def _with(genotype: Genome, place: int, layer: Layer) -> Genome:
        return Genome((*genotype.layers[:place], layer, *genotype.layers[place + 1 :]))

    def crossover(self, first: Genome, second: Genome, rng: random.Random) -> Genome:
        """The layers up to the first reduction, those up to the second and the rest each come from either parent;
        normal layers at the end are left out where the child would have too many."""
        parts = zip(_thirds(first), _thirds(second), strict=True)
        chosen = [rng.choice(pair) for pair in parts]
        layers = [layer for part in chosen for layer in part]
        while len(layers) > self.most_layers:
            del layers[max(place for place, layer in enumerate(layers) if not layer.reduces)]
        return Genome(tuple(layers))

    def options(self, decisions: Sequence[int]) -> int:
        """Four decisions a layer: what it is (normal, reduction, or the end), its filters, kernel and activation. What
        would break the constraints is not on offer: a row goes on until both reductions are there."""
        row = list(decisions)
        kinds: list[str] = []
        while row:
            kinds.append(self._kinds(kinds)[row[0]])
            if kinds[-1] == "end":
                return 0
            if len(row) < 4:
                return (len(self.filters), len(self.kernels), len(self.activations))[len(row) - 1]
            row = row[4:]
        return len(self._kinds(kinds)) if len(kinds) < self.most_layers else 0

    def _kinds(self, before: Sequence[str]) -> list[str]:
        """What the next layer may be."""
        missing = REDUCTIONS - before.count("R")
        left = self.most_layers - len(before)
        kinds = ["N"] if left > missing else []
        kinds += ["R"] if missing else []
        return kinds + (["end"] if not missing else [])

    def decisions(self, genotype: Genome) -> tuple[int, ...]:
        row: list[int] = []
        kinds: list[str] = []
        for layer in genotype.layers:
            kind = "R" if layer.reduces else "N"
            row += [
                self._kinds(kinds).index(kind), self.filters.index(layer.filters), self.kernels.index(layer.kernel),
                self.activations.index(layer.activation),
            ]  # fmt: skip
            kinds.append(kind)
        return tuple(row if len(kinds) == self.most_layers else [*row, self._kinds(kinds).index("end")])

    def decided(self, decisions: Sequence[int]) -> Genome:
        layers: list[Layer] = []
        kinds: list[str] = []
        for place in range(0, len(decisions), 4):
            kinds.append(self._kinds(kinds)[decisions[place]])
            if kinds[-1] == "end":
                break
            filters, kernel, activation = decisions[place + 1 : place + 4]
            layers.append(
                Layer(kinds[-1] == "R", self.filters[filters], self.kernels[kernel], self.activations[activation])
            )
        return Genome(tuple(layers))

    def encode(self, genotype: Genome) -> list[int]:
        """One-hot code of every layer, zeros for those that are not there."""
        code: list[int] = []
        for place in range(self.most_layers):
            layer = genotype.layers[place] if place < len(genotype.layers) else None
            for value, allowed in (
                (layer and layer.reduces, (False, True)), (layer and layer.filters, self.filters),
                (layer and layer.kernel, self.kernels), (layer and layer.activation, self.activations),
            ):  # fmt: skip
                code += [int(layer is not None and value == choice) for choice in allowed]
        return code

    def connections(self, genotype: Genome) -> dict[str, tuple[tuple[int, int, str], ...]]:
        """A chain."""
        return {"network": tuple((place, place + 1, str(layer)) for place, layer in enumerate(genotype.layers))}

    def final_size(self, size: NetworkSize) -> NetworkSize:
        """A genome has all of its size in itself."""
        return size

    def size_text(self, size: NetworkSize) -> str:
        return size.data

    def network(self, genotype: Genome, size: NetworkSize, batch_norm: str = "running") -> SequentialNetwork:
        from supernet.sequential_network import SequentialNetwork

        return SequentialNetwork(genotype, size, batch_norm)


def _thirds(genome: Genome) -> list[tuple[Layer, ...]]:
    first, second = (place for place, layer in enumerate(genome.layers) if layer.reduces)
    return [genome.layers[: first + 1], genome.layers[first + 1 : second + 1], genome.layers[second + 1 :]]
