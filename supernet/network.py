"""The supernet: NAS-Bench-201's macro network with a search cell in every place of a cell.

Shape suffixes: L cells, E edges, O operations, B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from supernet.cell import SearchCell
from supernet.discrete_network import DiscreteNetwork
from supernet.norm import norm_factory
from supernet.recompute import run_cell
from supernet.relaxations.base import EdgeWeights, seeded
from supernet.skeleton import Skeleton, init_weights
from supernet.spaces.base import Genotype, Space


class SuperNet(Skeleton):
    """All cells of a space in one network; edge weights come from outside, so it owns no architecture parameters.

    Args:
        space: what can be discovered: one kind of cell with one input, whose last node is the output.
        channels: channels C of the first stage; the stages have C, 2C and 4C.
        cells: cells a stage, 3 * cells in all (NAS-Bench-201's networks have 5).
        num_classes: outputs K.
        in_channels: channels of the images.
        batch_norm: ``batch`` or ``running`` statistics, see `supernet.norm`.
        generator: source of the initial weights; torch's global one if None.

    Raises:
        ValueError: a size that is not positive, or an unknown mode.
    """

    passes_by = ("partial", "extra_skip")  # of `EdgeWeights`: what goes past the operations

    def __init__(
        self,
        space: Space,
        channels: int = 16,
        cells: int = 5,
        num_classes: int = 10,
        in_channels: int = 3,
        batch_norm: str = "batch",
        generator: torch.Generator | None = None,
    ) -> None:
        inner = norm_factory(batch_norm, affine=False)
        (cell,) = space.cells.values()
        # operations from outside draw their initial weights from torch's generator
        with seeded(generator) if generator is not None else nullcontext():
            super().__init__(
                lambda width: SearchCell(cell, width, inner), channels, cells, num_classes, in_channels, batch_norm
            )
        self.space = space
        self.recompute = False  # keep only the cells' inputs for the backward pass, and run the cells again in it
        init_weights(self, generator)
        self.to(memory_format=torch.channels_last)  # the layout of fast convolutions, and of the search cell

    @property
    def num_cells(self) -> int:
        """Cells L."""
        return 3 * self.cells

    def forward(self, x_BCHW: Tensor, edge_weights: EdgeWeights) -> Tensor:
        """Logits (B, K) of the mixture.

        Args:
            x_BCHW: images.
            edge_weights: weights (E, O) or (L, E, O) on the images' device.

        Raises:
            ValueError: weights for another number of cells.
        """
        if edge_weights.weights.dim() == 3 and len(edge_weights.weights) != self.num_cells:
            raise ValueError(f"weights: got them for {len(edge_weights.weights)} cells; there are {self.num_cells}")
        numbers = itertools.count()
        return self.run(
            x_BCHW,
            lambda layer, value_BCHW: run_cell(layer, value_BCHW, edge_weights.of_cell(next(numbers)), self.recompute),  # type: ignore[arg-type]
        )

    def resting(self, paths: Sequence[EdgeWeights]) -> list[tuple[nn.Parameter, Tensor]]:
        """Rows of parameters that none of these passes computes although it computes others of the same tensor.

        Their gradient is zero, not missing, so an optimizer with momentum or weight decay would move them.
        """
        if any(all(map(all, path.active_EO)) for path in paths):
            return []
        cells = [layer for layer in self.layers if isinstance(layer, SearchCell)]
        return [pair for cell in cells for pair in cell.resting(paths)]

    def inherit(self, genotype: Genotype) -> DiscreteNetwork:
        """The network of one cell with a copy of this supernet's weights.

        It keeps the search's normalisation (no affine parameters inside cells, the same statistics), so it
        computes what the supernet computes with one-hot edge weights.
        """
        network = DiscreteNetwork(
            genotype,
            self.channels,
            self.cells,
            self.num_classes,
            self.in_channels,
            batch_norm=self.batch_norm,
            affine_cells=False,
        )
        example = self.classifier.weight
        network.to(device=example.device, dtype=example.dtype)
        for mine, theirs in zip(self.layers, network.layers, strict=True):
            if not isinstance(mine, SearchCell):
                theirs.load_state_dict(mine.state_dict())
                continue
            for edge, (_, _, name) in enumerate(genotype.connections):
                operation = theirs.edges[edge]  # type: ignore[index, union-attr]
                mine.copy_to(operation, edge, mine.cell.candidates.index(name))  # type: ignore[arg-type]
        network.stem.load_state_dict(self.stem.state_dict())
        network.last_norm.load_state_dict(self.last_norm.state_dict())
        network.classifier.load_state_dict(self.classifier.state_dict())
        return network.train(self.training)
