"""Writing a model for other programs, and checking what was written before it gets its name.

Shape suffixes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from darts.models.formats.base import Answer, Format
from darts.run.errors import UserError
from darts.run.files import replacing
from darts.run.seeding import make_generator
from darts.training.model import Model
from supernet.folding import folded

LIMIT = 1e-4  # difference of outputs that is of rounding
BATCHES = (1, 64)


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path, bytes: of it.
        difference: largest of the outputs from those of the model, over random inputs in batches of 1 and 64.
        seconds: for all of it.
    """

    path: Path
    bytes: int
    difference: float
    seconds: float


def folded_form(network: nn.Module) -> nn.Module:
    """The network without what it needs for training alone, its batch normalisation folded into convolutions."""
    return network.simplified() if hasattr(network, "simplified") else folded(network)  # type: ignore[no-any-return, operator]


def export(model: Model, form: Format, path: Path, overwrite: bool = False, plugins: Sequence[str] = ()) -> Exported:
    """Write a model, run what was written, and keep it if it answers as the model does.

    Args:
        model: on the CPU.
        form: of the file.
        path: the file; its folder is made.
        overwrite: replace what is there.
        plugins: packages with parts of the user's own.

    Raises:
        UserError: it cannot be written there, a file is there already, a package is missing, or the answers differ.
    """
    if path.exists() and not overwrite:
        raise UserError(f"output: {path} is there already; give overwrite=true, or output=FILE")
    form.check()
    begun = time.perf_counter()
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output: cannot write to {path} ({error.strerror}); give output=FILE") from None
    network = folded_form(model.network) if form.folds else model.network
    with replacing(path) as temporary:
        file = temporary.with_name(f"{temporary.stem}{form.suffix}")  # some libraries read endings
        temporary.rename(file)
        try:
            form.write(network, model.about, file)
            difference = largest_difference(model, form.run(file, plugins))
            if not difference <= LIMIT:
                raise UserError(
                    f"format: the {form.name} file answers up to {difference:.2g} off the model, more than {LIMIT:g}; "
                    "it was not kept. Give another format="
                )
        finally:
            if file.exists():
                file.rename(temporary)
    return Exported(path, path.stat().st_size, difference, time.perf_counter() - begun)


@torch.no_grad()
def largest_difference(model: Model, answer: Answer) -> float:
    """Between what a file and a model answer to random inputs; not a number if an answer is none."""
    gaps = []
    generator = make_generator(0, "export")
    for batch in BATCHES:
        inputs = torch.randn(model.about.input_shape(batch), generator=generator)
        gaps.append((answer(inputs) - model.network(inputs)).abs().max())
    return float(torch.stack(gaps).max())
