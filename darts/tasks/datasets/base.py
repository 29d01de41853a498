"""What a data set is: labelled images of one size, in memory as bytes.

Shape suffixes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from darts.run.memory import check_memory


@dataclass(frozen=True)
class Images:
    """Labelled images.

    Attributes:
        images_NCHW, labels_N, classes: bytes, labels in [0, number of classes), names of the classes.
        left_out: files that are not among them, and why.
        notes: what is not in the pixels of some that are.
        sizes: width and height of each before it was resized, (N, 2), if that was done.
    """

    images_NCHW: Tensor
    labels_N: Tensor
    classes: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sizes: Tensor | None = None

    def about(self) -> str:
        """``3 classes, 142 images (smallest class 9)``."""
        smallest = int(torch.bincount(self.labels_N, minlength=len(self.classes)).min())
        return f"{len(self.classes)} classes, {len(self):,} images (smallest class {smallest:,})"

    def joined(self, other: Images) -> Images:
        """These and others of the same classes."""
        return replace(
            self,
            images_NCHW=torch.cat([self.images_NCHW, other.images_NCHW]),
            labels_N=torch.cat([self.labels_N, other.labels_N]),
            left_out=self.left_out + other.left_out,
            notes=self.notes + other.notes,
            sizes=None if self.sizes is None or other.sizes is None else torch.cat([self.sizes, other.sizes]),
        )

    def __len__(self) -> int:
        return len(self.labels_N)

    def identity(self) -> dict[str, str]:
        """What tells these images from others: classes, number and size, and sums of labels and pixels."""
        parts = {"labels": self.labels_N, "pixels": self.images_NCHW}
        sums = {
            name: hashlib.blake2b(part.contiguous().numpy().data, digest_size=8).hexdigest()
            for name, part in parts.items()
        }
        return {"classes": ", ".join(self.classes), "images": " x ".join(map(str, self.images_NCHW.shape)), **sums}

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (C) of the values in [0, 1], from a histogram, so exact in any order.

        A channel that is nearly constant gets a deviation of one grey level.
        """
        counts_C256 = torch.stack(
            [torch.bincount(channel.flatten(), minlength=256) for channel in self.images_NCHW.unbind(1)]
        ).double()
        levels_256 = torch.arange(256, dtype=torch.float64) / 255
        total = counts_C256.sum(dim=1)
        mean_C = (counts_C256 * levels_256).sum(dim=1) / total
        variance_C = (counts_C256 * (levels_256 - mean_C[:, None]) ** 2).sum(dim=1) / total
        return mean_C.float(), variance_C.sqrt().clamp(min=1 / 255).float()


class Source(ABC):
    """Where a task's data come from.

    Attributes:
        name: what reports call it.
        gives: ``images`` or ``series``: what a task has to take.
    """

    name: str
    gives = "images"


class Dataset(Source):
    """A source of images. The engine calls `load_train` once; nothing in a search calls `load_test`.

    Args:
        name: what reports call it, "searched on NAME".
        image_size: side of the square images, pixels.
        crop_padding: zero pixels added on every side before a random crop to `image_size`; 0 for no crop.
        flip: mirror half of the training images, left and right.

    Raises:
        ValueError: a negative or zero size.
    """

    def __init__(self, name: str, image_size: int, crop_padding: int = 0, flip: bool = False) -> None:
        if image_size < 1:
            raise ValueError(f"image_size: got {image_size}; give 1 or more")
        check_memory("image_size", image_size, 64 * 3 * 4 * image_size**2, "a batch of 64 images")
        if crop_padding < 0:
            raise ValueError(f"crop_padding: got {crop_padding}; give 0 or more")
        self.name, self.image_size, self.crop_padding, self.flip = name, image_size, crop_padding, flip

    @property
    def full_size(self) -> int:
        """The side of images for the network that is trained in the end, pixels."""
        return self.image_size

    @abstractmethod
    def load_train(self) -> Images:
        """The images that a search splits into a part for weights and a part for the architecture, or, where
        `load_valid` has some, the weights' part."""

    def load_valid(self) -> Images | None:
        """The architecture's part, where the data come split; None where a search splits them."""
        return None

    @property
    def has_test(self) -> bool:
        """Whether there are images kept for the final network."""
        return True

    @abstractmethod
    def load_test(self) -> Images:
        """The images kept for the final network.

        Raises:
            UserError: the data set has none.
        """


class Smaller(Dataset):
    """Another data set's images at a smaller side, and its random crops to the same proportion.

    Args:
        dataset: the other one.
        image_size: pixels; one that is already as small stays as it is.

    Raises:
        ValueError: a size that is not positive.
    """

    def __init__(self, dataset: Dataset, image_size: int) -> None:
        side = min(image_size, dataset.image_size)
        super().__init__(dataset.name, side, round(dataset.crop_padding * side / dataset.image_size), dataset.flip)
        self.dataset = dataset

    @property
    def full_size(self) -> int:
        return self.dataset.full_size

    @property
    def has_test(self) -> bool:
        return self.dataset.has_test

    def load_train(self) -> Images:
        return self._of(self.dataset.load_train())

    def load_valid(self) -> Images | None:
        valid = self.dataset.load_valid()
        return None if valid is None else self._of(valid)

    def load_test(self) -> Images:
        return self._of(self.dataset.load_test())

    def _of(self, images: Images) -> Images:
        return replace(images, images_NCHW=resized(images.images_NCHW, self.image_size))


def smaller(dataset: Dataset, resolution: int | None) -> Dataset:
    """The data set at that side, in pixels, if one is given.

    Raises:
        ValueError: something that is no positive number.
    """
    if resolution is None:
        return dataset
    if not isinstance(resolution, int) or isinstance(resolution, bool) or resolution < 1:
        raise ValueError(f"resolution: got {resolution!r}; give a side in pixels, or null")
    return Smaller(dataset, resolution)


def resized(images_NCHW: Tensor, size: int) -> Tensor:
    """Bytes resized to size x size (bilinear, antialiased); the same tensor if they have that size."""
    if images_NCHW.shape[-2:] == (size, size):
        return images_NCHW
    smooth = torch.nn.functional.interpolate(
        images_NCHW.float(), (size, size), mode="bilinear", antialias=True, align_corners=False
    )
    return smooth.round().clamp(0, 255).to(torch.uint8)
