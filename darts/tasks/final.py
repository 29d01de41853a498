"""The data of the network that is trained in the end: all for the weights, and some that it never sees."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from darts.run.seeding import make_generator
from darts.tasks.batches import split_indices
from darts.tasks.datasets.base import Dataset, Images, Source
from darts.tasks.datasets.windows import FixedSeries, SeriesParts, SeriesSource, Windows

HELD_OUT = 0.1  # of the training images, where there are no others to judge by


class Given(Dataset):
    """Images at hand, in two parts.

    Args:
        dataset: says what they are called, and how training images are augmented.
        train, valid: the weights' part, and the other one.
    """

    def __init__(self, dataset: Dataset, train: Images, valid: Images) -> None:
        super().__init__(dataset.name, dataset.image_size, dataset.crop_padding, dataset.flip)
        self.train, self.valid = train, valid

    def load_train(self) -> Images:
        return self.train

    def load_valid(self) -> Images:
        return self.valid

    def load_test(self) -> Images:
        return self.valid


@dataclass(frozen=True)
class FinalParts:
    """Images for the weights, for a look on the way (None for no look), and for the judgement at the end.

    Attributes:
        judged_on: what those of the judgement are, in words.
    """

    dataset: Dataset
    train: Images
    watched: Images | None
    judged: Images
    judged_on: str

    @property
    def watches(self) -> bool:
        """Whether there are images for a look on the way."""
        return self.watched is not None

    def on_the_way(self) -> Dataset:
        """The data set of the training; its second part is looked at after every epoch."""
        return Given(self.dataset, self.train, self.judged if self.watched is None else self.watched)

    def at_the_end(self) -> Dataset:
        """The data set of the judgement."""
        return Given(self.dataset, self.train, self.judged)


@dataclass(frozen=True)
class FinalSeries:
    """The same of series: their end is what is judged by.

    Attributes:
        source: says what they are called.
        parts: the windows; those for a look on the way are its second.
        watches: whether there are some.
        judged_on: what the last ones are, in words.
    """

    source: SeriesSource
    parts: SeriesParts
    watches: bool
    judged_on: str = "windows kept for it"

    def on_the_way(self) -> SeriesSource:
        """The data of the training."""
        return self._of(self.parts.valid if self.watches else self.parts.test)

    def at_the_end(self) -> SeriesSource:
        """The data of the judgement."""
        return self._of(self.parts.test)

    def _of(self, second: Windows) -> SeriesSource:
        return FixedSeries(self.source.name, self.parts.train, second, self.parts.inputs)


def final_parts(dataset: Source, held_out: float | None) -> FinalParts | FinalSeries:
    """What a final network is trained on, watched by and judged by.

    Raises:
        ValueError: a share outside [0, 1), or none where there is nothing else to judge by.
    """
    if held_out is not None and not 0 <= held_out < 1:
        raise ValueError(f"held_out: got {held_out}; give a share from 0, below 1, or null")
    if isinstance(dataset, SeriesSource):
        try:
            parts = dataset.load(1 - (held_out or 0.0))
        except ValueError as error:
            raise ValueError(f"held_out: got {held_out}; {error}") from None
        return FinalSeries(dataset, parts, bool(held_out))
    assert isinstance(dataset, Dataset)
    return final_images(dataset, held_out)


def final_images(dataset: Dataset, held_out: float | None) -> FinalParts:
    """All images of a data set, whatever a search did with them; the same are held out in every run, so that runs of
    several seeds can be compared and joined by them.

    Args:
        dataset: training images, those of a folder `val/` among them, and test images, if there are some.
        held_out: share of every class that is not trained on but watched; where there are no test images it is what the
            network is judged by, a tenth if None.

    Raises:
        ValueError: no share where there are no test images.
    """
    train, valid = dataset.load_train(), dataset.load_valid()
    if valid is not None:
        train = train.joined(valid)
    share = (0.0 if dataset.has_test else HELD_OUT) if held_out is None else held_out
    if not share:
        if not dataset.has_test:
            raise ValueError(f"held_out: got {held_out}; {dataset.name} has no test images, so give a share above 0")
        return FinalParts(dataset, train, None, dataset.load_test(), "test images")
    kept, aside = split_indices(train.labels_N, 1 - share, make_generator(0, "held out"))
    held = _some(train, aside)
    if dataset.has_test:
        return FinalParts(dataset, _some(train, kept), held, dataset.load_test(), "test images")
    return FinalParts(dataset, _some(train, kept), None, held, f"images held out ({share:.0%} of the training images)")


def _some(images: Images, places: Tensor) -> Images:
    sizes = None if images.sizes is None or len(images.sizes) != len(images) else images.sizes[places]
    return replace(images, images_NCHW=images.images_NCHW[places], labels_N=images.labels_N[places], sizes=sizes)
