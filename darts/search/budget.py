"""How long a search runs: exactly one of epochs, steps, images or seconds, as a number of steps."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Budget:
    """One limit; the others are None.

    Attributes:
        epochs: passes over the weight half of the training data.
        steps: bilevel steps.
        images: images passed forward by training steps, every pass counted.
        seconds: working time; turned into steps by a timed warm-up, then a hard stop.

    Raises:
        ValueError: none or several given, or one that is not positive.
    """

    epochs: int | None = None
    steps: int | None = None
    images: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if len(given) != 1:
            what = " and ".join(f"{name}={value}" for name, value in given.items()) or "none"
            raise ValueError(f"got {what}; give exactly one of epochs, steps, images, seconds")
        name, value = next(iter(given.items()))
        if not 0 < value < math.inf:
            raise ValueError(f"{name}: got {value}; give a number above 0")

    def steps_for(self, steps_per_epoch: int, images_of: Callable[[int], int]) -> int:
        """Planned steps of a budget that is not one of seconds.

        Args:
            steps_per_epoch: batches in one pass over the weight half.
            images_of: images passed forward by that many steps, ascending.

        Raises:
            ValueError: the images do not suffice for a single step.
        """
        if self.steps is not None:
            return self.steps
        if self.epochs is not None:
            return self.epochs * steps_per_epoch
        assert self.images is not None
        steps = bisect.bisect_right(range(self.images + 1), self.images, key=images_of) - 1
        if steps < 1:
            raise ValueError(f"images: got {self.images}; one step passes {images_of(1)} images forward")
        return steps
