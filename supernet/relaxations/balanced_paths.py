"""Single paths that are deep as often as they are shallow (balanced sampling, as published rankings of shared weights
on NAS-Bench-201 use it)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from supernet.cost import edge_cost
from supernet.relaxations.base import EdgeWeights, Parameters
from supernet.relaxations.single_path import SinglePath
from supernet.size import NetworkSize
from supernet.spaces.base import Space
from supernet.wiring import Cell

DRAWN = 256  # cells drawn at once
TRIES = 100  # such draws before another depth is tried


class BalancedPaths(SinglePath):
    """Draws a depth uniformly, then a cell uniformly among the living ones of that depth.

    The depth of a cell is the largest number of operations with weights on a path from an input to the output; 0 and 1
    are one class. A cell lives if a path leads through it at all. Uniform single paths are dead or shallow for the most
    part, and train what good cells need least. Trains shared weights, and no architecture.

    Args:
        space: of the search.
        init_scale: as in every relaxation; the parameters are not used.
    """

    def __init__(self, space: Space, init_scale: float = 1e-3) -> None:
        super().__init__(init_scale)
        self.cells, size = list(space.cells.values()), NetworkSize()
        self.steps_O = torch.tensor([float(edge_cost(name, size).params > 0) for name in space.candidates])
        self.steps_O[[name == "none" for name in space.candidates]] = -math.inf

    def depths(self, cell: Cell, choice_NE: Tensor) -> Tensor:
        """Depth of each of N cells; minus infinity where nothing comes through."""
        steps_NE = self.steps_O[choice_NE]
        reached: list[Tensor] = [torch.zeros(len(choice_NE)) for _ in range(cell.inputs)]
        for target in range(cell.inputs, cell.num_nodes):
            into = [reached[s] + steps_NE[:, e] for e, (s, t) in enumerate(cell.edges) if t == target]
            reached.append(torch.stack(into).amax(dim=0))
        return reached[-1] if cell.output == "last" else torch.stack(reached[cell.inputs :]).amax(dim=0)

    def __call__(self, params: Parameters, progress: float, generator: torch.Generator, half: str) -> list[EdgeWeights]:
        alpha_EO = params["alpha_EO"]
        choice_E: list[int] = []
        for cell in self.cells:
            allowed_EO = (alpha_EO[len(choice_E) : len(choice_E) + len(cell.edges)] > -math.inf).to(alpha_EO.dtype)
            choice_E += self._drawn(cell, allowed_EO, generator)
        return [EdgeWeights.one_hot(choice_E, alpha_EO.shape[-1], alpha_EO.dtype)]

    def _drawn(self, cell: Cell, allowed_EO: Tensor, generator: torch.Generator) -> list[int]:
        deepest_EO = self.steps_O.masked_fill(allowed_EO == 0, -math.inf)
        most = int(self.depths(cell, deepest_EO.argmax(dim=-1)[None])[0].clamp(min=0))
        for _ in range(TRIES):
            depth = 1 + int(torch.randint(max(1, most), (), generator=generator))
            for _ in range(TRIES):
                choice_NE = torch.multinomial(allowed_EO, DRAWN, replacement=True, generator=generator).T
                depth_N = self.depths(cell, choice_NE)
                fits_N = (depth_N == depth) | ((depth_N == 0) & (depth == 1))
                if fits_N.any():
                    found: list[int] = choice_NE[int(fits_N.nonzero()[0])].tolist()
                    return found
        raise ValueError("the operations that are left on the edges let nothing through")
