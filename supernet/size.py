"""How large a network is, and what it costs. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Trainable parameters and multiply-adds of one forward pass of one image."""

    params: int = 0
    flops: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.params + other.params, self.flops + other.flops)

    def __mul__(self, times: int) -> Cost:
        return Cost(self.params * times, self.flops * times)


@dataclass(frozen=True)
class NetworkSize:
    """What decides the cost of a network beside its genotype; NAS-Bench-201's on CIFAR-10 by default.

    Attributes:
        channels: C of the first stage.
        cells: cells a stage, N.
        num_classes: outputs K.
        in_channels: of an input.
        image_size: side of an image, pixels; steps of a series.
    """

    channels: int = 16
    cells: int = 5
    num_classes: int = 10
    in_channels: int = 3
    image_size: int = 32

    def require(self, *names: str) -> None:
        """That a network of this size can be built.

        Raises:
            ValueError: one of these is below 1.
        """
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}; give 1 or more")

    def input_shape(self, takes: str, batch: int) -> tuple[int, ...]:
        """Of a batch of what networks take, ``images`` or ``series``; see `supernet.spaces.base.Space`."""
        if takes == "series":
            return (batch, self.image_size, self.in_channels)
        return (batch, self.in_channels, self.image_size, self.image_size)

    @property
    def data(self) -> str:
        """What it says of images: ``32x32, 10 classes``."""
        return f"{self.image_size}x{self.image_size}, {self.num_classes} classes"

    def __str__(self) -> str:
        return f"C={self.channels}, N={self.cells}, {self.data}"
