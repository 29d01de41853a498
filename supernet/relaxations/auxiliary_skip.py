"""One more skip connection on every edge, which fades (DARTS-, Chu et al. 2021, arXiv:2009.01027, eq. 8)."""

from __future__ import annotations

from dataclasses import replace

from supernet.relaxations.base import Around, EdgeWeights, Parameters, Relaxation


class AuxiliarySkip(Around):
    """Another relaxation beside an identity on every edge, of weight 1 - progress / end.

    The identity takes over what a skip connection does for training, so that the candidate competes by its own worth.

    Args:
        inner: the relaxation.
        end: progress at which the identity is gone; the authors' schedule, by epoch, is in the last of their 50.

    Raises:
        ValueError: end outside (0, 1].
    """

    def __init__(self, inner: Relaxation, end: float = 0.98) -> None:
        super().__init__(inner)
        if not 0 < end <= 1:
            raise ValueError(f"end: got {end}; give a share above 0, at most 1")
        self.end = end

    def changed(self, found: EdgeWeights, params: Parameters, progress: float) -> EdgeWeights:
        weight = 1 - progress / self.end
        if weight <= 0:
            return found
        return replace(found, extra_skip=found.weights.new_full((found.weights.shape[-2],), weight))
