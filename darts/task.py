"""What is learned: batches, loss and metric. Classification of images is the first task.

Shape suffixes: B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from darts.batches import Batch, BatchStream, Normalizer, split_indices
from darts.datasets.base import Dataset
from darts.seeding import make_generator


class Classification:
    """The training images of a data set, split into a part for the weights and a part for the architecture.

    Args:
        dataset: where the images come from.
        split: share of every class that trains the weights.
        batch_size: images a batch, for both parts.
        subset: share of the weights' part that is used; the rest is left aside.
        seed: decides split, order and augmentation.
        device: where the images live.

    Raises:
        ValueError: a batch larger than a part, or a split that leaves a part empty.
        UserError: the data set cannot be read.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: float,
        batch_size: int,
        seed: int,
        device: torch.device,
        subset: float = 1.0,
    ) -> None:
        if not 0 < subset <= 1:
            raise ValueError(f"subset: got {subset}; give a share above 0, at most 1")
        if batch_size < 1:
            raise ValueError(f"batch_size: got {batch_size}; give 1 or more")
        images = dataset.load_train()
        parts = split_indices(images.labels_N, split, make_generator(seed, "split"))
        if subset < 1:
            used, _ = split_indices(images.labels_N[parts[0]], subset, make_generator(seed, "subset"))
            parts = (parts[0][used], parts[1])
        self.dataset, self.batch_size = dataset, batch_size
        self.num_classes, self.in_channels = len(images.classes), images.images_NCHW.shape[1]
        self.sizes = (len(parts[0]), len(parts[1]))
        if batch_size > min(self.sizes):
            raise ValueError(
                f"batch_size: got {batch_size}, but the split gives {self.sizes[0]} images to the weights and "
                f"{self.sizes[1]} to the architecture; give at most {min(self.sizes)}"
            )
        self.normalize = Normalizer(images, device)
        self.evaluation_order = torch.randperm(self.sizes[1], generator=make_generator(seed, "evaluation"))
        self.train, self.valid = (
            BatchStream(
                images.images_NCHW[part].to(device),
                images.labels_N[part].to(device),
                dataset,
                batch_size,
                self.normalize,
                make_generator(seed, name),
            )
            for part, name in zip(parts, ("train", "valid"), strict=True)
        )

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in the weight part."""
        return self.train.batches

    def evaluation_batches(self) -> Iterator[Batch]:
        """The architecture part once, in an order that is mixed but always the same, without augmentation.

        With batch statistics a batch of one class, as folders are sorted, or a small rest would be judged by
        statistics that training never sees. So the order is shuffled and sizes differ by at most one.
        """
        stream = self.valid
        count = max(1, round(len(stream.labels_N) / self.batch_size))
        for chosen in self.evaluation_order.to(stream.labels_N.device).tensor_split(count):
            yield self.normalize(stream.images_NCHW[chosen]), stream.labels_N[chosen]

    @staticmethod
    def loss(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        """Mean cross entropy, nats."""
        return F.cross_entropy(logits_BK, labels_B)

    @staticmethod
    def correct(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        """How many of the batch are classified right."""
        return (logits_BK.argmax(dim=1) == labels_B).sum()
