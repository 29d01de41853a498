"""Weights alone, in a file that cannot hold code; this package makes the network for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from darts.models.formats.base import NOTE, Answer, Format, needed
from darts.run.errors import UserError, reason
from darts.training.model import About, Model, assembled


class Safetensors(Format):
    """Every tensor of the network by its name; the file's metadata say what has to be known of it."""

    name, suffix, packages = "safetensors", ".safetensors", ("safetensors",)
    folds = False

    def write(self, network: nn.Module, about: About, path: Path) -> None:
        from safetensors.torch import save

        weights = {name: value.contiguous() for name, value in network.state_dict().items()}
        path.write_bytes(save(weights, metadata={NOTE: json.dumps(about.stored())}))

    def run(self, path: Path, plugins: Sequence[str] = ()) -> Answer:
        network = read_safetensors(path, "output", plugins).network

        def answer(inputs_BCHW: Tensor) -> Tensor:
            with torch.no_grad():
                logits_BK: Tensor = network(inputs_BCHW)
            return logits_BK

        return answer


def read_safetensors(path: Path, option: str, plugins: Sequence[str] = ()) -> Model:
    """The model in a file.

    Raises:
        UserError: the package is not installed, or the file is broken, foreign, or does not fit.
    """
    opened = needed("safetensors", path.name).safe_open
    try:
        with opened(str(path), framework="pt") as file:
            note = (file.metadata() or {}).get(NOTE)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
        about = None if note is None else json.loads(note)
    except Exception as error:  # its own type, OSError, or json's
        raise UserError(f"{option}: {path} cannot be read ({reason(error)}); give an intact file") from None
    return assembled(about, weights, path, option, plugins)
