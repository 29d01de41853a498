"""A folder of the user's own images: root/train/CLASS/*, and root/test/CLASS/* if there is a test set."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from darts.run.errors import UserError
from darts.run.memory import check_memory
from darts.tasks.datasets.base import Dataset, Images

SHOWN = 10  # bad files in a message


class ImageFolder(Dataset):
    """Images of any size and format that Pillow reads; the shorter side is resized, the centre is cropped.

    Args:
        root: the folder that holds `train`.
        image_size: side of the square images after resizing, pixels.
        crop_padding, flip: see `Dataset`.
        name: what reports call it; the folder's name if None.
        skip_bad: leave out files that cannot be read, instead of refusing them all at once.

    Raises:
        ValueError: a size that is not positive.
        UserError: see `check`.
    """

    def __init__(
        self,
        root: str,
        image_size: int = 32,
        crop_padding: int = 4,
        flip: bool = True,
        name: str | None = None,
        skip_bad: bool = False,
    ) -> None:
        self.skip_bad = skip_bad
        self.root = Path(root).expanduser()
        super().__init__(name or self.root.resolve().name, image_size, crop_padding, flip)

    def load_train(self) -> Images:
        classes = self._classes("train")
        if (self.root / "test").is_dir():
            missing = sorted(set(classes) - set(self._classes("test")))
            if missing:
                raise UserError(
                    f"dataset.root: {self.root}/test lacks the classes {', '.join(missing)} that train has; "
                    "add them, or remove the test folder (a search does not need one)"
                )
        return self._load("train", classes)

    def load_test(self) -> Images:
        self._classes("test")
        return self._load("test", self._classes("train"))

    def _classes(self, part: str) -> tuple[str, ...]:
        folder = self.root / part
        layout = f"expected {self.root}/{part}/CLASS/IMAGE"
        if not folder.is_dir():
            raise UserError(f"dataset.root: there is no folder {folder}; {layout}")
        classes = tuple(
            sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        )
        if not classes:
            raise UserError(f"dataset.root: {folder} is empty: it holds no class folders; {layout}")
        if len(classes) == 1:
            raise UserError(
                f"dataset.root: {folder} has one class, {classes[0]}; a classifier needs 2 or more class folders"
            )
        return classes

    def _load(self, part: str, classes: tuple[str, ...]) -> Images:
        from PIL import Image

        known = Image.registered_extensions()
        files: list[tuple[Path, int]] = []
        left_out: list[str] = []
        for label, name in enumerate(classes):
            folder = self.root / part / name
            for path in sorted(folder.rglob("*")):
                if path.is_dir() or _hidden(path.relative_to(folder)):
                    continue
                if path.suffix and path.suffix.lower() not in known:
                    left_out.append(f"{path}: no image, by its name")
                else:
                    files.append((path, label))
        try:
            check_memory(
                "dataset.image_size", self.image_size, 2 * 3 * len(files) * self.image_size**2, f"{len(files):,} images"
            )
        except ValueError as error:
            raise UserError(str(error)) from None
        with ThreadPoolExecutor() as pool, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's about odd metadata
            decoded = list(pool.map(lambda file: self._decode(file[0]), files))
        pixels, labels, notes, bad = [], [], [], []
        for (path, label), found in zip(files, decoded, strict=True):
            if isinstance(found, str):
                bad.append(f"{path}: {found}")
                continue
            picture_CHW, note = found
            pixels.append(picture_CHW)
            labels.append(label)
            if note:
                notes.append(f"{path}: {note}")
        if bad and not self.skip_bad:
            shown = "; ".join(bad[:SHOWN]) + (f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else "")
            raise UserError(
                f"dataset.root: {len(bad)} of {len(files)} files cannot be read ({shown}); remove or replace them, or "
                "leave them out with dataset.skip_bad=true"
            )
        for label in sorted({*range(len(classes))} - {*labels}):
            raise UserError(
                f"dataset.root: the class folder {self.root / part / classes[label]} is empty; add images or remove it"
            )
        return Images(torch.stack(pixels), torch.tensor(labels), classes, (*left_out, *bad), tuple(notes))

    def _decode(self, path: Path) -> tuple[Tensor, str] | str:
        """Pixels and a note, or what is wrong."""
        from darts.tasks.datasets.decoding import BadImage, decode

        if path.is_symlink() and not path.exists():
            return "a link to nowhere"
        try:
            return decode(path, self.image_size)
        except BadImage as problem:
            return str(problem)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
