"""Two nodes that both read the input, three operations, nine genotypes; a genotype is a text of two names."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from supernet.cell import SearchCell
from supernet.cost import count
from supernet.norm import norm_factory
from supernet.operations import build_operation
from supernet.relaxations.base import EdgeWeights
from supernet.size import Cost, NetworkSize
from supernet.spaces.base import Space
from supernet.wiring import Cell

NAMES = ("skip_connect", "nor_conv_1x1", "avg_pool_3x3")
PAIR = Cell(NAMES, ((0, 1), (0, 2)), output="sum")


class TwoNodes(Space):
    """The input goes through two operations, whose sum is the output."""

    def parse(self, text: str) -> str:
        names = text.split()
        if len(names) != 2 or not set(names) <= set(NAMES):
            raise ValueError(f"cell {text!r}: give two of {', '.join(NAMES)}")
        return " ".join(names)

    def sample(self, rng: random.Random) -> str:
        return " ".join(rng.choices(NAMES, k=2))

    def describe(self) -> dict[str, object]:
        return {"nodes": 2, "names": list(NAMES)}

    def cost(self, genotype: str, size: NetworkSize) -> Cost:
        return count(self.network(genotype, size), size.in_channels, size.image_size)

    def network(self, genotype: str, size: NetworkSize, batch_norm: str = "running") -> nn.Module:
        return Single(genotype.split(), size, batch_norm)

    def connections(self, genotype: str) -> dict[str, tuple[tuple[int, int, str], ...]]:
        first, second = genotype.split()
        return {"pair": ((0, 1, first), (0, 2, second))}

    @property
    def choices(self) -> tuple[int, ...]:
        return (3, 3)

    def decisions(self, genotype: str) -> tuple[int, ...]:
        return tuple(NAMES.index(name) for name in genotype.split())

    def decided(self, decisions: Sequence[int]) -> str:
        return " ".join(NAMES[choice] for choice in decisions)

    def mutate(self, genotype: str, rng: random.Random) -> str:
        names = genotype.split()
        names[rng.randrange(2)] = rng.choice(NAMES)
        return " ".join(names)

    @property
    def size(self) -> int:
        return 9

    def genotype(self, index: int) -> str:
        return self.decided(divmod(index, 3))

    def index(self, genotype: str) -> int:
        first, second = self.decisions(genotype)
        return 3 * first + second

    @property
    def cells(self) -> dict[str, Cell]:
        return {"pair": PAIR}

    def supernet(
        self, size: NetworkSize, batch_norm: str = "batch", generator: torch.Generator | None = None
    ) -> nn.Module:
        return Mixture(size, batch_norm, generator)


class Ends(nn.Module):
    """What stands before and after the cell."""

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        self.stem = nn.Conv2d(size.in_channels, size.channels, 3, padding=1)
        self.head = nn.Linear(size.channels, size.num_classes)


class Single(Ends):
    """The network of one genotype."""

    def __init__(self, names: list[str], size: NetworkSize, batch_norm: str) -> None:
        super().__init__(size)
        norm = norm_factory(batch_norm, affine=True)
        self.operations = nn.ModuleList(build_operation(name, size.channels, 1, norm) for name in names)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        first, second = self.operations
        x_BCHW = self.stem(x_BCHW)
        return self.head((first(x_BCHW) + second(x_BCHW)).mean(dim=(2, 3)))


class Mixture(Ends):
    """All of them in one."""

    def __init__(self, size: NetworkSize, batch_norm: str, generator: torch.Generator | None) -> None:
        super().__init__(size)
        self.cell = SearchCell(PAIR, size.channels, norm_factory(batch_norm, affine=False))
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0.0, 0.2, generator=generator)

    def forward(self, x_BCHW: Tensor, edge_weights: EdgeWeights) -> Tensor:
        y_BCHW = self.cell(self.stem(x_BCHW), edge_weights.weights, edge_weights.active_EO)
        return self.head(y_BCHW.mean(dim=(2, 3)))

    def resting(self, paths: Sequence[EdgeWeights]) -> list[tuple[nn.Parameter, Tensor]]:
        return []
