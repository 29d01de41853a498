"""How decided an architecture is, and how much of it is skip or nothing.

Shape suffixes: E edges, O operations.
"""

from __future__ import annotations

import torch

from darts.search.monitors.base import Monitor, Watched

SHARES = {"skip_share": "skip_connect", "none_share": "none"}


class ArchitectureMonitor(Monitor):
    """`alpha_entropy`, the mean over edges of the entropy of the edge weights, nats, from ln O (undecided) to 0; and
    `skip_share`, `none_share`: what skip_connect and none have of the weight, from 0 to 1."""

    def measure(self, search: Watched) -> dict[str, float]:
        state = search.state
        weights_EO = state.expected_weights().mean_EO.double().clamp_min(0)
        share_EO = weights_EO / weights_EO.sum(dim=-1, keepdim=True).clamp_min(1e-300)
        names = state.space.candidates
        shares = {
            name: float(share_EO[:, names.index(operation)].mean())
            for name, operation in SHARES.items()
            if operation in names
        }
        return {"alpha_entropy": float(torch.special.entr(share_EO).sum(dim=-1).mean()), **shares}
