"""Classification of images.

Shape suffixes: B batch, K classes, N items.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from darts.run.seeding import make_generator
from darts.tasks.base import Batch, Metric, Task
from darts.tasks.batches import BatchStream, Normalizer, split_indices
from darts.tasks.datasets.base import Dataset

CPU = torch.device("cpu")


class Classification(Task):
    """The training images of a data set, split into a part for the weights and a part for the architecture.

    Args:
        dataset: where the images come from.
        split: share of every class that trains the weights, unless the data come split.
        batch_size: images a batch, for both parts.
        subset: share of the weights' part that is used; the rest is left aside.
        cutout: side of a square that is blanked in every training image, pixels (arXiv:1708.04552).
        label_smoothing: share of a target that is spread over all classes (arXiv:1512.00567).
        seed: decides split, order and augmentation.
        device: where the images live.

    Raises:
        ValueError: a batch larger than a part, or a split that leaves a part empty.
        UserError: the data set cannot be read.
    """

    metric = Metric("accuracy", "%", limits=(0, 100))
    per_item = 100.0
    train: BatchStream
    valid: BatchStream

    def __init__(
        self,
        dataset: Dataset,
        split: float = 0.5,
        batch_size: int = 64,
        seed: int = 0,
        device: torch.device = CPU,
        subset: float = 1.0,
        cutout: int = 0,
        label_smoothing: float = 0.0,
    ) -> None:
        if not 0 < subset <= 1:
            raise ValueError(f"subset: got {subset}; give a share above 0, at most 1")
        if cutout < 0:
            raise ValueError(f"cutout: got {cutout}; give 0 or more pixels")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing: got {label_smoothing}; give 0 or more, below 1")
        if batch_size < 1:
            raise ValueError(f"batch_size: got {batch_size}; give 1 or more")
        images, valid = dataset.load_train(), dataset.load_valid()
        self.normalize = Normalizer(*images.statistics(), device)  # by what is trained on, in a search both parts
        if valid is None:
            parts = split_indices(images.labels_N, split, make_generator(seed, "split"))
        else:
            count, images = len(images), images.joined(valid)
            parts = (torch.arange(count), torch.arange(count, len(images)))
        if subset < 1:
            used, _ = split_indices(images.labels_N[parts[0]], subset, make_generator(seed, "subset"))
            parts = (parts[0][used], parts[1])
        self.name, self.device, self.batch_size = dataset.name, device, batch_size
        self.label_smoothing, self.classes = label_smoothing, images.classes
        self.outputs, self.in_channels = len(images.classes), images.images_NCHW.shape[1]
        self.image_size, self.full_image_size = images.images_NCHW.shape[-1], dataset.full_size
        self.settings = {"split": split if valid is None else "given"}
        self.sizes = (len(parts[0]), len(parts[1]))
        if batch_size > (self.sizes[0] if valid is not None else min(self.sizes)):
            raise ValueError(
                f"batch_size: got {batch_size}, but the split gives {self.sizes[0]} images to the weights and "
                f"{self.sizes[1]} to the architecture; give at most {self.sizes[0] if valid else min(self.sizes)}"
            )
        self.identity, self.about = images.identity(), images.about()
        if images.left_out:
            self.about += f", {len(images.left_out):,} left out"
        if valid is not None:
            self.about += (
                f"; {len(valid):,} of them, the validation folder, for the architecture (data.split is not used)"
            )
        self.remarks = (*images.left_out, *images.notes)
        self.evaluation_order = torch.randperm(self.sizes[1], generator=make_generator(seed, "evaluation"))
        self.train, self.valid = (
            BatchStream(
                images.images_NCHW[part].to(device),
                images.labels_N[part].to(device),
                dataset,
                min(batch_size, len(part)),
                self.normalize,
                make_generator(seed, name),
                cutout,
            )
            for part, name in zip(parts, ("train", "valid"), strict=True)
        )
        self.steps_per_epoch = self.train.batches
        self.parts = parts

    def inputs(self) -> dict[str, Any]:
        return {
            "classes": list(self.classes),
            "mean": self.normalize.mean_C.tolist(),
            "deviation": self.normalize.deviation_C.tolist(),
            "decoded_size": self.full_image_size,
        }

    def evaluation_batches(self) -> Iterator[Batch]:
        """The architecture part once, in an order that is mixed but always the same, without augmentation.

        With batch statistics a batch of one class, as folders are sorted, or a small rest would be judged by
        statistics that training never sees. So the order is shuffled and sizes differ by at most one.
        """
        stream = self.valid
        count = max(1, round(len(stream.labels_N) / self.batch_size))
        for chosen in self.evaluation_order.to(stream.labels_N.device).tensor_split(count):
            yield self.normalize(stream.images_NCHW[chosen]), stream.labels_N[chosen]

    def pictures(self, places_N: Tensor) -> Tensor:
        stream = self.valid
        return stream.images_NCHW[self.evaluation_order[places_N].to(stream.images_NCHW.device)].cpu()

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        places_N = torch.cat(self.parts)
        if count > len(places_N):
            raise ValueError(f"batch_size: got {count}; {self.name} has {len(places_N)} images")
        rows_N = places_N.argsort()  # by place in the data set, rows of the first part and then of the second
        chosen = rows_N[torch.randperm(len(places_N), generator=generator)[:count]].tolist()
        first = len(self.parts[0])
        found = [(self.train, row) if row < first else (self.valid, row - first) for row in chosen]
        images_BCHW = torch.stack([stream.images_NCHW[row] for stream, row in found])
        return self.normalize(images_BCHW), torch.stack([stream.labels_N[row] for stream, row in found])

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross entropy of logits (B, K), nats."""
        return F.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How many of the batch are classified right."""
        return (outputs.argmax(dim=1) == targets).sum()
