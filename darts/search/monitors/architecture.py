"""How decided an architecture is, and how much of it is skip or nothing.

Shape suffixes: E edges, O operations.
"""

from __future__ import annotations

from darts.search.monitors.base import Monitor, Watched
from darts.search.verdict import entropy, shares_of

SHARES = {"skip_share": "skip_connect", "none_share": "none"}


class ArchitectureMonitor(Monitor):
    """`alpha_entropy`, the mean over edges of the entropy of the edge weights, nats, from ln O (undecided) to 0; and
    `skip_share`, `none_share`: what skip_connect and none have of the weight, from 0 to 1."""

    def measure(self, search: Watched) -> dict[str, float]:
        state = search.state
        weights_EO = state.expected_weights().mean_EO
        share_EO = shares_of(weights_EO)
        names = state.space.candidates
        shares = {
            name: float(share_EO[:, names.index(operation)].mean())
            for name, operation in SHARES.items()
            if operation in names
        }
        return {"alpha_entropy": entropy(weights_EO), **shares}
