"""8 x 8 grey handwritten digits that ship with scikit-learn: small, real, nothing to download."""

from __future__ import annotations

import torch

from darts.tasks.datasets.base import Dataset, Images, resized

TRAIN = 1437  # of 1,797, in scikit-learn's order; the rest is for testing


class Digits(Dataset):
    """UCI's optical recognition of handwritten digits (Alpaydin & Kaynak 1998), ten classes, 1,797 images.

    Args:
        image_size: side in pixels; the originals have 8.
        crop_padding: see `Dataset`. Digits are not mirrored.
    """

    def __init__(self, image_size: int = 8, crop_padding: int = 1) -> None:
        super().__init__("digits", image_size, crop_padding, flip=False)

    def _load(self, part: slice) -> Images:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = torch.from_numpy(digits.images[part] * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
        labels = torch.from_numpy(digits.target[part]).long()
        return Images(resized(images, self.image_size), labels, tuple(str(digit) for digit in range(10)))

    def load_train(self) -> Images:
        return self._load(slice(0, TRAIN))

    def load_test(self) -> Images:
        return self._load(slice(TRAIN, None))
