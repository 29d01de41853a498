"""The shape of a chain of inverted residuals. No torch."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """Of a block: channels that come in and go out, and the stride."""

    channels_in: int
    channels: int
    stride: int

    @property
    def residual(self) -> bool:
        """Whether the block keeps the shape, so that its input is added, and it may be left out."""
        return self.stride == 1 and self.channels_in == self.channels


class ChainPlan(NamedTuple):
    """What all chains of a space have in common; see `supernet.spaces.mobile.Mobile`."""

    stages: tuple[tuple[int, int, int], ...]
    stem: int
    stem_stride: int
    first: int
    head: int
    stabilised: bool

    @property
    def places(self) -> tuple[Place, ...]:
        """Of the blocks that can be chosen, in order."""
        found, before = [], self.first
        for channels, blocks, stride in self.stages:
            for number in range(blocks):
                found.append(Place(before, channels, stride if number == 0 else 1))
                before = channels
        return tuple(found)
