"""The search cell used in training: the mathematics of `mixed_op.py`, evaluated one source node at a time.

All edges that leave a node share its value. So a node is passed through one ReLU, one pooling and one stacked
convolution a kernel size, whose output channels hold those of all its edges, target by target; the edge weights
are folded into the scale of the normalisation. Operations that cannot be stacked stay modules, one an edge.

Shape suffixes: B batch, C channels, H height, W width, T targets of one source node, E edges, O operations.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
        self.padding, self.eps, self.momentum = convolution.padding, norm.eps, norm.momentum
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

    def forward(self, relu_BCHW: Tensor, weights_T: Tensor, targets: list[int]) -> Tensor:
        """Weighted, normalised convolutions (B, T, C, H, W) of the chosen edges.

        Args:
            relu_BCHW: the source node after ReLU.
            weights_T: an edge weight for each of `targets`.
            targets: which of the stacked edges to compute, ascending.
        """
        rows = None
        weight: Tensor = self.weight
        mean, var = self.running_mean, self.running_var
        if len(targets) < self.num_targets:
            steps = torch.arange(self.channels, device=weight.device)
            rows = torch.cat([target * self.channels + steps for target in targets])
            weight = weight[rows]
            mean, var = (None if mean is None else mean[rows], None if var is None else var[rows])
        out = F.conv2d(relu_BCHW, weight, padding=self.padding)
        use_batch = self.training or mean is None
        scale = weights_T.repeat_interleave(self.channels)
        out = F.batch_norm(out, mean, var, scale, None, use_batch, self.momentum, self.eps)
        if rows is not None and self.training:
            for whole, part in ((self.running_mean, mean), (self.running_var, var)):
                if whole is not None and part is not None:
                    whole[rows] = part
        return out.unflatten(1, (len(targets), self.channels))


class SearchCell(nn.Module):
    """A complete cell with all candidate operations; equal to `ReferenceCell` in value and gradient.

    Args:
        space: the cells that can be discovered.
        channels: channels C of every node.
        norm: makes the normalisations inside operations (without affine parameters during search).
    """

    def __init__(self, space: SearchSpace, channels: int, norm: NormFactory) -> None:
        super().__init__()
        self.space, self.channels, self.norm = space, channels, norm
        self.stacked = nn.ModuleDict()  # "source:operation" -> StackedConvBN of all edges that leave the source
        self.single = nn.ModuleDict()  # "edge:operation" -> a module of that edge alone
        self.pool = AvgPool3x3()
        self.kinds: list[str] = []  # by operation: none, identity, pool, stacked or single
        for position, name in enumerate(space.operations):
            self.kinds.append(self._add(position, name))

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

    def forward(self, x_BCHW: Tensor, weights_EO: Tensor, active_EO: Active) -> Tensor:
        """The value of the last node.

        Args:
            x_BCHW: the cell's input.
            weights_EO: a weight for every operation on every edge, on the input's device.
            active_EO: operations that are not active are neither computed nor counted.
        """
        space = self.space
        nodes: list[Tensor | None] = [x_BCHW] + [None] * (space.num_nodes - 1)
        for source in range(space.num_nodes - 1):
            value_BCHW = nodes[source]
            if value_BCHW is None:  # nothing reaches this node: it is zero, and so is all that leaves it through
                value_BCHW = torch.zeros_like(x_BCHW)  # bias-free operations; other ones still see zeros
            edges = [edge for edge, pair in enumerate(space.edges) if pair[0] == source]
            for target, term_BCHW in self._leaving(source, edges, value_BCHW, weights_EO, active_EO):
                known = nodes[target]
                nodes[target] = term_BCHW if known is None else known + term_BCHW
        out = nodes[-1]
        return torch.zeros_like(x_BCHW) if out is None else out

    def _leaving(
        self, source: int, edges: list[int], x_BCHW: Tensor, weights_EO: Tensor, active_EO: Active
    ) -> list[tuple[int, Tensor]]:
        """(target, weighted term) for everything that leaves one node; its edges are in order of target."""
        terms: list[tuple[int, Tensor]] = []
        relu_BCHW: Tensor | None = None
        pool_BCHW: Tensor | None = None
        for position, kind in enumerate(self.kinds):
            chosen = [t for t, edge in enumerate(edges) if active_EO[edge][position]]
            if kind == "none" or not chosen:
                continue
            if kind == "stacked":
                relu_BCHW = F.relu(x_BCHW) if relu_BCHW is None else relu_BCHW
                weights_T = weights_EO[[edges[t] for t in chosen], position]
                out_BTCHW = self.stacked[f"{source}:{position}"](relu_BCHW, weights_T, chosen)
                terms += [(source + 1 + t, out_BCHW) for t, out_BCHW in zip(chosen, out_BTCHW.unbind(1), strict=True)]
                continue
            if kind == "pool" and pool_BCHW is None:
                pool_BCHW = self.pool(x_BCHW)
            for t in chosen:
                match kind:
                    case "identity":
                        value = x_BCHW
                    case "pool":
                        value = pool_BCHW  # type: ignore[assignment]
                    case _:
                        value = self.single[f"{edges[t]}:{position}"](x_BCHW)
                terms.append((source + 1 + t, weights_EO[edges[t], position] * value))
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
