"""Binary gates (ProxylessNAS, Cai et al. 2019, arXiv:1812.00332, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from supernet.relaxations.base import EdgeWeights, Parameters, Relaxation, gumbel, probabilities


class BinaryGates(Relaxation):
    """One sampled path in the weight step; a few sampled paths compete in the architecture step.

    There `paths_compared` operations of every edge are drawn without replacement by p = softmax(alpha), their
    probabilities are rescaled to q, and a gate drawn by q lets one of them through. The gradient by alpha is
    sum_j dL/dg_j q_j (delta_ij - q_i). After the update the compared operations have together the probability that
    they had before, so the others keep theirs.

    Args:
        paths_compared: operations an edge that an architecture step computes.
        init_scale: standard deviation of the initial parameters.

    Raises:
        ValueError: fewer than two.
    """

    def __init__(self, paths_compared: int = 2, init_scale: float = 1e-3) -> None:
        super().__init__(init_scale)
        if paths_compared < 2:
            raise ValueError(f"paths_compared: got {paths_compared}; give 2 or more")
        self.paths_compared = paths_compared

    def __call__(self, params: Parameters, progress: float, generator: torch.Generator, half: str) -> list[EdgeWeights]:
        alpha_EO = params["alpha_EO"]
        keys_EO, number = gumbel(alpha_EO.detach(), generator), alpha_EO.shape[-1]
        if half == "weights":
            return [EdgeWeights.one_hot(keys_EO.argmax(dim=-1).tolist(), number, alpha_EO.dtype)]
        drawn_EK = keys_EO.topk(min(self.paths_compared, number), dim=-1).indices
        drawn_EO = torch.zeros_like(alpha_EO, dtype=torch.bool).scatter(-1, drawn_EK, True) & (keys_EO > -math.inf)
        compared_EO = alpha_EO.masked_fill(~drawn_EO, -math.inf)
        gate_E = gumbel(compared_EO.detach(), generator).argmax(dim=-1).tolist()
        gate = EdgeWeights.one_hot(gate_E, number, alpha_EO.dtype).backwards(probabilities(compared_EO))
        return [EdgeWeights(gate.weights, tuple(map(tuple, drawn_EO.tolist())))]

    def expected(self, params: Parameters, progress: float) -> EdgeWeights:
        return EdgeWeights.dense(probabilities(params["alpha_EO"]))

    def settle(self, params: Parameters, before: Mapping[str, Tensor]) -> None:
        alpha_EO, old_EO = params["alpha_EO"], before["alpha_EO"]
        assert alpha_EO.grad is not None
        compared_EO = alpha_EO.grad != 0
        alpha_EO.copy_(alpha_EO.where(compared_EO, old_EO))  # momentum moves the others, too
        for row, (mine, theirs) in enumerate(zip(alpha_EO, old_EO, strict=True)):
            if (drawn := compared_EO[row]).any():
                alpha_EO[row, drawn] += theirs[drawn].logsumexp(0) - mine[drawn].logsumexp(0)
