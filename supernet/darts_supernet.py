"""The search network of the DARTS space: every edge of both cells holds all operations.

Shape suffixes: L cells, E edges of both kinds, O operations, B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from supernet.cell import SearchCell
from supernet.cell_pair import INPUTS, CellPair
from supernet.darts_network import DartsNetwork, Place, entered, places, preprocessing, stems
from supernet.norm import NormFactory, norm_factory
from supernet.recompute import run_cell
from supernet.relaxations.base import EdgeWeights, seeded
from supernet.size import NetworkSize
from supernet.skeleton import init_weights
from supernet.spaces.base import LEFT_OUT, Space
from supernet.wiring import Cell


class _Layer(nn.Module):
    """A search cell behind what brings its inputs to its channels; `rows` are its kind's of the edge weights."""

    def __init__(self, cell: Cell, place: Place, rows: tuple[int, int], norm: NormFactory) -> None:
        super().__init__()
        self.rows = rows
        self.preprocess = preprocessing(place, norm)
        self.cell = SearchCell(cell, place.channels, norm)


class DartsSuperNet(nn.Module):
    """All pairs of cells in one network (Liu et al. 2019, arXiv:1806.09055, section 3.1.1: C=16, 8 cells).

    Args:
        space: what can be discovered.
        size: channels C of the first cells, cells in all.
        batch_norm: ``batch`` or ``running`` statistics, see `supernet.norm`.
        generator: source of the initial weights; torch's global one if None.
        stem: see `supernet.spaces.darts_cells.DartsCells`.

    Raises:
        ValueError: a size that is not positive, or an unknown mode.
    """

    passes_by = ("partial",)  # of `EdgeWeights`: reduction cells have no extra skips

    def __init__(
        self, space: Space, size: NetworkSize, batch_norm: str = "batch",
        generator: torch.Generator | None = None, stem: str = "cifar",
    ) -> None:  # fmt: skip
        super().__init__()
        size.require("channels", "cells", "num_classes", "in_channels")
        self.space, self.network_size, self.batch_norm, self.stem_kind = space, size, batch_norm, stem
        self.recompute = False  # keep only the cells' inputs for the backward pass, and run the cells again in it
        inner = norm_factory(batch_norm, affine=False)
        nodes = space.cells["normal"].num_nodes - INPUTS
        with seeded(generator) if generator is not None else nullcontext():
            self.stem = stems(size, norm_factory(batch_norm, affine=True), stem)
            found = list(places(size, lambda kind: nodes, stem))
            edges = len(space.cells["normal"].edges)
            rows = {kind: (number * edges, (number + 1) * edges) for number, kind in enumerate(space.cells)}
            self.layers = nn.ModuleList(_Layer(space.cells[p.kind], p, rows[p.kind], inner) for p in found)
            self.classifier = nn.Linear(nodes * found[-1].channels, size.num_classes)
        init_weights(self, generator)
        self.to(memory_format=torch.channels_last)

    @property
    def num_cells(self) -> int:
        """Cells L."""
        return len(self.layers)

    def forward(self, x_BCHW: Tensor, edge_weights: EdgeWeights) -> Tensor:
        """Logits (B, K) of the mixture.

        Args:
            x_BCHW: images.
            edge_weights: weights (E, O) or (L, E, O) on the images' device, the normal cell's edges first.

        Raises:
            ValueError: weights for another number of cells.
        """
        if edge_weights.weights.dim() == 3 and len(edge_weights.weights) != self.num_cells:
            raise ValueError(f"weights: got them for {len(edge_weights.weights)} cells; there are {self.num_cells}")
        older_BCHW, newer_BCHW = entered(self.stem, x_BCHW)
        for number, layer in enumerate(self.layers):
            inputs = [layer.preprocess[0](older_BCHW), layer.preprocess[1](newer_BCHW)]  # type: ignore[index, operator, union-attr]
            mine = edge_weights.of_cell(number).of_edges(*layer.rows)  # type: ignore[arg-type, misc]
            older_BCHW, newer_BCHW = newer_BCHW, run_cell(layer.cell, inputs, mine, self.recompute)  # type: ignore[arg-type]
        logits_BK: Tensor = self.classifier(newer_BCHW.mean(dim=(2, 3)))
        return logits_BK

    def resting(self, paths: Sequence[EdgeWeights]) -> list[tuple[nn.Parameter, Tensor]]:
        """Rows of parameters that none of these passes computes although it computes others of the same tensor."""
        if any(all(map(all, path.active_EO)) for path in paths):
            return []
        return [
            pair
            for layer in self.layers
            for pair in layer.cell.resting([path.of_edges(*layer.rows) for path in paths])  # type: ignore[misc, union-attr, operator, arg-type]
        ]

    def inherit(self, genotype: CellPair) -> DartsNetwork:
        """The network of one genotype with a copy of this supernet's weights and its normalisation: it computes what
        the supernet computes with one-hot edge weights."""
        network = DartsNetwork(genotype, self.network_size, self.batch_norm, affine=False, stem=self.stem_kind)
        example = self.classifier.weight
        network.to(device=example.device, dtype=example.dtype)
        path_E = self.space.path(genotype)
        for mine, theirs in zip(self.layers, network.layers, strict=True):
            theirs.preprocess.load_state_dict(mine.preprocess.state_dict())  # type: ignore[union-attr]
            first, last = mine.rows  # type: ignore[misc]
            own_E = path_E[first:last]  # type: ignore[misc]
            taken = [(edge, choice) for edge, choice in enumerate(own_E) if choice != LEFT_OUT]
            for operation, (edge, choice) in zip(theirs.edges, taken, strict=True):  # type: ignore[union-attr, arg-type]
                mine.cell.copy_to(operation, edge, choice)  # type: ignore[union-attr, operator]
        network.stem.load_state_dict(self.stem.state_dict())
        network.classifier.load_state_dict(self.classifier.state_dict())
        return network.train(self.training)
