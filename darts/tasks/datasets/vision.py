"""CIFAR-10, CIFAR-100 and Fashion-MNIST through torchvision, downloaded when asked for."""

from __future__ import annotations

import shlex
from pathlib import Path

import torch

from darts.run.errors import UserError, reason
from darts.tasks.datasets.base import Dataset, Images, resized

SOURCES = {"CIFAR10": "cifar10", "CIFAR100": "cifar100", "FashionMNIST": "fashion_mnist"}  # torchvision's names, ours


class Vision(Dataset):
    """A data set of torchvision's that lies under `root` in its official files.

    Args:
        source: torchvision's class name: CIFAR10, CIFAR100 or FashionMNIST.
        name: what reports call it.
        root: folder of the files, as torchvision lays them out.
        download: fetch the files if they are missing.
        image_size, crop_padding, flip: see `Dataset`.

    Raises:
        ValueError: unknown source, or a size that is not positive.
    """

    def __init__(
        self,
        source: str,
        name: str,
        root: str,
        download: bool = False,
        image_size: int = 32,
        crop_padding: int = 4,
        flip: bool = True,
    ) -> None:
        if source not in SOURCES:
            raise ValueError(f"source: got {source!r}; allowed are {', '.join(SOURCES)}")
        super().__init__(name, image_size, crop_padding, flip)
        self.source, self.root, self.download = source, Path(root).expanduser(), download

    def _load(self, train: bool) -> Images:
        from torchvision import datasets

        try:
            data = getattr(datasets, self.source)(str(self.root), train=train, download=self.download)
        except Exception as error:  # torchvision raises RuntimeError, URLError, OSError and pickle errors here
            given = (f"dataset={SOURCES[self.source]}", f"dataset.root={self.root}", "dataset.download=true")
            raise UserError(
                f"dataset.root: {self.source} cannot be read from {self.root} ({reason(error)}); give the folder that "
                f"holds it, or fetch it with: {shlex.join(('darts', 'data', *given))}"
            ) from None
        pixels = torch.as_tensor(data.data)
        images_NCHW = pixels.unsqueeze(1) if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2)
        labels_N = torch.as_tensor(data.targets, dtype=torch.long)
        return Images(resized(images_NCHW.contiguous(), self.image_size), labels_N, tuple(data.classes))

    def load_train(self) -> Images:
        return self._load(train=True)

    def load_test(self) -> Images:
        return self._load(train=False)
