"""Batches from images that live on the device: split, shuffling, augmentation, all under explicit generators.

Shape suffixes: N images, B batch, C channels, H height, W width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from darts.tasks.base import Batch
from darts.tasks.datasets.base import Dataset


def split_indices(labels_N: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random split that takes `share` of every class into the first part; both parts sorted.

    Raises:
        ValueError: the share is outside (0, 1), or leaves a part empty.
    """
    if not 0 < share < 1:
        raise ValueError(f"split: got {share}; give a share between 0 and 1, both excluded")
    first = []
    for label in labels_N.unique():
        members = (labels_N == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=generator)
        first.append(members[order[: round(share * len(members))]])
    chosen = torch.zeros(len(labels_N), dtype=torch.bool)
    chosen[torch.cat(first)] = True
    weights, architecture = chosen.nonzero().flatten(), (~chosen).nonzero().flatten()
    if not len(weights) or not len(architecture):
        empty = "the network weights" if not len(weights) else "the architecture"
        raise ValueError(
            f"split: got {share}; of {len(labels_N)} images it leaves none for {empty}, as every class is split by "
            "itself; give classes of two images or more, and a share that leaves some of them on both sides"
        )
    return weights, architecture


class Normalizer:
    """Bytes to floats of mean 0 and deviation 1, where those of values from 0 to 1 are given."""

    def __init__(self, mean_C: Tensor, deviation_C: Tensor, device: torch.device) -> None:
        self.mean_C, self.deviation_C = mean_C, deviation_C
        self.scale = (1 / (255 * deviation_C)).view(1, -1, 1, 1).to(device)
        self.shift = (-mean_C / deviation_C).view(1, -1, 1, 1).to(device)

    def __call__(self, bytes_BCHW: Tensor) -> Tensor:
        return bytes_BCHW * self.scale + self.shift


class ShuffledStream(ABC):
    """An endless stream of shuffled batches; its whole position is in its state.

    Every pass over the data has a fresh order; items that do not fill a last batch wait for the next pass.

    Args:
        items: how many there are.
        batch_size: items a batch.
        generator: a CPU generator; owned by this stream.
    """

    def __init__(self, items: int, batch_size: int, generator: torch.Generator) -> None:
        self.items, self.batch_size, self.generator = items, batch_size, generator
        self.order = torch.empty(0, dtype=torch.long)
        self.position = 0

    @property
    def batches(self) -> int:
        """Full batches in one pass over the data."""
        return self.items // self.batch_size

    @abstractmethod
    def batch(self, chosen_B: Tensor) -> Batch:
        """The items at these places."""

    def next(self) -> Batch:
        """The next batch."""
        if self.position + self.batch_size > len(self.order):
            self.order = torch.randperm(self.items, generator=self.generator)
            self.position = 0
        chosen_B = self.order[self.position : self.position + self.batch_size]
        self.position += self.batch_size
        return self.batch(chosen_B)

    def state_dict(self) -> dict[str, Any]:
        """Order and position within the pass, and the generator."""
        return {"order": self.order, "position": self.position, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly there.

        Raises:
            ValueError: the state belongs to another number of items.
        """
        if len(state["order"]) not in (0, self.items):
            raise ValueError(f"it was made with {len(state['order'])} items, now there are {self.items}")
        self.order, self.position = state["order"], state["position"]
        self.generator.set_state(state["generator"])


class BatchStream(ShuffledStream):
    """An endless stream of shuffled, augmented images.

    Args:
        images_NCHW, labels_N: the part of the data this stream draws from, on the device.
        dataset: says how to augment.
        batch_size: images a batch.
        normalize: bytes to floats.
        generator: a CPU generator; owned by this stream.
        cutout: side of a square that is blanked in every image, pixels; 0 for none.
    """

    def __init__(
        self,
        images_NCHW: Tensor,
        labels_N: Tensor,
        dataset: Dataset,
        batch_size: int,
        normalize: Normalizer,
        generator: torch.Generator,
        cutout: int = 0,
    ) -> None:
        self.cutout = cutout
        padding = dataset.crop_padding
        self.padded_NCHW = F.pad(images_NCHW, (padding,) * 4) if padding else images_NCHW
        super().__init__(len(labels_N), batch_size, generator)
        self.images_NCHW, self.labels_N = images_NCHW, labels_N
        self.padding, self.flip, self.normalize = padding, dataset.flip, normalize

    def batch(self, chosen_B: Tensor) -> Batch:
        """Floats (B, C, H, W) and labels (B)."""
        images_BCHW = self.normalize(self._augmented(chosen_B))
        if self.cutout:
            images_BCHW = images_BCHW * self._uncut(len(chosen_B)).to(images_BCHW.device)
        return images_BCHW, self.labels_N[chosen_B.to(self.labels_N.device)]

    def _uncut(self, batch: int) -> Tensor:
        """0 inside a square around a place drawn for every image, which may reach over its edge, else 1:
        (B, 1, H, W)."""
        inside = []
        for side in self.images_NCHW.shape[-2:]:
            centre_B1 = torch.randint(side, (batch, 1), generator=self.generator)
            offset_BS = torch.arange(side) - centre_B1 + self.cutout // 2
            inside.append((offset_BS >= 0) & (offset_BS < self.cutout))
        return (~(inside[0][:, None, :, None] & inside[1][:, None, None, :])).float()

    def _augmented(self, chosen_B: Tensor) -> Tensor:
        """Random crops and mirror images as one gather: a row and a column index for every image."""
        height, width = self.images_NCHW.shape[-2:]
        device, batch = self.images_NCHW.device, len(chosen_B)
        rows_BH = torch.arange(height).expand(batch, height)
        columns_BW = torch.arange(width).expand(batch, width)
        if self.flip:
            mirrored = torch.rand(batch, 1, generator=self.generator) < 0.5
            columns_BW = torch.where(mirrored, columns_BW.flip(1), columns_BW)
        if self.padding:
            offsets = torch.randint(2 * self.padding + 1, (2, batch, 1), generator=self.generator)
            rows_BH, columns_BW = rows_BH + offsets[0], columns_BW + offsets[1]
        if not self.flip and not self.padding:
            return self.images_NCHW[chosen_B.to(device)]
        index = [part.to(device) for part in (chosen_B[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :])]
        picked_BHWC = self.padded_NCHW.permute(0, 2, 3, 1)[tuple(index)]
        return picked_BHWC.permute(0, 3, 1, 2).contiguous()
