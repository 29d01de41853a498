"""Learning rates over a training."""

from __future__ import annotations

import math


def cosine(progress: float, start: float, end: float) -> float:
    """end + (start - end) (1 + cos(pi progress)) / 2 (Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5)."""
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * progress))
