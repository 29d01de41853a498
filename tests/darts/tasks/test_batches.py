from __future__ import annotations

import copy
import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from darts.tasks.batches import BatchStream, Normalizer, split_indices
from darts.tasks.classification import Classification
from darts.tasks.datasets.base import Images
from darts.tasks.datasets.fake import Fake

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("share", [0.5, 0.25, 0.9])
@pytest.mark.parametrize("counts", [(10, 10, 10), (7, 1, 40), (3, 3, 100, 2)])
def test_split_is_stratified_disjoint_complete_and_sorted(counts: tuple[int, ...], share: float) -> None:
    labels = torch.tensor([label for label, count in enumerate(counts) for _ in range(count)])
    labels = labels[torch.randperm(len(labels), generator=generator(5))]
    first, second = (part.tolist() for part in split_indices(labels, share, generator()))
    assert sorted(first + second) == list(range(sum(counts)))
    assert first == sorted(first)
    assert second == sorted(second)
    taken = Counter(labels[first].tolist())
    assert all(abs(taken[label] - share * count) <= 0.5 for label, count in enumerate(counts))


def test_split_hangs_on_the_generator_alone() -> None:
    labels = torch.arange(60) % 3
    once, again, other = (split_indices(labels, 0.5, generator(seed))[0].tolist() for seed in (0, 0, 1))
    assert once == again != other


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_split_outside_its_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"^split: got"):
        split_indices(torch.arange(20) % 2, share, generator())


@pytest.mark.parametrize(("share", "part"), [(0.01, "weights"), (0.99, "architecture")])
def test_split_that_leaves_a_part_empty_is_refused(share: float, part: str) -> None:
    with pytest.raises(ValueError, match=rf"^split: .*{part}"):
        split_indices(torch.arange(20) % 2, share, generator())


def noise(count: int, channels: int = 3, height: int = 5, width: int = 5) -> Tensor:
    values = np.random.default_rng(0).integers(0, 256, (count, channels, height, width))
    return torch.from_numpy(values.astype(np.uint8))


def test_statistics_equal_numpy_in_float64() -> None:
    images = noise(50)
    images[:, 1] = images[:, 1] // 4 + 100
    mean, deviation = Images(images, torch.zeros(50, dtype=torch.long), ("a", "b")).statistics()
    values = images.numpy().astype(np.float64) / 255
    assert mean.tolist() == pytest.approx(values.mean(axis=(0, 2, 3)).tolist(), rel=1e-7)
    assert deviation.tolist() == pytest.approx(values.std(axis=(0, 2, 3)).tolist(), rel=1e-6)


def test_statistics_do_not_hang_on_the_order_of_images() -> None:
    images, labels = noise(50), torch.zeros(50, dtype=torch.long)
    once = Images(images, labels, ("a",)).statistics()
    again = Images(images[torch.randperm(50, generator=generator())], labels, ("a",)).statistics()
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_normalized_images_have_mean_zero_and_deviation_one() -> None:
    images = Images(noise(100), torch.zeros(100, dtype=torch.long), ("a", "b"))
    values = Normalizer(*images.statistics(), CPU)(images.images_NCHW)
    assert values.dtype == torch.float32
    assert values.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    torch.testing.assert_close(values.double().std(dim=(0, 2, 3), correction=0), torch.ones(3).double())


def test_a_constant_channel_stays_finite() -> None:
    images = noise(4)
    images[:, 2] = 77
    values = Normalizer(*Images(images, torch.zeros(4, dtype=torch.long), ("a",)).statistics(), CPU)(images)
    assert bool(values.isfinite().all())
    assert float(values[:, 2].abs().max()) < 1e-3


def plain(pixels: Tensor) -> Tensor:
    return pixels


def make_stream(
    images: Tensor, batch_size: int, crop_padding: int = 0, flip: bool = False, seed: int = 0
) -> BatchStream:
    """Labels are the positions of the images; nothing is normalised."""
    dataset = Fake(crop_padding=crop_padding, flip=flip)
    labels = torch.arange(len(images))
    return BatchStream(images, labels, dataset, batch_size, plain, generator(seed))  # type: ignore[arg-type]


@pytest.mark.parametrize("augmented", [False, True])
def test_every_image_comes_once_a_pass_in_a_new_order(augmented: bool) -> None:
    stream = make_stream(noise(24), 6, crop_padding=int(augmented), flip=augmented)
    assert stream.batches == 4
    passes = [[int(label) for _ in range(4) for label in stream.next()[1]] for _ in range(4)]
    assert all(sorted(labels) == list(range(24)) for labels in passes)
    assert len({tuple(labels) for labels in passes}) == 4


def test_images_that_fill_no_batch_wait_for_the_next_pass() -> None:
    stream = make_stream(noise(10), 4)
    passes = [[int(label) for _ in range(2) for label in stream.next()[1]] for _ in range(30)]
    assert stream.batches == 2
    assert all(len(labels) == len(set(labels)) == 8 for labels in passes)
    assert set(itertools.chain(*passes)) == set(range(10))


def test_without_augmentation_images_come_as_they_are() -> None:
    images = noise(12)
    pixels, labels = make_stream(images, 12).next()
    assert torch.equal(pixels, images[labels])
    assert pixels.shape == (12, 3, 5, 5)


def cropped(image: np.ndarray, top: int, left: int, padding: int, mirrored: bool) -> np.ndarray:
    """Zero pixels around the image, a window of its own size, then perhaps its mirror image; pixel by pixel."""
    channels, height, width = image.shape
    out = np.zeros_like(image)
    for channel in range(channels):
        for row in range(height):
            for column in range(width):
                y, x = row + top - padding, column + left - padding
                if 0 <= y < height and 0 <= x < width:
                    out[channel, row, width - 1 - column if mirrored else column] = image[channel, y, x]
    return out


@pytest.mark.parametrize(("padding", "flip"), [(2, True), (2, False), (0, True), (1, True)])
def test_crops_and_flips_equal_plain_loops_over_pixels(padding: int, flip: bool) -> None:
    """Every image that comes out is one of the possible crops, and all of these come equally often."""
    images = noise(4, channels=2, height=4, width=6)
    offsets, mirrors = range(2 * padding + 1), (False, True) if flip else (False,)
    possible = {
        (label, cropped(images[label].numpy(), top, left, padding, mirrored).tobytes()): (top, left, mirrored)
        for label in range(4)
        for top, left, mirrored in itertools.product(offsets, offsets, mirrors)
    }
    kinds = len(offsets) ** 2 * len(mirrors)
    assert len(possible) == 4 * kinds, "no two crops look the same"
    stream = make_stream(images, 4, padding, flip)
    draws = 40 * kinds
    seen: Counter[tuple[int, int, bool]] = Counter()
    for _ in range(draws // 4):
        pixels, labels = stream.next()
        for pixel, label in zip(pixels, labels.tolist(), strict=True):
            seen[possible[label, pixel.contiguous().numpy().tobytes()]] += 1
    assert len(seen) == kinds
    chi_square = sum((count - 40) ** 2 / 40 for count in seen.values())
    assert chi_square < kinds - 1 + 4 * (2 * max(1, kinds - 1)) ** 0.5, "all equally often, within chance"


def test_images_of_one_batch_are_augmented_each_by_itself() -> None:
    """64 copies of one image: a batch holds many different crops of it."""
    images = noise(1).expand(64, -1, -1, -1).contiguous()
    pixels, _ = make_stream(images, 64, crop_padding=2, flip=True).next()
    assert len({image.contiguous().numpy().tobytes() for image in pixels}) > 25


@pytest.mark.parametrize("drawn", [0, 1, 3, 4, 7])
def test_a_restored_stream_goes_on_with_the_same_batches(drawn: int) -> None:
    images = noise(18)
    stream = make_stream(images, 4, crop_padding=1, flip=True)
    for _ in range(drawn):
        stream.next()
    state = copy.deepcopy(stream.state_dict())
    expected = [stream.next() for _ in range(9)]
    other = make_stream(images, 4, crop_padding=1, flip=True, seed=99)
    other.next()
    other.load_state_dict(state)
    for (pixels, labels), (expected_pixels, expected_labels) in zip(
        [other.next() for _ in range(9)], expected, strict=True
    ):
        assert torch.equal(pixels, expected_pixels)
        assert torch.equal(labels, expected_labels)


def test_task_splits_the_training_images_and_never_asks_for_test_images() -> None:
    class NoTest(Fake):
        def load_test(self) -> Images:
            raise AssertionError("a search asked for test images")

    dataset = NoTest(60, 3, 1, image_size=4)
    task = Classification(dataset, 0.5, 8, seed=0, device=CPU)
    assert (task.sizes, task.outputs, task.in_channels, task.steps_per_epoch) == ((30, 30), 3, 1, 3)
    parts = [{image.numpy().tobytes() for image in stream.images_NCHW} for stream in (task.train, task.valid)]
    everything = {image.numpy().tobytes() for image in dataset.load_train().images_NCHW}
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == everything


def test_evaluation_passes_the_architecture_part_once_without_augmentation() -> None:
    task = Classification(Fake(100, 4, 3, image_size=4), 0.5, 16, seed=0, device=CPU)
    batches = list(task.evaluation_batches())
    sizes = [len(labels) for _, labels in batches]
    assert max(sizes) - min(sizes) <= 1
    found = sorted(
        pixels.numpy().tobytes() + bytes([label]) for batch in batches for pixels, label in zip(*batch, strict=False)
    )
    stored = zip(task.normalize(task.valid.images_NCHW), task.valid.labels_N, strict=False)
    assert found == sorted(pixels.numpy().tobytes() + bytes([label]) for pixels, label in stored)
    again = torch.cat([pixels for pixels, _ in task.evaluation_batches()])
    assert torch.equal(again, torch.cat([pixels for pixels, _ in batches])), "always the same order"


def test_evaluation_batches_of_a_sorted_folder_mix_the_classes() -> None:
    """With batch statistics a batch of one class would be judged by statistics that training never sees."""

    class Sorted(Fake):
        def load_train(self) -> Images:
            images = super().load_train()
            order = images.labels_N.argsort(stable=True)
            return Images(images.images_NCHW[order], images.labels_N[order], images.classes)

    task = Classification(Sorted(400, 4, 1, image_size=4), 0.5, 50, seed=0, device=CPU)
    assert [len(labels.unique()) for _, labels in task.evaluation_batches()] == [4, 4, 4, 4]


def test_seed_decides_split_order_and_augmentation() -> None:
    def first_batches(seed: int) -> list[Tensor]:
        task = Classification(Fake(64, 4), 0.5, 8, seed=seed, device=CPU)
        return [task.train.next()[0], task.valid.next()[0]]

    once, again, other = first_batches(0), first_batches(0), first_batches(1)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert all(not torch.equal(a, b) for a, b in zip(once, other, strict=True))


@pytest.mark.parametrize(("batch_size", "split"), [(0, 0.5), (-8, 0.5), (33, 0.5), (17, 0.75)])
def test_batches_must_fit_both_parts(batch_size: int, split: float) -> None:
    with pytest.raises(ValueError, match=rf"^batch_size: got {batch_size}\b"):
        Classification(Fake(64, 4), split, batch_size, seed=0, device=CPU)


def test_loss_and_metric_equal_their_definitions() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.7, 0.1], [0.0, 0.0, 3.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 2])
    chances = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(axis=1, keepdims=True)
    expected = -np.mean(np.log(chances[range(3), labels.numpy()]))
    task = Classification(Fake(12, 3, 1, image_size=4), batch_size=4)
    assert float(task.loss(logits, labels)) == pytest.approx(expected, rel=1e-12)
    assert int(task.score(logits, labels)) == 2
    assert task.metric.text(task.per_item * 2 / 3) == "66.67%"
    assert (task.metric.name, task.metric.worth(66.0), task.metric.limits) == ("accuracy", 66.0, (0, 100))


@pytest.mark.parametrize("subset", [1.0, 0.5])
def test_items_are_drawn_from_both_parts_without_augmentation(subset: float) -> None:
    """What is left aside is not drawn; a draw hangs on its generator alone and moves no stream."""
    task = Classification(Fake(60, 3, 1, image_size=4), 0.5, 5, seed=0, device=CPU, subset=subset)
    stored = {}
    for name, stream in (("train", task.train), ("valid", task.valid)):
        for pixels, label in zip(task.normalize(stream.images_NCHW), stream.labels_N.tolist(), strict=True):
            stored[pixels.numpy().tobytes()] = (name, label)
    everything = 30 + int(30 * subset)
    assert len(stored) == everything, "no two images are the same"
    before = copy.deepcopy(task.state_dict())
    pixels, labels = task.draw(everything, generator(3))
    found = {image.numpy().tobytes(): label for image, label in zip(pixels, labels.tolist(), strict=True)}
    assert found == {image: label for image, (_, label) in stored.items()}, "each of them once"
    assert all(torch.equal(a, b) for a, b in zip(task.draw(9, generator(3)), (pixels[:9], labels[:9]), strict=True))
    assert not torch.equal(task.draw(9, generator(4))[0], pixels[:9])
    drawn = [stored[image.numpy().tobytes()][0] for image in task.draw(20, generator(5))[0]]
    assert set(drawn) == {"train", "valid"}
    for name, stream in before.items():
        assert torch.equal(stream["generator"], task.state_dict()[name]["generator"])
        assert stream["position"] == task.state_dict()[name]["position"]
    with pytest.raises(ValueError, match=rf"^batch_size: got {everything + 1}; fake has {everything} images"):
        task.draw(everything + 1, generator())
