"""The definition of the search cell, one edge and one operation at a time: easy to read, slow to run.

`supernet.cell.SearchCell` computes the same function fast; tests hold the two equal.

Shape suffixes: E edges, O operations, B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.norm import NormFactory
from supernet.operations import build_operation
from supernet.wiring import Cell


class MixedOp(nn.Module):
    """Weighted sum of all candidate operations of one edge (DARTS, Liu et al. 2019, arXiv:1806.09055, eq. 2)."""

    def __init__(self, cell: Cell, channels: int, norm: NormFactory, stride: int = 1) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(
            build_operation(name, channels, stride, norm, cell.normalised_pools) for name in cell.candidates
        )

    def forward(self, x_BCHW: Tensor, weights_O: Tensor) -> Tensor:
        return sum(weight * op(x_BCHW) for weight, op in zip(weights_O, self.candidates, strict=True))  # type: ignore[return-value]


class ReferenceCell(nn.Module):
    """A node is the sum of the mixed operations on its incoming edges."""

    def __init__(self, cell: Cell, channels: int, norm: NormFactory) -> None:
        super().__init__()
        self.cell = cell
        self.edges = nn.ModuleList(MixedOp(cell, channels, norm, cell.stride_from(source)) for source, _ in cell.edges)

    def forward(
        self,
        x_BCHW: Tensor | Sequence[Tensor],
        weights_EO: Tensor,
        extra_skip_E: Tensor | None = None,
        partial: int = 1,
        bypass_E: Tensor | None = None,
    ) -> Tensor:
        """Arguments as in `supernet.relaxations.base.EdgeWeights`; with `partial` the cell has C / partial channels."""
        nodes: list[Tensor] = [x_BCHW] if isinstance(x_BCHW, Tensor) else list(x_BCHW)
        edge = 0
        for target in range(self.cell.inputs, self.cell.num_nodes):
            terms = []
            for source in (source for source, to in self.cell.edges if to == target):
                head_BCHW, *tails = nodes[source].split(nodes[0].shape[1] // partial, dim=1)
                term_BCHW = self.edges[edge](head_BCHW, weights_EO[edge])
                if extra_skip_E is not None:
                    term_BCHW = term_BCHW + extra_skip_E[edge] * head_BCHW
                bypass = 1 if bypass_E is None else bypass_E[edge]
                passed = [bypass * passed_by(tail_BCHW, self.cell.stride_from(source)) for tail_BCHW in tails]
                term_BCHW = torch.cat([term_BCHW, *passed], dim=1)
                terms.append(F.channel_shuffle(term_BCHW, partial))
                edge += 1
            nodes.append(sum(terms))  # type: ignore[arg-type]
        return output_of(self.cell, nodes[self.cell.inputs :])


def passed_by(x_BCHW: Tensor, stride: int) -> Tensor:
    """Channels that go past the operations of an edge (PC-DARTS, arXiv:1907.05737); a stride takes their maximum."""
    return x_BCHW if stride == 1 else F.max_pool2d(x_BCHW, stride, ceil_mode=True)


def output_of(cell: Cell, nodes: Sequence[Tensor]) -> Tensor:
    """What a cell gives: of the values of its nodes, the inputs left out."""
    match cell.output:
        case "sum":
            return sum(nodes)  # type: ignore[return-value]
        case "concat":
            return torch.cat(list(nodes), dim=1)
    return nodes[-1]
