"""One file of any image format to the bytes of a square RGB image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from darts.run.errors import reason
from darts.run.files import is_special

BACKGROUND = (255, 255, 255)  # below transparent pixels
MOST_PIXELS = 2**26  # of a file; a small file may say that it is of any size
# Those that Pillow itself decodes, and that tell their size first; others are programs, or are handed to programs.
FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "SGI", "TGA", "TIFF", "WEBP",
)  # fmt: skip


class BadImage(Exception):
    """It cannot be read, or its values have no clear meaning; the message says why."""


def decode(path: Path, size: int, mode: str = "RGB") -> tuple[Tensor, str, tuple[int, int]]:
    """The image in a mode of Pillow's, its shorter side resized to `size` and the centre cropped, (C, size, size); what
    was left out of it, if something was; and its width and height before.

    Transparent pixels lie on white; of several frames the first is taken.

    Raises:
        BadImage: see there.
    """
    if is_special(path):
        raise BadImage("no file, but a pipe or a device")
    Image.init()
    try:
        with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as opened:
            before = opened.size
            if before[0] * before[1] > MOST_PIXELS:
                raise BadImage(f"{before[0]:,} x {before[1]:,} pixels; at most {MOST_PIXELS:,} are decoded")
            frames = getattr(opened, "n_frames", 1)
            opened.draft("RGB", (2 * size, 2 * size))  # JPEGs are decoded at a fraction of their size
            image = ImageOps.fit(_rgb(ImageOps.exif_transpose(opened)), (size, size))
    except UnidentifiedImageError:
        raise BadImage("no image of a known format") from None
    except BadImage:
        raise
    except Exception as error:  # Pillow has a type for every way a file can be broken
        raise BadImage(reason(error)) from None
    return pil_to_tensor(image.convert(mode)), f"the first of {frames} frames" if frames > 1 else "", before


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_bytes(np.asarray(image), image.mode)).convert("RGB")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, BACKGROUND), over).convert("RGB")
    return image.convert("RGB")


def _bytes(values: np.ndarray, mode: str) -> np.ndarray:
    """Values that Pillow would clip or wrap, in their place among 256."""
    low, high = float(values.min()), float(values.max())
    if mode == "F":
        if not (np.isfinite(values).all() and low >= 0 and high <= 255):
            raise BadImage(f"floating-point values from {low:g} to {high:g}; 0 to 1 and 0 to 255 have a meaning")
        scale = 255.0 if high <= 1 else 1.0
    else:
        if low < 0 or high > 65535:
            raise BadImage(f"32-bit values from {low:g} to {high:g}; up to 16 bits have a meaning")
        scale = 1 / 257
    return (values * scale).round().astype(np.uint8)
