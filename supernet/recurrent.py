"""The recurrent networks of DARTS: a cell's genotype, and all of them in one.

A node follows another one, s: new = s + c (f(h) - s), where (c, h) = s W, c through a sigmoid, f the activation. Node 0
follows the last state in the same way, with (c, h) from input and state, and tanh.

Shape suffixes: B batch, L steps, C columns, H numbers of the state, K targets, E edges, O operations, T targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from supernet.genomes import RecurrentGenotype
from supernet.relaxations.base import EdgeWeights
from supernet.size import NetworkSize
from supernet.spaces.base import Space

RANGE = 0.1  # of initial weights; twice that of the published ones, whose states are ten times as wide


def activated(name: str, h_BH: Tensor) -> Tensor:
    """By name; `none` gives zeros."""
    match name:
        case "tanh":
            return h_BH.tanh()
        case "relu":
            return h_BH.relu()
        case "sigmoid":
            return h_BH.sigmoid()
        case "none":
            return torch.zeros_like(h_BH)
    return h_BH


def moved(state_BH: Tensor, both_B2H: Tensor, name: str) -> Tensor:
    """The state that follows one, gated: state + c (f(h) - state)."""
    gate_BH, h_BH = both_B2H.chunk(2, dim=-1)
    return state_BH + gate_BH.sigmoid() * (activated(name, h_BH) - state_BH)


class _Recurrent(nn.Module):
    """What both networks have: inputs and state to node 0, a weight a node, and what becomes of the last state."""

    def __init__(self, num_nodes: int, size: NetworkSize) -> None:
        super().__init__()
        size.require("channels", "num_classes", "in_channels")
        self.state_size = size.channels
        self.inputs = nn.Linear(size.in_channels, 2 * size.channels)
        self.state = nn.Linear(size.channels, 2 * size.channels, bias=False)
        self.nodes = nn.ModuleList(nn.Linear(size.channels, 2 * size.channels, bias=False) for _ in range(num_nodes))
        self.classifier = nn.Linear(size.channels, size.num_classes)

    def init_weights(self, generator: torch.Generator | None) -> None:
        """Uniform, small, so that gates stand half open."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.uniform_(parameter, -RANGE, RANGE, generator=generator)

    def read(self, x_BLC: Tensor, step: Callable[[Tensor], Tensor]) -> Tensor:
        """Answers (B, K) after all steps; `step` goes from node 0 to the new state."""
        inputs_BLD = self.inputs(x_BLC)
        state_BH = x_BLC.new_zeros(x_BLC.shape[0], self.state_size)
        for input_BD in inputs_BLD.unbind(dim=1):
            first_BH = moved(state_BH, input_BD + self.state(state_BH), "tanh")
            state_BH = step(first_BH)
        answer_BK: Tensor = self.classifier(state_BH)
        return answer_BK


class RecurrentNetwork(_Recurrent):
    """Of one genotype; `forward` takes series (B, L, C).

    Args:
        genotype: the cell.
        size: H channels, C in_channels, K num_classes.
    """

    def __init__(self, genotype: RecurrentGenotype, size: NetworkSize) -> None:
        super().__init__(len(genotype.nodes), size)
        self.genotype = genotype
        self.init_weights(None)

    def forward(self, x_BLC: Tensor) -> Tensor:
        """Answers (B, K)."""
        return self.read(x_BLC, self._new_state)

    def _new_state(self, first_BH: Tensor) -> Tensor:
        states = [first_BH]
        for weight, (name, source) in zip(self.nodes, self.genotype.nodes, strict=True):
            states.append(moved(states[source], weight(states[source]), name))
        return torch.stack(states[1:]).mean(dim=0)

    def inherit(self, parent: RecurrentNetwork) -> None:
        """Copy all weights of a network of this size."""
        self.load_state_dict(parent.state_dict())


class RecurrentSuperNet(_Recurrent):
    """All cells in one: a node is the mean over its edges of the weighted sum over activations, so states do not
    grow from node to node (the published search normalises them by batch statistics for that).

    Args:
        space: what can be discovered.
        size: H channels, C in_channels, K num_classes.
        generator: source of the initial weights; torch's global one if None.
    """

    num_cells = 1
    passes_by: tuple[str, ...] = ()  # what of `EdgeWeights` goes past operations here
    batch_norm = None

    def __init__(self, space: Space, size: NetworkSize, generator: torch.Generator | None = None) -> None:
        (self.cell,) = space.cells.values()
        super().__init__(self.cell.num_nodes - 1, size)
        self.network_size = size
        self.init_weights(generator)

    def forward(self, x_BLC: Tensor, edge_weights: EdgeWeights) -> Tensor:
        """Answers (B, K) of the mixture.

        Raises:
            ValueError: extra skips or partial channels, which have no meaning here.
        """
        mine, names, pairs = edge_weights.of_only_cell("recurrent cells"), self.cell.candidates, self.cell.edges
        active_EO = mine.active_EO
        weights_EO = mine.weights.masked_fill(~torch.tensor(active_EO, device=mine.weights.device), 0.0)
        into: list[tuple[list[int], list[int], list[int]]] = []  # of every node: sources, edges, operations in use
        for target in range(1, len(self.nodes) + 1):
            edges = [e for e, edge in enumerate(pairs) if edge[1] == target and any(active_EO[e])]
            used = [o for o, name in enumerate(names) if name != "none" and any(active_EO[e][o] for e in edges)]
            into.append(([pairs[e][0] for e in edges], edges, used))

        def new_state(first_BH: Tensor) -> Tensor:
            states = [first_BH]
            for weight, (sources, edges, used) in zip(self.nodes, into, strict=True):
                if not used:
                    states.append(torch.zeros_like(first_BH))
                    continue
                from_TBH = torch.stack([states[source] for source in sources])
                gate_TBH, h_TBH = weight(from_TBH).chunk(2, dim=-1)
                share_OT = weights_EO[edges][:, used].T[:, :, None, None]
                share_OT = share_OT / len(edges)
                after_TBH = sum(w_T * activated(names[o], h_TBH) for w_T, o in zip(share_OT, used, strict=True))
                kept_TBH = share_OT.sum(dim=0) * from_TBH
                states.append((kept_TBH + gate_TBH.sigmoid() * (after_TBH - kept_TBH)).sum(dim=0))
            return torch.stack(states[1:]).mean(dim=0)

        return self.read(x_BLC, new_state)

    def resting(self, paths: Sequence[EdgeWeights]) -> list[tuple[nn.Parameter, Tensor]]:
        """Nothing: a weight belongs to a node, and every path computes all nodes."""
        return []

    def inherit(self, genotype: RecurrentGenotype) -> RecurrentNetwork:
        """The network of one genotype with a copy of the weights."""
        network = RecurrentNetwork(genotype, self.network_size)
        network.to(self.classifier.weight)
        network.load_state_dict(self.state_dict())
        return network.train(self.training)
