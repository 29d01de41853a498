from __future__ import annotations

import pickle
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from darts.command.config import compose_config
from darts.run.errors import UserError
from darts.run.parts import build_part
from darts.tasks.datasets.base import Dataset, Images, Smaller, resized
from darts.tasks.datasets.decoding import BadImage, decode
from darts.tasks.datasets.digits import Digits
from darts.tasks.datasets.fake import Fake
from darts.tasks.datasets.image_folder import ImageFolder

NAMES = ("digits", "fake", "image_folder", "cifar10", "cifar100", "fashion_mnist")
Array = np.ndarray


def from_config(name: str, root: Path | None = None) -> Dataset:
    """The data set as a user gets it, with the settings of its YAML file."""
    words = [f"dataset={name}", *([f"dataset.root='{root}'"] if root else [])]
    dataset = build_part(compose_config("search", words)["dataset"], "dataset")
    assert isinstance(dataset, Dataset)
    return dataset


def assert_well_formed(images: Images, size: int, channels: int) -> None:
    assert images.images_NCHW.shape == (len(images), channels, size, size)
    assert images.images_NCHW.dtype == torch.uint8
    assert images.labels_N.dtype == torch.int64
    assert images.labels_N.shape == (len(images),)
    assert set(images.labels_N.tolist()) <= set(range(len(images.classes)))


def test_digits_are_scikit_learn_s_stretched_to_bytes() -> None:
    digits = load_digits()
    dataset = from_config("digits")
    train, test = dataset.load_train(), dataset.load_test()
    assert_well_formed(train, 8, 1)
    pixels = torch.cat([train.images_NCHW, test.images_NCHW]).squeeze(1).numpy()
    np.testing.assert_array_equal(pixels, np.rint(digits.images / 16 * 255))
    np.testing.assert_array_equal(torch.cat([train.labels_N, test.labels_N]).numpy(), digits.target)
    assert (len(train), len(test)) == (1437, 360)
    assert train.classes == tuple("0123456789")
    assert dataset.name == "digits"
    assert not dataset.flip, "a mirrored digit is another sign"


def test_a_smaller_side_keeps_the_proportions_of_crops_and_never_enlarges() -> None:
    fake = Fake(images=16, image_size=32)
    fake.crop_padding = 4
    half = Smaller(fake, 16)
    assert (half.name, half.image_size, half.crop_padding, half.flip) == (fake.name, 16, 2, fake.flip)
    train, whole = half.load_train(), fake.load_train()
    assert_well_formed(train, 16, whole.images_NCHW.shape[1])
    assert torch.equal(train.images_NCHW, resized(whole.images_NCHW, 16))
    assert torch.equal(train.labels_N, whole.labels_N)
    assert_well_formed(half.load_test(), 16, whole.images_NCHW.shape[1])
    same = Smaller(fake, 64)
    assert (same.image_size, same.crop_padding) == (32, 4)
    assert torch.equal(same.load_train().images_NCHW, whole.images_NCHW)


def test_digits_are_resized() -> None:
    train = Digits(image_size=12).load_train()
    assert_well_formed(train, 12, 1)
    mean = float(Digits().load_train().images_NCHW.float().mean())
    assert float(train.images_NCHW.float().mean()) == pytest.approx(mean, rel=0.02)


def test_resizing_keeps_constants_and_means() -> None:
    constant = torch.full((2, 3, 8, 8), 137, dtype=torch.uint8)
    assert torch.equal(resized(constant, 5), torch.full((2, 3, 5, 5), 137, dtype=torch.uint8))
    images = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8)
    assert resized(images, 8) is images
    halves = resized(images, 4)
    assert torch.equal(halves, halves.sort(dim=3).values), "a ramp stays a ramp"
    assert float(halves.float().mean()) == pytest.approx(31.5, abs=0.5)


def test_fake_images_repeat_are_balanced_and_can_be_told_apart() -> None:
    dataset = Fake(images=80, num_classes=4, channels=2, image_size=6)
    train, test = dataset.load_train(), dataset.load_test()
    assert_well_formed(train, 6, 2)
    assert_well_formed(test, 6, 2)
    again = Fake(images=80, num_classes=4, channels=2, image_size=6).load_train()
    assert torch.equal(train.images_NCHW, again.images_NCHW)
    assert train.labels_N.bincount().tolist() == [20, 20, 20, 20]
    means = torch.stack([train.images_NCHW[train.labels_N == label].float().mean(dim=0) for label in range(4)])
    distances = (test.images_NCHW.float().unsqueeze(1) - means).flatten(2).norm(dim=2)
    assert (distances.argmin(dim=1) == test.labels_N).all()
    assert not torch.equal(train.images_NCHW[: len(test)], test.images_NCHW)


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ({"images": 3, "num_classes": 4}, "images"),
        ({"num_classes": 1}, "images"),
        ({"channels": 0}, "channels"),
        ({"image_size": 0}, "image_size"),
        ({"image_size": -8}, "image_size"),
        ({"crop_padding": -1}, "crop_padding"),
    ],
)
def test_wrong_sizes_are_refused(arguments: dict[str, int], option: str) -> None:
    with pytest.raises(ValueError, match=rf"^{option}: got"):
        Fake(**arguments)  # type: ignore[arg-type]


# --- a folder of images ---


def save(path: Path, pixels: Array, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]


def colour(red: int, green: int, blue: int, height: int = 8, width: int = 8) -> Array:
    return np.broadcast_to(np.array([red, green, blue], dtype=np.uint8), (height, width, 3)).copy()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of two images each, train and test."""
    folder = tmp_path / "my images, (all) = ü"
    for part in ("train", "test"):
        for number in range(2):
            save(folder / part / "zebra" / f"{number}.png", colour(10 * number, 20, 30))
            save(folder / part / "ant" / f"{number}.png", colour(200, 100, 50 + number))
    return folder


def test_folder_classes_are_the_sorted_names_of_its_folders(root: Path) -> None:
    dataset = from_config("image_folder", root)
    train, test = dataset.load_train(), dataset.load_test()
    assert_well_formed(train, 32, 3)
    assert train.classes == test.classes == ("ant", "zebra")
    assert train.labels_N.tolist() == [0, 0, 1, 1]
    assert train.images_NCHW[:, :, 16, 16].tolist() == [[200, 100, 50], [200, 100, 51], [0, 20, 30], [10, 20, 30]]
    assert dataset.name == root.name


def decoded(tmp_path: Path, make: Callable[[Path], object], suffix: str = "png", size: int = 8) -> Array:
    """One image as the data set gives it: (height, width, 3)."""
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        make(tmp_path / "train" / name / f"image.{suffix}")
    images = ImageFolder(str(tmp_path), image_size=size).load_train().images_NCHW
    assert torch.equal(images[0], images[1])
    return images[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_shorter_side_is_resized_and_the_centre_cropped(tmp_path: Path, scale: int, upright: bool) -> None:
    """Bands of red, green and blue, each as wide as the image is high: only the green one is left."""
    side = 8 * scale
    bands = np.concatenate(
        [colour(255, 0, 0, side, side), colour(0, 255, 0, side, side), colour(0, 0, 255, side, side)], 1
    )
    bands = bands.transpose(1, 0, 2).copy() if upright else bands
    found = decoded(tmp_path, lambda path: save(path, bands)).astype(int)
    inner = found[2:-2] if upright else found[:, 2:-2]
    assert (inner == [0, 255, 0]).all()
    assert (found[..., 1] > 200).all()


@pytest.mark.parametrize(("height", "width"), [(16, 48), (48, 24), (24, 24), (4, 12)])
def test_a_picture_is_scaled_like_pillow_scales_the_whole_of_it(tmp_path: Path, height: int, width: int) -> None:
    """Resized as a whole to a shorter side of 8, then cropped at whole pixels."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(rows / 3 + k) * np.cos(columns / 4 - k) for k in range(3)], axis=2)
    picture = ((waves + 1) * 127.5).astype(np.uint8)
    found = decoded(tmp_path, lambda path: save(path, picture))
    ratio = 8 / min(height, width)
    new_width, new_height = round(width * ratio), round(height * ratio)
    whole = np.asarray(Image.fromarray(picture).resize((new_width, new_height), Image.Resampling.BICUBIC))
    top, left = (new_height - 8) // 2, (new_width - 8) // 2
    assert np.abs(found.astype(int) - whole[top : top + 8, left : left + 8]).max() <= 3


def test_pictures_of_the_right_size_are_taken_bit_for_bit(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    np.testing.assert_array_equal(decoded(tmp_path, lambda path: save(path, picture)), picture)


def test_grey_transparent_palette_and_cmyk_files_become_rgb(tmp_path: Path) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    found = decoded(tmp_path / "grey", lambda path: save(path, grey))
    np.testing.assert_array_equal(found, np.stack([grey] * 3, axis=2))
    opaque = np.dstack([colour(9, 80, 200), np.full((8, 8), 255, dtype=np.uint8)])
    found = decoded(tmp_path / "rgba", lambda path: save(path, opaque))
    np.testing.assert_array_equal(found, colour(9, 80, 200))
    indexed = Image.fromarray(colour(255, 0, 0)).convert("P")
    np.testing.assert_array_equal(decoded(tmp_path / "palette", indexed.save, "gif"), colour(255, 0, 0))
    cmyk = Image.fromarray(colour(255, 255, 255)).convert("CMYK")
    assert decoded(tmp_path / "cmyk", cmyk.save, "jpg").min() > 250
    bits = Image.fromarray(grey).convert("1", dither=Image.Dither.NONE)
    assert set(decoded(tmp_path / "bits", bits.save).ravel().tolist()) == {0, 255}


def test_sixteen_bit_grey_keeps_its_contrast(tmp_path: Path) -> None:
    """Scans and X-rays often have 16 bits a pixel; they must not become white squares."""
    grey = np.linspace(0, 65535, 64).reshape(8, 8).round().astype(np.uint16)
    found = decoded(tmp_path, lambda path: save(path, grey))
    assert np.abs(found[..., 0].astype(int) - np.rint(grey / 257)).max() <= 1


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    """Orientation 6: the camera was turned, so the stored picture must be turned by 90 degrees clockwise."""
    stored = colour(0, 0, 0, 32, 32)
    stored[:16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    found = decoded(tmp_path, lambda path: save(path, stored, exif=exif, quality=100, subsampling=0), "jpg", 32)
    np.testing.assert_array_equal(found[:, 18:] > 128, True)
    np.testing.assert_array_equal(found[:, :14] > 128, False)


@pytest.mark.parametrize("suffix", ["png", "tiff", "gif"])
def test_a_small_file_of_very_many_pixels_is_not_decoded(suffix: str, tmp_path: Path) -> None:
    """What its header says is believed before its pixels are."""
    file = tmp_path / f"bomb.{suffix}"
    options = {"compression": "tiff_adobe_deflate"} if suffix == "tiff" else {}
    Image.new("1" if suffix != "gif" else "P", (12_000, 6_000)).save(file, **options)
    assert file.stat().st_size < 2_000_000
    with pytest.raises(BadImage, match="12,000 x 6,000 pixels; at most 67,108,864 are decoded"):
        decode(file, 8)


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    picture = np.dstack([colour(200, 0, 100), np.full((8, 8), 51, dtype=np.uint8)])  # a fifth
    expected = [round(0.2 * value + 0.8 * 255) for value in (200, 0, 100)]
    found = decoded(tmp_path, lambda path: save(path, picture)).astype(int)
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(("scale", "high"), [(255, 1.0), (1, 200.0)])
def test_floating_point_images_keep_their_contrast(tmp_path: Path, scale: float, high: float) -> None:
    grey = np.linspace(0, high, 64, dtype=np.float32).reshape(8, 8)
    found = decoded(tmp_path, lambda path: Image.fromarray(grey).save(path), "tiff")
    assert np.abs(found[..., 0] - np.rint(grey * scale)).max() <= 1


@pytest.mark.parametrize("values", [np.float32([[0, 300]]), np.float32([[-1, 1]]), np.int32([[0, 70000]])])
def test_values_without_a_meaning_are_refused(tmp_path: Path, values: Array) -> None:
    with pytest.raises(UserError, match=r"values from .* have a meaning"):
        decoded(tmp_path, lambda path: Image.fromarray(values.repeat(8, 0).repeat(4, 1)).save(path), "tiff")


def test_the_first_frame_of_an_animation_is_taken_and_said(tmp_path: Path) -> None:
    frames = [Image.fromarray(colour(*rgb)) for rgb in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    found = decoded(tmp_path, lambda path: frames[0].save(path, save_all=True, append_images=frames[1:]), "gif")
    np.testing.assert_array_equal(found, colour(255, 0, 0))
    notes = ImageFolder(str(tmp_path), image_size=8).load_train().notes
    assert [note.endswith("image.gif: the first of 3 frames") for note in notes] == [True, True]


def test_large_jpegs_are_decoded_small_and_look_alike(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:512, 0:512]
    picture = np.stack([127 + 120 * np.sin(rows / (60 + 9 * k)) * np.cos(columns / 70) for k in range(3)], 2)
    large = Image.fromarray(picture.astype(np.uint8))
    found = decoded(tmp_path, lambda path: large.save(path, quality=95), "jpg", 32)
    assert np.abs(found.astype(int) - np.asarray(large.resize((32, 32), Image.Resampling.BICUBIC))).max() <= 6


def test_images_that_do_not_fit_into_memory_name_the_option(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = ImageFolder(str(root), image_size=8)
    monkeypatch.setattr("darts.run.memory.total_memory", lambda: 1000)  # four images of 192 bytes, twice
    with pytest.raises(UserError, match=r"^dataset\.image_size: got 8; 4 images alone would take "):
        dataset.load_train()


def test_reading_leaves_warnings_as_they_are(root: Path) -> None:
    """Images are read in threads, which share the filters."""
    before = list(warnings.filters)
    for _ in range(5):
        ImageFolder(str(root), image_size=8).load_train()
    assert warnings.filters == before


def test_all_bad_files_are_named_at_once_or_left_out(root: Path) -> None:
    break_truncated_image(root)
    break_empty_file(root)
    (root / "train/zebra/gone.png").symlink_to(root / "nowhere.png")
    for name in ("Thumbs.db", "desktop.ini", "notes.txt"):
        (root / "train/ant" / name).write_bytes(b"something else")
    with pytest.raises(UserError) as caught:
        ImageFolder(str(root), image_size=8).load_train()
    message = str(caught.value)
    assert message.startswith("dataset.root: 3 of 7 files cannot be read (")
    assert "noise.png: " in message
    assert "2.png: no image of a known format" in message
    assert "gone.png: a link to nowhere" in message
    assert message.endswith("leave them out with dataset.skip_bad=true")
    images = ImageFolder(str(root), image_size=8, skip_bad=True).load_train()
    assert images.labels_N.tolist() == [0, 0, 1, 1]
    assert images.about() == "2 classes, 4 images (smallest class 2)"
    names = sorted(Path(line.split(": ")[0]).name for line in images.left_out)
    assert names == ["2.png", "Thumbs.db", "desktop.ini", "gone.png", "noise.png", "notes.txt"]


def test_hidden_files_and_folders_are_no_images(root: Path) -> None:
    """What macOS and Jupyter leave behind."""
    (root / "train" / ".DS_Store").write_bytes(b"\0")
    (root / "train" / "ant" / ".DS_Store").write_bytes(b"\0")
    save(root / "train" / ".cache" / "0.png", colour(0, 0, 0))
    save(root / "train" / "ant" / ".ipynb_checkpoints" / "0-checkpoint.png", colour(0, 0, 0))
    images = ImageFolder(str(root)).load_train()
    assert images.classes == ("ant", "zebra")
    assert images.labels_N.tolist() == [0, 0, 1, 1]


def test_a_hidden_folder_above_the_images_does_not_matter(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / ".data" / "train" / name / "0.png", colour(1, 2, 3))
    assert len(ImageFolder(str(tmp_path / ".data")).load_train()) == 2


def test_without_a_test_folder_a_search_can_run(root: Path) -> None:
    for path in sorted((root / "test").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (root / "test").rmdir()
    dataset = ImageFolder(str(root), image_size=8)
    assert len(dataset.load_train()) == 4
    with pytest.raises(UserError, match=r"dataset\.root: there is no folder .*test"):
        dataset.load_test()


def remove_class(root: Path, part: str, name: str) -> None:
    for path in (root / part / name).iterdir():
        path.unlink()
    (root / part / name).rmdir()


def break_no_train(root: Path) -> None:
    (root / "train").rename(root / "elsewhere")


def break_no_root(root: Path) -> None:
    root.rename(root.with_name("elsewhere"))


def break_one_class(root: Path) -> None:
    remove_class(root, "train", "ant")


def break_no_class(root: Path) -> None:
    for name in ("ant", "zebra"):
        remove_class(root, "train", name)


def break_empty_class(root: Path) -> None:
    remove_class(root, "train", "ant")
    (root / "train" / "ant").mkdir()


def break_truncated_image(root: Path) -> None:
    save(root / "train" / "ant" / "noise.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    whole = (root / "train" / "ant" / "noise.png").read_bytes()
    (root / "train" / "ant" / "noise.png").write_bytes(whole[: len(whole) // 2])


def break_empty_file(root: Path) -> None:
    (root / "train" / "ant" / "2.png").write_bytes(b"")


def break_test_class(root: Path) -> None:
    remove_class(root, "test", "zebra")
    save(root / "test" / "bee" / "0.png", colour(0, 0, 0))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (break_no_root, "no folder"),
        (break_no_train, "no folder"),
        (break_one_class, "one class, zebra"),
        (break_no_class, "empty"),
        (break_empty_class, "ant is empty"),
        (break_truncated_image, "1 of 5 files cannot be read"),
        (break_empty_file, "2.png: no image of a known format"),
        (break_test_class, "test lacks the classes zebra"),
    ],
)
def test_a_wrong_folder_ends_with_a_message(root: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(root)
    with pytest.raises(UserError, match=r"^dataset\.root: ") as caught:
        ImageFolder(str(root), image_size=8).load_train()
    assert message in str(caught.value)
    assert ";" in str(caught.value), "it says how to mend"


# --- torchvision's data sets in their official files ---


def write_cifar(
    folder: Path, files: dict[str, int], labels_key: str, num_classes: int
) -> dict[str, tuple[Array, Array]]:
    """Python 2's pickles as the authors made them: rows of 3,072 bytes, channel by channel."""
    folder.mkdir(parents=True)
    rng, written = np.random.default_rng(0), {}
    for name, count in files.items():
        data = rng.integers(0, 256, (count, 3072)).astype(np.uint8)
        labels = rng.integers(0, num_classes, count)
        content = {"data": data, labels_key: labels.tolist(), "batch_label": name}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        written[name] = (data, labels)
    return written


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision compares checksums with the official files'; ours are small ones of the same format."""
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5=None: Path(path).is_file())


@pytest.mark.usefixtures("unchecked")
def test_cifar10_is_read_from_its_official_files(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    files = {f"data_batch_{number}": number for number in range(1, 6)} | {"test_batch": 7}
    written = write_cifar(folder, files, "labels", 10)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}, protocol=2))
    dataset = from_config("cifar10", tmp_path)
    train, test = dataset.load_train(), dataset.load_test()
    assert_well_formed(train, 32, 3)
    batches = [written[f"data_batch_{number}"] for number in range(1, 6)]
    rows = np.concatenate([data for data, _ in batches])
    for place, row in enumerate(rows):  # 1,024 red, 1,024 green, 1,024 blue bytes, row by row
        np.testing.assert_array_equal(train.images_NCHW[place].numpy().ravel(), row)
    assert train.labels_N.tolist() == np.concatenate([labels for _, labels in batches]).tolist()
    assert test.images_NCHW.flatten(1).tolist() == written["test_batch"][0].tolist()
    assert test.labels_N.tolist() == written["test_batch"][1].tolist()
    assert train.classes == tuple(names)
    assert (dataset.name, dataset.crop_padding, dataset.flip) == ("cifar10", 4, True)


@pytest.mark.usefixtures("unchecked")
def test_cifar100_takes_the_fine_labels(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    written = write_cifar(folder, {"train": 12, "test": 5}, "fine_labels", 100)
    names = [f"class {number}" for number in range(100)]
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names, "coarse_label_names": ["x"]}, protocol=2))
    dataset = from_config("cifar100", tmp_path)
    train = dataset.load_train()
    assert_well_formed(train, 32, 3)
    assert train.images_NCHW.flatten(1).tolist() == written["train"][0].tolist()
    assert train.labels_N.tolist() == written["train"][1].tolist()
    assert train.classes == tuple(names)
    assert len(dataset.load_test()) == 5


def write_idx(path: Path, values: Array) -> None:
    """LeCun's IDX format: magic number 0x08DD for bytes of D dimensions, sizes big-endian, then the bytes."""
    header = struct.pack(">I", 0x0800 + values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


@pytest.fixture
def fashion(tmp_path: Path) -> tuple[Path, Array, Array]:
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (9, 28, 28)), rng.integers(0, 10, 9)
    for part, span in (("train", slice(0, 6)), ("t10k", slice(6, 9))):
        write_idx(folder / f"{part}-images-idx3-ubyte", pixels[span])
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels[span])
    return tmp_path, pixels, labels


def test_fashion_mnist_is_read_from_its_official_files(fashion: tuple[Path, Array, Array]) -> None:
    root, pixels, labels = fashion
    dataset = from_config("fashion_mnist", root)
    train, test = dataset.load_train(), dataset.load_test()
    assert_well_formed(train, 28, 1)
    np.testing.assert_array_equal(torch.cat([train.images_NCHW, test.images_NCHW]).squeeze(1).numpy(), pixels)
    assert [*train.labels_N.tolist(), *test.labels_N.tolist()] == labels.tolist()
    assert train.classes[0] == "T-shirt/top"
    assert train.classes[9] == "Ankle boot"


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion_mnist"])
def test_missing_files_are_named_and_nothing_is_fetched_unasked(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(UserError, match=r"^dataset\.root: .*dataset\.download=true") as caught:
        from_config(name, tmp_path).load_train()
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"<html>404 not found</html>" * 9, b"\0\0\x08\x03\0\0\0\x06\0\0\0\x1c"])
def test_foreign_fashion_mnist_files_end_with_a_message(fashion: tuple[Path, Array, Array], content: bytes) -> None:
    root = fashion[0]
    (root / "FashionMNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(UserError, match=r"^dataset\.root: FashionMNIST cannot be read"):
        from_config("fashion_mnist", root).load_train()


def test_cifar_files_with_another_checksum_are_not_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "executed",))

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match=r"^dataset\.root: CIFAR10 cannot be read"):
        from_config("cifar10", tmp_path).load_train()
    assert not (tmp_path / "executed").exists()
