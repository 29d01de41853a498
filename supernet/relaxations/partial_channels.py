"""Partial channels with edge normalisation (PC-DARTS, Xu et al. 2020, arXiv:1907.05737, eq. 2 and 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from supernet.relaxations.base import Around, EdgeWeights, Parameters, Relaxation
from supernet.spaces.base import Space


class PartialChannels(Around):
    """Another relaxation of whose edges only a part of the channels goes through the operations; the rest pass by.

    With edge normalisation each edge has one more parameter, and what it carries, also past the operations, is weighed
    by the softmax over the edges into the same node.

    Args:
        inner: the relaxation.
        space: of the search, for its edges.
        k: operations see 1 / k of the channels, which it must divide.
        edge_normalisation: learn weights of edges, ``beta_E``.

    Raises:
        ValueError: k below 1.
    """

    def __init__(self, inner: Relaxation, space: Space, k: int = 4, edge_normalisation: bool = True) -> None:
        super().__init__(inner)
        if k < 1:
            raise ValueError(f"k: got {k}; give 1 or more")
        self.k, self.edge_normalisation = k, edge_normalisation
        nodes = [(kind, target) for kind, cell in space.cells.items() for _, target in cell.edges]
        self.node_E = torch.tensor([nodes.index(node) for node in nodes])

    def init_params(self, shapes: Mapping[str, tuple[int, ...]], generator: torch.Generator) -> dict[str, Tensor]:
        own = {"beta_E": tuple(self.node_E.shape)} if self.edge_normalisation else {}
        return super().init_params({**shapes, **own}, generator)

    def changed(self, found: EdgeWeights, params: Parameters, progress: float) -> EdgeWeights:
        if not self.edge_normalisation:
            return replace(found, partial=self.k)
        beta_E = params["beta_E"]
        powers_E = (beta_E - beta_E.detach().max()).exp()
        share_E = powers_E / torch.zeros_like(powers_E).index_add(0, self.node_E, powers_E)[self.node_E]
        return replace(found, weights=found.weights * share_E[:, None], partial=self.k, bypass=share_E)
