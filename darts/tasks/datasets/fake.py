"""Made-up images for tests: each class is a fixed pattern under noise, so they can be learned."""

from __future__ import annotations

import torch

from darts.run.seeding import make_generator
from darts.tasks.datasets.base import Dataset, Images


class Fake(Dataset):
    """Random patterns, the same ones for the same arguments.

    Args:
        images: images to train; a fifth as many to test.
        num_classes: classes, in turn over the images.
        channels: channels of an image.
        image_size, crop_padding, flip: see `Dataset`.

    Raises:
        ValueError: fewer images than classes, fewer than 2 classes, or no channel.
    """

    def __init__(
        self,
        images: int = 256,
        num_classes: int = 4,
        channels: int = 3,
        image_size: int = 8,
        crop_padding: int = 1,
        flip: bool = True,
    ) -> None:
        super().__init__("fake", image_size, crop_padding, flip)
        if num_classes < 2 or images < num_classes:
            raise ValueError(f"images: got {images} images of {num_classes} classes; give 2 classes or more")
        if channels < 1:
            raise ValueError(f"channels: got {channels}; give 1 or more")
        self.images, self.num_classes, self.channels = images, num_classes, channels

    def _make(self, count: int, part: str) -> Images:
        shape = (self.channels, self.image_size, self.image_size)
        patterns = torch.rand((self.num_classes, *shape), generator=make_generator(0, "fake patterns"))
        labels_N = torch.arange(count) % self.num_classes
        noise = torch.rand((count, *shape), generator=make_generator(0, f"fake {part}"))
        images = ((patterns[labels_N] + noise) * 127.5).to(torch.uint8)
        return Images(images, labels_N, tuple(f"class{label}" for label in range(self.num_classes)))

    def load_train(self) -> Images:
        return self._make(self.images, "train")

    def load_test(self) -> Images:
        return self._make(max(self.num_classes, self.images // 5), "test")
