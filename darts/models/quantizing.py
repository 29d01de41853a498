"""An ONNX file in 8-bit integers, beside the one in floats, with what that costs and gains.

Shape suffixes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from darts.models.formats.base import NOTE, Answer
from darts.models.formats.onnx import INPUT, session_of
from darts.run.errors import UserError
from darts.run.files import replacing
from darts.run.folder import read_config
from darts.run.parts import build_one
from darts.run.quiet import quiet
from darts.run.timing import timed
from darts.tasks.base import Metric, Task
from darts.training.build import tasks_of

CALIBRATION = 8  # batches of training images that say which range of values a layer has
REPEATS = 10


@dataclass(frozen=True)
class Quantized:
    """An int8 file and what it is like.

    Attributes:
        path, bytes: of it; `bytes_before` of the one in floats.
        judged_on: the images of both metrics, in words.
        metric: of the task.
        value, value_before: of it, by the int8 file and by the one in floats.
        ms, ms_before: median time of a batch of 64.
    """

    path: Path
    bytes: int
    bytes_before: int
    judged_on: str
    metric: Metric
    value: float
    value_before: float
    ms: float
    ms_before: float


def quantize(folder: Path, file: Path, overwrite: bool = False, plugins: Sequence[str] = ()) -> Quantized:
    """Write `file` in 8-bit integers (static, symmetric by channel for weights; Jacob et al. 2018, arXiv:1712.05877).

    Ranges are those of some batches of training images; both files are judged on the images that judged the model.

    Args:
        folder: of the retraining that `file` was written from, whose config says where images are.
        file: in ONNX.
        overwrite: replace an int8 file that is there.
        plugins: packages with parts of the user's own.

    Raises:
        UserError: a file is there already, or the folder is of no retraining.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path, stored = check_quantizable(folder, file, overwrite)
    dataset = build_one(stored, "dataset", plugins)
    tasks = tasks_of(stored | {"plugins": list(plugins)}, dataset, stored["seed"], torch.device("cpu"))

    class Batches(CalibrationDataReader):  # type: ignore[misc]
        """Some batches of training images."""

        def __init__(self) -> None:
            self.left = CALIBRATION

        def get_next(self) -> dict[str, Any] | None:
            self.left -= 1
            return None if self.left < 0 else {INPUT: tasks.task.train.next()[0].contiguous().numpy()}

    with quiet(), tempfile.TemporaryDirectory() as work, replacing(path) as temporary:
        prepared, written = Path(work) / "prepared.onnx", Path(work) / "int8.onnx"
        quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared), str(written), Batches(), quant_format=QuantFormat.QDQ, per_channel=True,
            weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
            reduce_range=True,  # weights of 7 bits: sums of two products fit into 16 bits, which AVX2 has, VNNI has 32
        )  # fmt: skip
        _with_note(written, file)
        shutil.copyfile(written, temporary)
    before, after = session_of(file)[0], session_of(path)[0]
    metric = tasks.final.metric
    return Quantized(
        path, path.stat().st_size, file.stat().st_size, tasks.judged_on, metric,
        tasks.final.judge(after), tasks.final.judge(before), _ms(after, tasks.final), _ms(before, tasks.final),
    )  # fmt: skip


def check_quantizable(folder: Path, file: Path, overwrite: bool) -> tuple[Path, dict[str, Any]]:
    """The place of the int8 file of an ONNX file, and the config that says where images are.

    Raises:
        UserError: a file is there already, or the folder is of no retraining.
    """
    path = file.with_suffix(f".int8{file.suffix}")
    if path.exists() and not overwrite:
        raise UserError(f"quantize: {path} is there already; give overwrite=true, or output=FILE")
    return path, read_config(folder, "retrain", ("dataset", "data", "recipe"), "quantize")


def _with_note(written: Path, source: Path) -> None:
    """What the file in floats says of itself is said of the int8 one too."""
    import onnx

    proto, before = onnx.load(str(written)), onnx.load(str(source), load_external_data=False)
    notes = {prop.key: prop.value for prop in before.metadata_props if prop.key == NOTE}
    onnx.helper.set_model_props(proto, notes)
    onnx.save(proto, str(written))


def _ms(answer: Answer, task: Task) -> float:
    shape = (64, task.in_channels, task.image_size, task.image_size)
    images_BCHW = torch.zeros(shape)
    return 1e3 * statistics.median(timed(lambda: answer(images_BCHW), REPEATS, torch.device("cpu")))
