"""The search cell used in training: the mathematics of `mixed_op.py`, evaluated one source node at a time.

All edges that leave a node share its value. So a node is passed through one ReLU, one pooling and one stacked
convolution a kernel size, whose output channels hold those of all its edges, target by target: `supernet.leaving`.
Operations that cannot be stacked stay modules, one an edge.

Shape suffixes: B batch, C channels, H height, W width, T targets of one source node, E edges, O operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.fast_leaving import leaving
from supernet.leaving import Conv, ConvInputs, Plan
from supernet.mixed_op import ReferenceCell, output_of, passed_by
from supernet.norm import NormFactory
from supernet.operations import AvgPool3x3, Zero, build_operation
from supernet.relaxations.base import EdgeWeights
from supernet.single import SHARED, rectifier, weighted
from supernet.stacked import StackedConvBN, can_be_stacked, index_on, rows_of
from supernet.wiring import Cell

KINDS: dict[type[nn.Module], str] = {Zero: "none", nn.Identity: "identity", AvgPool3x3: "pool"}
Active = tuple[tuple[bool, ...], ...]


@cache
def _live(active_EO: Active, cell: Cell, carries_O: tuple[bool, ...]) -> Active:
    """The marks without edges that no value comes through: from a node that nothing reaches, or to one that leads
    nowhere."""
    used_E = [any(mark and carries for mark, carries in zip(row, carries_O, strict=True)) for row in active_EO]
    live_E = cell.live(used_E)
    return tuple(tuple(mark and live for mark in row) for row, live in zip(active_EO, live_E, strict=True))


def _plus(known_BCHW: Tensor | None, term_BCHW: Tensor) -> Tensor:
    return term_BCHW if known_BCHW is None else known_BCHW + term_BCHW


class SearchCell(nn.Module):
    """A complete cell with all candidate operations; equal to `ReferenceCell` in value and gradient.

    Args:
        cell: its wiring.
        channels: channels C of every node.
        norm: makes the normalisations inside operations (without affine parameters during search).
    """

    native = False  # whether compiled kernels may be used

    def __init__(self, cell: Cell, channels: int, norm: NormFactory) -> None:
        super().__init__()
        self.cell, self.channels, self.norm = cell, channels, norm
        self.stacked = nn.ModuleDict()  # "source:operation" -> StackedConvBN of all edges that leave the source
        self.single = nn.ModuleDict()  # "edge:operation" -> a module of that edge alone
        self.shared = nn.ModuleDict()  # "source:operation" -> a module that all edges from the source have in common
        self.edges_from = [
            tuple(edge for edge, pair in enumerate(cell.edges) if pair[0] == source)
            for source in range(cell.num_nodes - 1)
        ]  # in order of target
        self.kinds: list[str] = []  # by operation
        for position, name in enumerate(cell.candidates):
            template = build_operation(name, channels, 1, norm, cell.normalised_pools)
            # by what an operation is made of, whatever its name; anything else is a module of its own on every edge
            shared = "shared" if type(template) in SHARED else "single"
            self.kinds.append("stacked" if can_be_stacked(template) else KINDS.get(type(template), shared))
            for source, edges in enumerate(self.edges_from):
                kind, stride = self._kind(source, position), self.cell.stride_from(source)
                if kind == "stacked" and edges:
                    self.stacked[f"{source}:{position}"] = StackedConvBN(template, len(edges))  # type: ignore[arg-type]
                elif kind == "shared" and edges:
                    self.shared[f"{source}:{position}"] = self._built(name, stride)
                for edge in edges if kind == "single" else ():
                    self.single[f"{edge}:{position}"] = self._built(name, stride)
        self.carries_O = tuple(kind != "none" for kind in self.kinds)
        # with running statistics, or operations from outside, even a node of zeros sends something on
        self.tracked = any(stack.running_mean is not None for stack in self.stacked.values())
        held = any(buffer.is_floating_point() for buffer in self.shared.buffers())  # of pools that are normalised
        self.zeros_stay = not self.tracked and not self.single and not held

    def _built(self, name: str, stride: int) -> nn.Module:
        return build_operation(name, self.channels, stride, self.norm, self.cell.normalised_pools)

    def _kind(self, source: int, position: int) -> str:
        """none, identity, pool, stacked, shared or single; with a stride none, shared or single."""
        kind = self.kinds[position]
        if self.cell.stride_from(source) == 1 or kind in ("none", "shared"):
            return kind
        return "shared" if kind == "pool" else "single"

    def forward(
        self,
        x_BCHW: Tensor | Sequence[Tensor],
        weights_EO: Tensor,
        active_EO: Active,
        extra_skip_E: Tensor | None = None,
        partial: int = 1,
        bypass_E: Tensor | None = None,
    ) -> Tensor:
        """The cell's output.

        Args:
            x_BCHW: the cell's input, or inputs.
            weights_EO, active_EO, extra_skip_E, partial, bypass_E: see `supernet.relaxations.base.EdgeWeights`.

        Raises:
            ValueError: `partial` does not divide the channels; an extra skip in a cell of stride 2.
        """
        if partial < 1 or self.channels % partial:
            raise ValueError(f"partial: got {partial}; give a divisor of {self.channels}")
        if self.cell.stride > 1 and extra_skip_E is not None:
            raise ValueError("extra_skip: it passes values by, which a cell of stride 2 cannot")
        if partial == 1 and extra_skip_E is None:
            active_EO = self.live(active_EO)
        inputs = [x_BCHW] if isinstance(x_BCHW, Tensor) else list(x_BCHW)
        channels, first = self.channels // partial, self.cell.inputs
        heads: list[Tensor | None] = [None] * self.cell.num_nodes  # sums of what reaches a node
        tails: list[Tensor | None] = [None] * self.cell.num_nodes  # of channels that bypass the operations
        like_BCHW = inputs[0][:, :, :: self.cell.stride, :: self.cell.stride]
        found: list[Tensor] = []
        for source in range(self.cell.num_nodes - 1):
            if source < first:
                value_BCHW = inputs[source]
            else:
                value_BCHW = self._node(heads[source], tails[source], like_BCHW, partial)
                found.append(value_BCHW)
            if not self.edges_from[source]:
                continue
            terms = self._leaving(source, value_BCHW[:, :channels], weights_EO, active_EO, extra_skip_E)
            for target, term_BCHW in terms:
                heads[target] = _plus(heads[target], term_BCHW)
            if partial > 1:
                tail_BCHW = passed_by(value_BCHW[:, channels:], self.cell.stride_from(source))
                for edge in self.edges_from[source]:
                    target = self.cell.edges[edge][1]
                    tails[target] = _plus(tails[target], tail_BCHW if bypass_E is None else bypass_E[edge] * tail_BCHW)
        found.append(self._node(heads[-1], tails[-1], like_BCHW, partial))
        return output_of(self.cell, found)

    def live(self, active_EO: Active) -> Active:
        """The marks of what is computed: without edges that lead nowhere, where that changes nothing."""
        return _live(active_EO, self.cell, self.carries_O) if self.zeros_stay else active_EO

    def computed(self, path: EdgeWeights) -> Active:
        """The marks of what a pass computes."""
        return self.live(path.active_EO) if path.partial == 1 and path.extra_skip is None else path.active_EO

    def resting(self, paths: Sequence[EdgeWeights]) -> list[tuple[nn.Parameter, Tensor]]:
        """Rows of stacked weights that all of these passes leave out while others of their stack are computed."""
        by_edge = zip(*map(self.computed, paths), strict=True)
        active_EO = [[any(marks) for marks in zip(*edge, strict=True)] for edge in by_edge]
        found = []
        for name, stack in self.stacked.items():
            source, position = map(int, name.split(":"))
            edges = self.edges_from[source]
            left_out = tuple(t for t, edge in enumerate(edges) if not active_EO[edge][position])
            if left_out and len(left_out) < len(edges):
                rows = rows_of(left_out, self.channels, self.channels, stack.weight.device)  # type: ignore[arg-type]
                found.append((stack.weight, rows))
        return found  # type: ignore[return-value]

    def _node(self, head_BCHW: Tensor | None, tail_BCHW: Tensor | None, like_BCHW: Tensor, partial: int) -> Tensor:
        """A node's value. One that nothing reaches is zero, and so is what leaves it through bias-free operations."""
        if head_BCHW is None:
            head_BCHW = torch.zeros_like(like_BCHW[:, : self.channels // partial])
        if tail_BCHW is None:
            return head_BCHW
        return F.channel_shuffle(torch.cat([head_BCHW, tail_BCHW.to(head_BCHW.dtype)], dim=1), partial)

    def _leaving(
        self,
        source: int,
        x_BCHW: Tensor,
        weights_EO: Tensor,
        active_EO: Active,
        extra_skip_E: Tensor | None,
    ) -> list[tuple[int, Tensor]]:
        """(target, weighted term) for everything that leaves one node."""
        edges, channels = self.edges_from[source], x_BCHW.shape[1]
        targets = [self.cell.edges[edge][1] for edge in edges]
        index_T = index_on(edges, weights_EO.device)
        weights_OT = weights_EO.index_select(0, index_T).unbind(1)
        skip: tuple[int, ...] = ()
        pool: tuple[int, ...] = ()
        skip_T: Tensor | None = None
        pool_T: Tensor | None = None
        stacks: list[tuple[StackedConvBN, tuple[int, ...]]] = []
        inputs: list[ConvInputs] = []
        terms: list[tuple[int, Tensor]] = []
        rectified = rectifier(x_BCHW)
        for position in range(len(self.kinds)):
            chosen = tuple(t for t, edge in enumerate(edges) if active_EO[edge][position])
            if not chosen:
                continue
            match self._kind(source, position):
                case "identity":
                    skip, skip_T = _merged(skip, skip_T, chosen, weights_OT[position])
                case "pool":
                    pool, pool_T = _merged(pool, pool_T, chosen, weights_OT[position])
                case "stacked":
                    stack: StackedConvBN = self.stacked[f"{source}:{position}"]  # type: ignore[assignment]
                    stacks.append((stack, chosen))
                    inputs.append(stack.prepare(chosen, channels, weights_OT[position]))
                case "shared":
                    value_BCHW = weighted(self.shared[f"{source}:{position}"], self.channels, x_BCHW, rectified)
                    terms += [(targets[t], weights_OT[position][t] * value_BCHW) for t in chosen]
                case "single":
                    for t in chosen:
                        operation, weight = self.single[f"{edges[t]}:{position}"], weights_OT[position][t]
                        terms.append((targets[t], weighted(operation, self.channels, x_BCHW, rectified, weight)))
        if extra_skip_E is not None:
            everywhere = tuple(range(len(edges)))
            skip, skip_T = _merged(skip, skip_T, everywhere, extra_skip_E.index_select(0, index_T))
        convs = tuple(Conv(chosen, stack.kernel_size, stack.eps) for stack, chosen in stacks)
        plan = Plan(skip, pool, convs, self.tracked and self.training, self.native)
        if reached := plan.reached:
            found = leaving(plan, x_BCHW, skip_T, pool_T, inputs)
            terms += [(targets[t], term_BCHW) for t, term_BCHW in zip(reached, found, strict=False)]
            pixels = x_BCHW.numel() // channels
            statistics = found[len(reached) :]  # none if they are not tracked
            for (stack, chosen), mean, var in zip(stacks, statistics[::2], statistics[1::2], strict=False):
                stack.track(chosen, channels, pixels, mean, var)
        return terms

    def copy_to(self, operation: nn.Module, edge: int, position: int) -> None:
        """Copy the weights of one candidate operation into a module built for it alone."""
        source = self.cell.edges[edge][0]
        match self._kind(source, position):
            case "stacked":
                place = self.edges_from[source].index(edge)
                self.stacked[f"{source}:{position}"].copy_to(operation, place)  # type: ignore[operator]
            case "shared":
                operation.load_state_dict(self.shared[f"{source}:{position}"].state_dict())
            case "single":
                operation.load_state_dict(self.single[f"{edge}:{position}"].state_dict())

    def reference(self) -> ReferenceCell:
        """The same cell in its plain form, with a copy of the weights."""
        any_weight = next(self.parameters(), torch.empty(0))
        cell = ReferenceCell(self.cell, self.channels, self.norm).to(any_weight)
        for edge, mixed in enumerate(cell.edges):
            for position, operation in enumerate(mixed.candidates):  # type: ignore[arg-type, union-attr]
                self.copy_to(operation, edge, position)
        return cell.train(self.training)


def _merged(
    known: tuple[int, ...], known_T: Tensor | None, more: tuple[int, ...], more_T: Tensor
) -> tuple[tuple[int, ...], Tensor]:
    """Targets and weights of two operations that do the same, as one."""
    if known_T is None:
        return more, more_T
    targets, count = sorted({*known, *more}), len(more_T)
    masks = [torch.tensor([t in chosen for t in range(count)], device=more_T.device) for chosen in (known, more)]
    total_T = torch.where(masks[0], known_T, 0) + torch.where(masks[1], more_T, 0)
    return tuple(targets), total_T
