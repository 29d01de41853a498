"""Rates and momentum that follow the sampled cell (DYNAS, Jeon et al. 2025, arXiv:2503.10740)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from darts.run.seeding import make_generator
from darts.search.state import SearchState
from darts.search.weight_steps.sgd import SGDStep
from supernet.cost import edge_cost, skeleton_cost
from supernet.relaxations.base import EdgeWeights
from supernet.size import NetworkSize
from supernet.spaces.base import Space

BUFFER = "momentum_buffer"  # as torch.optim.SGD calls it


class DynasSGD(SGDStep):
    """SGD for sampled paths: small cells, which converge first, have a rate that falls faster, and cells with the same
    operation on one edge, drawn at the start, have a momentum of their own.

    The rate is lr * (1 - progress) ** gamma (section 3.2). gamma is linear in the logarithm of the parameters that the
    network of the drawn cell would have: from `gamma_max` for a cell without any to 1 / `gamma_max` for the largest.
    Where a step computes several operations an edge, the largest counts.

    Args:
        gamma_max: of the smallest cells; 1 is the same linear decay for all.
        lr: first learning rate; the last one is 0.
        momentum, nesterov, weight_decay, grad_clip: as in `SGDStep`.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(
        self,
        gamma_max: float = 4.0,
        lr: float = 0.025,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 5e-4,
        grad_clip: float | None = None,
    ) -> None:
        super().__init__(lr, 0.0, momentum, nesterov, weight_decay, grad_clip)
        if not 1 <= gamma_max < math.inf:
            raise ValueError(f"gamma_max: got {gamma_max}; give 1 or more")
        self.gamma_max = gamma_max

    def schedule(self, state: SearchState) -> None:
        self._set_rate(state, 1.0)  # until a path is drawn

    def update(self, state: SearchState, paths: Sequence[EdgeWeights]) -> None:
        self._set_rate(state, self.gamma(state.space, paths))
        edges, _ = paths[0].mean_EO.shape
        edge = int(torch.randint(edges, (), generator=make_generator(state.seed, "edge that separates momentum")))
        own = f"{BUFFER} of operation {int(paths[0].mean_EO[edge].argmax())}"
        buffers = [state.weight_optimizer.state[parameter] for parameter in state.network.parameters()]
        for held in buffers:
            held.pop(BUFFER, None)
            if own in held:
                held[BUFFER] = held[own]
        super().update(state, paths)
        for held in buffers:
            if BUFFER in held:
                held[own] = held[BUFFER]

    def gamma(self, space: Space, paths: Sequence[EdgeWeights]) -> float:
        """Exponent of the rate for one step."""
        size = NetworkSize()
        beside, params_O = skeleton_cost(size).params, [edge_cost(name, size).params for name in space.candidates]
        active_EO = torch.tensor([path.active_EO for path in paths]).any(dim=0).tolist()
        drawn = sum(max((p for p, on in zip(params_O, row, strict=True) if on), default=0) for row in active_EO)
        least, most, number = (math.log(beside + params) for params in (0, len(active_EO) * max(params_O), drawn))
        if most == least:
            return 1.0
        return self.gamma_max + (1 / self.gamma_max - self.gamma_max) * (number - least) / (most - least)

    def _set_rate(self, state: SearchState, gamma: float) -> None:
        for group in state.weight_optimizer.param_groups:
            group["lr"] = state.rate * self.lr * (1 - state.progress) ** gamma
