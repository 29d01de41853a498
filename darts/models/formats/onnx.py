"""ONNX, which most other programs run."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, nn

from darts.models.formats.base import NOTE, Answer, Format, needed
from darts.run.quiet import quiet
from darts.training.model import About

INPUT, OUTPUT = "images", "logits"


class Onnx(Format):
    """One file with the weights in it; input ``images`` (B, C, H, W), normalised floats, or a series (B, L, C); output
    ``logits`` (B, K)."""

    name, suffix, packages = "onnx", ".onnx", ("onnx", "onnxscript", "onnxruntime")

    def write(self, network: nn.Module, about: About, path: Path) -> None:
        import onnx

        inputs = torch.zeros(about.input_shape(2))
        with quiet("torch.onnx"):  # the exporter is about its own future
            program = torch.onnx.export(
                network, (inputs,), dynamo=True, verbose=False, external_data=False,
                input_names=[INPUT], output_names=[OUTPUT], dynamic_shapes=({0: torch.export.Dim("batch")},),
            )  # fmt: skip
        assert program is not None
        proto = program.model_proto
        onnx.helper.set_model_props(proto, {NOTE: json.dumps(about.stored())})
        onnx.save(proto, str(path))

    def run(self, path: Path, plugins: Sequence[str] = ()) -> Answer:
        return session_of(path)[0]


def session_of(path: Path) -> tuple[Answer, str | None]:
    """What an ONNX file computes, and its note.

    Raises:
        UserError: onnxruntime is not installed.
        Exception: of onnxruntime's, for a file that it cannot run.
    """
    runtime = needed("onnxruntime", path.name)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    with redirect_stdout(io.StringIO()):  # it prints some of the errors that it raises
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def answer(inputs_BCHW: Tensor) -> Tensor:
        (logits_BK,) = session.run([OUTPUT], {INPUT: inputs_BCHW.contiguous().numpy()})
        return torch.from_numpy(logits_BK)

    return answer, session.get_modelmeta().custom_metadata_map.get(NOTE)
