"""A folder of the user's own images: root/train/CLASS/*, and root/test/CLASS/* if there is a test set."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from darts.run.errors import UserError, reason
from darts.tasks.datasets.base import Dataset, Images


class ImageFolder(Dataset):
    """Images of any size and format that Pillow reads; the shorter side is resized, the centre is cropped.

    Args:
        root: the folder that holds `train`.
        image_size: side of the square images after resizing, pixels.
        crop_padding, flip: see `Dataset`.
        name: what reports call it; the folder's name if None.

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
    ) -> None:
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
        files: list[Path] = []
        labels: list[int] = []
        for label, name in enumerate(classes):
            folder = self.root / part / name
            found = sorted(
                path for path in folder.rglob("*") if path.is_file() and not _hidden(path.relative_to(folder))
            )
            if not found:
                raise UserError(f"dataset.root: the class folder {folder} is empty; add images or remove it")
            files += found
            labels += [label] * len(found)
        with ThreadPoolExecutor() as pool:
            images_NCHW = torch.stack(list(pool.map(self._decode, files)))
        return Images(images_NCHW, torch.tensor(labels), classes)

    def _decode(self, path: Path) -> Tensor:
        from PIL import Image, ImageOps
        from torchvision.transforms.functional import pil_to_tensor

        try:
            with Image.open(path) as opened:
                upright = ImageOps.exif_transpose(opened)
                if upright.mode.startswith("I"):  # 16 bits: Pillow would clip instead of scaling
                    upright = Image.fromarray((np.asarray(upright) / 257).round().astype(np.uint8))
                # resizes the shorter side and crops the centre
                image = ImageOps.fit(upright.convert("RGB"), (self.image_size, self.image_size))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(
                f"dataset.root: {path} is no image that can be read ({reason(error)}); remove or replace it"
            ) from None
        return pil_to_tensor(image)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
