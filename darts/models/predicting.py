"""Answers of a model about image files.

Shape suffixes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from darts.models.bounded import check_bounded
from darts.models.formats.base import Answer
from darts.models.formats.onnx import session_of
from darts.models.opening import open_model
from darts.run.errors import UserError, reason
from darts.run.quiet import quiet
from darts.tasks.datasets.base import resized
from darts.tasks.datasets.decoding import BadImage, decode
from darts.tasks.datasets.reading import LINK, mapping
from darts.training.model import About

MODES = {1: "L", 3: "RGB"}  # of images, by channels


@dataclass(frozen=True)
class Predictor:
    """From images as bytes (B, C, H, W) to probabilities (B, K)."""

    about: About
    probabilities: Callable[[Tensor], Tensor]


def open_predictor(path: Path, weights: str = "last", plugins: Sequence[str] = ()) -> Predictor:
    """A model from an ONNX or .safetensors file, or from the folder of a run; no code of a file is run.

    Raises:
        UserError: no such file, one that is broken or not ours, or a model that does not classify images.
    """
    return predictor_of(*open_answer(path, weights, plugins))


def predictor_of(about: About, answer: Answer) -> Predictor:
    """The same from what `open_answer` gives.

    Raises:
        UserError: the model does not classify images that files can hold.
    """
    about.check_classifier("darts predict")
    if about.network_size.in_channels not in MODES:
        raise UserError(f"model: it takes images of {about.network_size.in_channels} channels; files have 1 or 3")
    normalize = about.normalizer(torch.device("cpu"))
    return Predictor(about, lambda images_BCHW: answer(normalize(images_BCHW)).softmax(dim=1))


def open_answer(path: Path, weights: str = "last", plugins: Sequence[str] = ()) -> tuple[About, Answer]:
    """What a model says of itself, and its answers (B, K) to normalised inputs; no code of a file is run.

    Raises:
        UserError: no such file, or one that is broken or not ours; the answers raise it too.
    """
    if path.suffix != ".onnx" or not path.is_file():
        model = open_model(path, "model", weights, plugins)

        def of_model(inputs: Tensor) -> Tensor:
            with torch.no_grad():
                outputs: Tensor = model.network(inputs)
            return outputs

        return model.about, of_model
    try:
        check_bounded(path)
        answer, note = session_of(path)
    except UserError:
        raise
    except Exception as error:  # onnxruntime has a type for every way a file can be broken
        raise UserError(f"model: {path} cannot be read ({reason(error)}); give an intact file") from None
    try:
        content = None if note is None else json.loads(note)
    except (ValueError, RecursionError):
        content = None
    if content is None:
        raise UserError(f"model: {path} was not written by darts export: it says nothing of classes and image size")
    about = About.read(content, path, "model")

    def checked(inputs: Tensor) -> Tensor:
        try:
            outputs_BK = answer(inputs)
            if outputs_BK.shape != (len(inputs), about.network_size.num_classes):
                raise ValueError(f"its output has the shape {tuple(outputs_BK.shape)}")
        except Exception as error:  # of the runtime too, which has a type for every reason
            raise UserError(
                f"model: {path} does not answer as it says ({reason(error)}); give an intact file"
            ) from None
        return outputs_BK

    return about, checked


@dataclass(frozen=True)
class Asked:
    """A file to look at, and its class where its folder has the name of one."""

    path: Path
    label: str | None


def files_of(paths: Sequence[Path], classes: Sequence[str]) -> tuple[list[Asked], int]:
    """Image files, folders with all below them, in order; and how many files in folders were passed by.

    Raises:
        UserError: a path that is not there.
    """
    known, found, passed = Image.registered_extensions(), [], 0
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: there is no such file or folder")
        if path.is_file():
            found.append(Asked(path, None))
            continue
        for file in sorted(path.rglob("*")):
            inside = file.relative_to(path).parts
            if file.is_dir() or any(part.startswith(".") for part in inside):
                continue
            if file.suffix and file.suffix.lower() not in known:
                passed += 1
                continue
            found.append(Asked(file, inside[0] if len(inside) > 1 and inside[0] in classes else None))
    return found, passed


@dataclass(frozen=True)
class Prediction:
    """What a model says of a file.

    Attributes:
        asked: the file.
        ranked: classes with their probabilities, the likeliest first; empty if the file cannot be read.
        problem: why it cannot.
    """

    asked: Asked
    ranked: tuple[tuple[str, float], ...] = ()
    problem: str = ""


def predict(predictor: Predictor, files: Sequence[Asked], batch_size: int = 64) -> Iterator[Prediction]:
    """Answers in the order of the files; only one batch of images is in memory."""
    about = predictor.about
    size, classes, mode = about.network_size, about.classes, MODES[about.network_size.in_channels]

    def read(asked: Asked) -> Tensor | str:
        if asked.path.is_symlink() and not asked.path.exists():
            return LINK
        try:
            return decode(asked.path, about.inputs["decoded_size"], mode)[0]
        except BadImage as problem:
            return str(problem)

    with mapping([asked.path for asked in files]) as mapped:
        for batch in _batches(files, batch_size):
            with quiet("PIL"):  # about odd metadata
                decoded = list(mapped(read, batch))
            pictures = [picture for picture in decoded if isinstance(picture, Tensor)]
            answers = iter(())
            if pictures:
                found_BK = predictor.probabilities(resized(torch.stack(pictures), size.image_size))
                if not torch.isfinite(found_BK).all():
                    raise UserError("model: its answers are no numbers; it holds broken weights, train it anew")
                answers = iter(found_BK)
            for asked, picture in zip(batch, decoded, strict=True):
                if isinstance(picture, str):
                    yield Prediction(asked, problem=picture)
                    continue
                found_K: Tensor = next(answers)
                sure_K, order_K = found_K.sort(descending=True, stable=True)
                ranked = zip(order_K.tolist(), sure_K.tolist(), strict=True)
                yield Prediction(asked, tuple((classes[place], sure) for place, sure in ranked))


def _batches(files: Sequence[Asked], size: int) -> Iterator[list[Asked]]:
    remaining = iter(files)
    while batch := list(itertools.islice(remaining, size)):
        yield batch
