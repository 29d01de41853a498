"""PyTorch's own exported programs, which run without this package."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from darts.models.formats.base import NOTE, Answer, Format
from darts.run.quiet import quiet
from darts.training.model import About


class TorchExport(Format):
    """A file for `torch.export.load`; its extra file ``darts.json`` says what has to be known of the network."""

    name, suffix = "torch_export", ".pt2"

    def write(self, network: nn.Module, about: About, path: Path) -> None:
        inputs = torch.zeros(about.input_shape(2))
        batch = torch.export.Dim("batch")
        program = torch.export.export(network, (inputs,), dynamic_shapes=({0: batch},))
        file = io.BytesIO()  # on a full disk torch would end the whole process
        with quiet("torch.export"):  # the exporter is about names of files
            torch.export.save(program, file, extra_files={f"{NOTE}.json": json.dumps(about.stored())})
        path.write_bytes(file.getbuffer())

    def run(self, path: Path, plugins: Sequence[str] = ()) -> Answer:
        with quiet("torch.export"), path.open("rb") as stream:
            return torch.export.load(stream).module()
