"""The search cell used in training: the mathematics of `mixed_op.py`, evaluated one source node at a time.

All edges that leave a node share its value. So a node is passed through one ReLU, one pooling and one stacked
convolution a kernel size, whose output channels hold those of all its edges, target by target: `supernet.leaving`.
Operations that cannot be stacked stay modules, one an edge.

Shape suffixes: B batch, C channels, H height, W width, T targets of one source node, E edges, O operations.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.fast_leaving import leaving
from supernet.leaving import Conv, ConvInputs, Plan
from supernet.mixed_op import ReferenceCell
from supernet.norm import NormFactory
from supernet.operations import BUILT_IN, AvgPool3x3, ReLUConvBN, Zero, build_operation
from supernet.search_space import SearchSpace

KINDS: dict[type[nn.Module], str] = {
    Zero: "none",
    nn.Identity: "identity",
    AvgPool3x3: "pool",
    ReLUConvBN: "stacked",
}  # of built-in operations; one from outside, whatever it builds, is a module of its own on every edge
Active = tuple[tuple[bool, ...], ...]


class StackedConvBN(nn.Module):
    """k x k convolutions (no bias) and normalisations of T edges that share their input, stored as one tensor.

    Output channels are ordered target by target: `weight[t * C : (t + 1) * C]` belongs to the t-th edge.
    """

    running_mean: Tensor | None
    running_var: Tensor | None

    def __init__(self, template: ReLUConvBN, num_targets: int) -> None:
        super().__init__()
        convolution, norm = template.convolution, template.norm
        assert norm.momentum is not None
        self.num_targets, self.channels = num_targets, convolution.out_channels
        self.kernel_size, self.eps, self.momentum = template.kernel_size, norm.eps, norm.momentum
        self.weight = nn.Parameter(torch.empty(num_targets * self.channels, *convolution.weight.shape[1:]))
        tracked = norm.track_running_stats
        self.register_buffer("running_mean", torch.zeros(num_targets * self.channels) if tracked else None)
        self.register_buffer("running_var", torch.ones(num_targets * self.channels) if tracked else None)

    def rows(self, target: int) -> slice:
        """Where the channels of one edge stand."""
        return slice(target * self.channels, (target + 1) * self.channels)

    def copy_to(self, operation: ReLUConvBN, target: int) -> None:
        """Copy one edge's weights and running statistics into a module of its own."""
        rows = self.rows(target)
        with torch.no_grad():
            operation.convolution.weight.copy_(self.weight[rows])
            for mine, theirs in (
                (self.running_mean, operation.norm.running_mean),
                (self.running_var, operation.norm.running_var),
            ):
                if mine is not None and theirs is not None:
                    theirs.copy_(mine[rows])

    def prepare(self, targets: tuple[int, ...], channels: int, weights_T: Tensor) -> ConvInputs:
        """The tensors of the chosen edges, of their first `channels` channels."""
        weight: Tensor = self.weight
        mean, var = (None, None) if self.training else (self.running_mean, self.running_var)
        if (index_S := self._index(targets, channels)) is not None:
            weight = weight[index_S, :channels]
            mean, var = (None if mean is None else mean[index_S], None if var is None else var[index_S])
        return ConvInputs(weight, weights_T, mean, var)

    def track(self, targets: tuple[int, ...], channels: int, pixels: int, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics of the chosen edges towards those of a batch (as nn.BatchNorm2d does)."""
        if self.running_mean is None or self.running_var is None or not self.training:
            return
        index_S = self._index(targets, channels)
        unbiased = var * (pixels / max(1, pixels - 1))
        for running, value in ((self.running_mean, mean), (self.running_var, unbiased)):
            if index_S is None:
                running.lerp_(value.to(running), self.momentum)
            else:
                running[index_S] = torch.lerp(running[index_S], value.to(running), self.momentum)

    def _index(self, targets: tuple[int, ...], channels: int) -> Tensor | None:
        """Rows of the weight that are chosen, on its device; None for all."""
        if len(targets) == self.num_targets and channels == self.channels:
            return None
        return _rows(targets, self.channels, channels, self.weight.device)


@cache
def _index(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Made once, so that choosing rows never waits for a copy to the device."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


@cache
def _rows(targets: tuple[int, ...], stride: int, channels: int, device: torch.device) -> Tensor:
    """The first `channels` rows of some targets, which have `stride` rows each."""
    return _index(tuple(target * stride + channel for target in targets for channel in range(channels)), device)


@cache
def _live(active_EO: Active, edges: tuple[tuple[int, int], ...], carries_O: tuple[bool, ...]) -> Active:
    """The marks without edges that no value comes through: from a node that nothing reaches, or to one that leads
    nowhere."""
    used_E = [any(mark and carries for mark, carries in zip(row, carries_O, strict=True)) for row in active_EO]
    reached, needed = {0}, {max(target for _, target in edges)}
    for (source, target), used in zip(edges, used_E, strict=True):  # ordered by target
        if used and source in reached:
            reached.add(target)
    for (source, target), used in reversed(list(zip(edges, used_E, strict=True))):
        if used and target in needed:
            needed.add(source)
    return tuple(
        tuple(mark and source in reached and target in needed for mark in row)
        for row, (source, target) in zip(active_EO, edges, strict=True)
    )


def _plus(known_BCHW: Tensor | None, term_BCHW: Tensor) -> Tensor:
    return term_BCHW if known_BCHW is None else known_BCHW + term_BCHW


class SearchCell(nn.Module):
    """A complete cell with all candidate operations; equal to `ReferenceCell` in value and gradient.

    Args:
        space: the cells that can be discovered.
        channels: channels C of every node.
        norm: makes the normalisations inside operations (without affine parameters during search).
    """

    native = False  # whether compiled kernels may be used

    def __init__(self, space: SearchSpace, channels: int, norm: NormFactory) -> None:
        super().__init__()
        self.space, self.channels, self.norm = space, channels, norm
        self.stacked = nn.ModuleDict()  # "source:operation" -> StackedConvBN of all edges that leave the source
        self.single = nn.ModuleDict()  # "edge:operation" -> a module of that edge alone
        self.edges_from = [
            tuple(edge for edge, pair in enumerate(space.edges) if pair[0] == source)
            for source in range(space.num_nodes - 1)
        ]  # in order of target
        self.kinds: list[str] = []  # by operation: none, identity, pool, stacked or single
        for position, name in enumerate(space.operations):
            self.kinds.append(self._add(position, name))
        self.carries_O = tuple(kind != "none" for kind in self.kinds)
        # with running statistics, or operations from outside, even a node of zeros sends something on
        self.tracked = any(stack.running_mean is not None for stack in self.stacked.values())
        self.zeros_stay = not self.tracked and not self.single

    def _add(self, position: int, name: str) -> str:
        template = build_operation(name, self.channels, self.norm)
        kind = KINDS[type(template)] if name in BUILT_IN else "single"
        if isinstance(template, ReLUConvBN) and kind == "stacked":
            for source in range(self.space.num_nodes - 1):
                targets = self.space.num_nodes - 1 - source
                self.stacked[f"{source}:{position}"] = StackedConvBN(template, targets)
        elif kind == "single":
            for edge in range(len(self.space.edges)):
                self.single[f"{edge}:{position}"] = build_operation(name, self.channels, self.norm)
        return kind

    def forward(
        self,
        x_BCHW: Tensor,
        weights_EO: Tensor,
        active_EO: Active,
        extra_skip_E: Tensor | None = None,
        partial: int = 1,
        bypass_E: Tensor | None = None,
    ) -> Tensor:
        """The value of the last node.

        Args:
            x_BCHW: the cell's input.
            weights_EO, active_EO, extra_skip_E, partial, bypass_E: see `supernet.relaxations.base.EdgeWeights`.

        Raises:
            ValueError: `partial` does not divide the channels, or is used with operations from outside.
        """
        if partial < 1 or self.channels % partial or (partial > 1 and self.single):
            raise ValueError(f"partial: got {partial}; give a divisor of {self.channels}, and 1 for other operations")
        if self.zeros_stay and partial == 1 and extra_skip_E is None:
            active_EO = _live(active_EO, self.space.edges, self.carries_O)
        channels = self.channels // partial
        heads: list[Tensor | None] = [None] * self.space.num_nodes  # sums of what reaches a node
        tails: list[Tensor | None] = [None] * self.space.num_nodes  # of channels that bypass the operations
        value_BCHW = x_BCHW
        for source in range(self.space.num_nodes - 1):
            if source:
                value_BCHW = self._node(heads[source], tails[source], x_BCHW, partial)
            terms = self._leaving(source, value_BCHW[:, :channels], weights_EO, active_EO, extra_skip_E)
            for target, term_BCHW in terms:
                heads[target] = _plus(heads[target], term_BCHW)
            if partial > 1:
                for target, edge in enumerate(self.edges_from[source], start=source + 1):
                    tail_BCHW = value_BCHW[:, channels:]
                    tails[target] = _plus(tails[target], tail_BCHW if bypass_E is None else bypass_E[edge] * tail_BCHW)
        return self._node(heads[-1], tails[-1], x_BCHW, partial)

    def _node(self, head_BCHW: Tensor | None, tail_BCHW: Tensor | None, x_BCHW: Tensor, partial: int) -> Tensor:
        """A node's value. One that nothing reaches is zero, and so is what leaves it through bias-free operations."""
        if head_BCHW is None:
            head_BCHW = torch.zeros_like(x_BCHW[:, : self.channels // partial])
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
        index_T = _index(edges, weights_EO.device)
        weights_OT = weights_EO.index_select(0, index_T).unbind(1)
        skip: tuple[int, ...] = ()
        pool: tuple[int, ...] = ()
        skip_T: Tensor | None = None
        pool_T: Tensor | None = None
        stacks: list[tuple[StackedConvBN, tuple[int, ...]]] = []
        inputs: list[ConvInputs] = []
        terms: list[tuple[int, Tensor]] = []
        for position, kind in enumerate(self.kinds):
            chosen = tuple(t for t, edge in enumerate(edges) if active_EO[edge][position])
            if not chosen:
                continue
            match kind:
                case "identity":
                    skip, skip_T = chosen, weights_OT[position]
                case "pool":
                    pool, pool_T = chosen, weights_OT[position]
                case "stacked":
                    stack: StackedConvBN = self.stacked[f"{source}:{position}"]  # type: ignore[assignment]
                    stacks.append((stack, chosen))
                    inputs.append(stack.prepare(chosen, channels, weights_OT[position]))
                case "single":
                    for t in chosen:
                        value_BCHW = self.single[f"{edges[t]}:{position}"](x_BCHW)
                        terms.append((source + 1 + t, weights_OT[position][t] * value_BCHW))
        if extra_skip_E is not None:
            extra_T = extra_skip_E.index_select(0, index_T)
            mask_T = torch.tensor([t in skip for t in range(len(edges))], device=extra_T.device)
            skip_T = extra_T if skip_T is None else torch.where(mask_T, skip_T + extra_T, extra_T)
            skip = tuple(range(len(edges)))
        convs = tuple(Conv(chosen, stack.kernel_size, stack.eps) for stack, chosen in stacks)
        plan = Plan(skip, pool, convs, self.tracked and self.training, self.native)
        if reached := plan.reached:
            found = leaving(plan, x_BCHW, skip_T, pool_T, inputs)
            terms += [(source + 1 + t, term_BCHW) for t, term_BCHW in zip(reached, found, strict=False)]
            pixels = x_BCHW.numel() // channels
            statistics = found[len(reached) :]  # none if they are not tracked
            for (stack, chosen), mean, var in zip(stacks, statistics[::2], statistics[1::2], strict=False):
                stack.track(chosen, channels, pixels, mean, var)
        return terms

    def copy_to(self, operation: nn.Module, edge: int, position: int) -> None:
        """Copy the weights of one candidate operation into a module built for it alone."""
        source, target = self.space.edges[edge]
        match self.kinds[position]:
            case "stacked":
                self.stacked[f"{source}:{position}"].copy_to(operation, target - source - 1)  # type: ignore[operator]
            case "single":
                operation.load_state_dict(self.single[f"{edge}:{position}"].state_dict())

    def reference(self) -> ReferenceCell:
        """The same cell in its plain form, with a copy of the weights."""
        any_weight = next(self.parameters(), torch.empty(0))
        cell = ReferenceCell(self.space, self.channels, self.norm).to(any_weight)
        for edge, mixed in enumerate(cell.edges):
            for position, operation in enumerate(mixed.candidates):  # type: ignore[arg-type, union-attr]
                self.copy_to(operation, edge, position)
        return cell.train(self.training)
