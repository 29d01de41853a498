"""A folder of the user's own images: root/train/CLASS/*, root/val/CLASS/* if they are split already, and
root/test/CLASS/* if there is a test set."""

from __future__ import annotations

from pathlib import Path

import torch

from darts.run.errors import UserError
from darts.run.memory import check_memory
from darts.tasks.datasets.base import Dataset, Images
from darts.tasks.datasets.reading import read_images

SHOWN = 10  # bad files in a message
VALID = ("val", "valid", "validation")  # names of a folder for the architecture's part


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
        for part in ("test", *VALID):
            if (self.root / part).is_dir():
                self._check_classes(part, classes)
        return self._load("train", classes)

    def load_valid(self) -> Images | None:
        parts = [part for part in VALID if (self.root / part).is_dir()]
        if len(parts) > 1:
            raise UserError(f"dataset.root: {self.root} holds {' and '.join(parts)}; keep one of them")
        return self._load(parts[0], self._classes("train")) if parts else None

    @property
    def has_test(self) -> bool:
        return (self.root / "test").is_dir()

    def load_test(self) -> Images:
        self._classes("test")
        return self._load("test", self._classes("train"))

    def _check_classes(self, part: str, classes: tuple[str, ...]) -> None:
        others = self._classes(part)
        for lacking, names in ((part, {*classes} - {*others}), ("train", {*others} - {*classes})):
            if names:
                raise UserError(
                    f"dataset.root: {self.root / lacking} lacks the classes {', '.join(sorted(names))} that "
                    f"{'train' if lacking == part else part} has; add them, or remove the {part} folder (a search does "
                    "not need one)"
                )

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
        read = read_images([path for path, _ in files], self.image_size)
        bad = [f"{files[place][0]}: {problem}" for place, problem in read.bad.items()]
        notes = tuple(f"{files[place][0]}: {note}" for place, note in read.notes.items())
        labels = [files[place][1] for place in read.places]
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
        return Images(read.images_NCHW, torch.tensor(labels), classes, (*left_out, *bad), notes, read.sizes)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
