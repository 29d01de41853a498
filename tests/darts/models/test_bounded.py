"""An ONNX file is a program; one that would compute for ever, or fill the memory, is not run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from darts.cli import main
from darts.models.bounded import check_bounded
from darts.run.errors import UserError

FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    tiny = ["dataset=fake", "network.cells=1", "network.channels=4", "recipe.epochs=1", "data.batch_size=32"]
    assert main(["retrain", f"cell={CELL}", *tiny, f"run_dir={folder}"]) == 0
    assert main(["export", f"run={folder}", "format=onnx", "quantize=true"]) == 0
    return folder / "exports"


def constant(name: str, values: Any) -> Any:
    return numpy_helper.from_array(np.array(values), name)


def endless() -> Any:
    """A loop that does nothing for ever."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["again"]),
            helper.make_node("Add", ["x", "x"], ["y"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", INT64, []),
            helper.make_tensor_value_info("on", BOOL, []),
            helper.make_tensor_value_info("x", FLOAT, ["batch", 5]),
        ],
        [helper.make_tensor_value_info("again", BOOL, []), helper.make_tensor_value_info("y", FLOAT, ["batch", 5])],
    )
    return helper.make_node("Loop", ["", "true", "given"], ["added"], body=body)


def chain(count: int) -> list[Any]:
    """Each as long as two of the one before."""
    doubled = [
        helper.make_node("Concat", [f"x{place}", f"x{place}"], [f"x{place + 1}"], axis=0) for place in range(count)
    ]
    return [helper.make_node("Identity", ["given"], ["x0"]), *doubled, one_of(f"x{count}")]


def one_of(name: str) -> Any:
    """The largest of it, as something that can be added."""
    return helper.make_node("ReduceMax", [name], ["added"], keepdims=0)


HARM: dict[str, tuple[Sequence[Any], Sequence[Any], str]] = {
    "endless": ([endless()], [constant("true", True)], "holds loops"),
    "filled": (
        [helper.make_node("ConstantOfShape", ["long"], ["zeros"]), one_of("zeros")],
        [constant("long", [2**40])],
        "makes 1.7e+10 numbers of one item",
    ),
    "doubled": (chain(40), [], "makes "),
    "as long as an answer": (
        [
            helper.make_node("ReduceMax", ["given"], ["most"], keepdims=0),
            helper.make_node("Cast", ["most"], ["whole"], to=INT64),
            helper.make_node("Mul", ["whole", "many"], ["length"]),
            helper.make_node("ConstantOfShape", ["length"], ["zeros"]),
            one_of("zeros"),
        ],
        [constant("many", [2**40])],
        "holds layers of sizes that are not known beforehand",
    ),
    "batches of batches": (
        [
            helper.make_node("Shape", ["given"], ["shape"], start=0, end=1),
            helper.make_node("Concat", ["shape"] * 7, ["long"], axis=0),
            helper.make_node("ConstantOfShape", ["long"], ["zeros"]),
            one_of("zeros"),
        ],
        [],
        "makes ",
    ),
    "a long text": (
        [
            *(helper.make_node("StringConcat", [f"t{at}", f"t{at}"], [f"t{at + 1}"]) for at in range(40)),
            helper.make_node("Size", ["t40"], ["one"]),
            helper.make_node("Cast", ["one"], ["added"], to=FLOAT),
        ],
        [helper.make_tensor("t0", onnx.TensorProto.STRING, [1], [b"x"])],
        "holds layers of sizes that are not known beforehand (the first is StringConcat 't1')",
    ),
    "negative": (
        [
            helper.make_node("Pad", ["given", "pads"], ["padded"]),
            helper.make_node("ConstantOfShape", ["long"], ["zeros"]),
            helper.make_node("ReduceMax", ["zeros"], ["most"], keepdims=0),
            helper.make_node("ReduceMax", ["padded"], ["least"], keepdims=0),
            helper.make_node("Sum", ["most", "least"], ["added"]),
        ],
        [constant("pads", [0, -(2**40), 0, 0]), constant("long", [2**40])],
        "holds layers of sizes that are not known beforehand",
    ),
}  # fmt: skip


def spoiled(source: Path, target: Path, nodes: Sequence[Any], constants: Sequence[Any]) -> Path:
    """A file of ours, and to its answers something is added."""
    proto = onnx.load(str(source))
    last = next(node for node in proto.graph.node if "logits" in node.output)
    last.output[0] = "given"
    proto.graph.node.extend([*nodes, helper.make_node("Add", ["given", "added"], ["logits"])])
    proto.graph.initializer.extend(constants)
    onnx.save(proto, str(target))
    return target


@pytest.mark.parametrize("harm", HARM)
def test_a_program_that_is_no_network_is_refused(
    harm: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    *what, message = HARM[harm]
    file = spoiled(run / "model.onnx", tmp_path / "m.onnx", *what)
    Image.new("RGB", (8, 8), (200, 0, 0)).save(tmp_path / "x.png")
    assert main(["predict", f"model={file}", str(tmp_path / "x.png")]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"darts: model: {file} {message}")


def test_the_same_with_something_harmless_is_read(run: Path, tmp_path: Path) -> None:
    """So the others are refused for what they hold, not for how they were made."""
    nodes = [helper.make_node("ConstantOfShape", ["long"], ["zeros"]), one_of("zeros")]
    check_bounded(spoiled(run / "model.onnx", tmp_path / "m.onnx", nodes, [constant("long", [2**10])]))
    check_bounded(spoiled(run / "model.onnx", tmp_path / "m.onnx", chain(4), []))


def test_where_no_text_is_one_the_answer_is_ours_alone(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The runtime prints such errors among the answers, and raises them then."""
    content = (run / "model.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(content.replace(b"pads", b"\x89ads", 1))
    assert main(["predict", f"model={tmp_path / 'm.onnx'}", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert (said.out, "cannot be read ('utf-8' codec" in said.err) == ("", True)


def test_an_int8_file_is_read(run: Path) -> None:
    check_bounded(run / "model.int8.onnx")


def test_weights_in_other_files_are_not_looked_for(run: Path, tmp_path: Path) -> None:
    proto = onnx.load(str(run / "model.onnx"))
    onnx.save(proto, str(tmp_path / "m.onnx"), save_as_external_data=True, size_threshold=0)
    with pytest.raises(UserError, match="weights in other files"):
        check_bounded(tmp_path / "m.onnx")


def test_functions_and_sparse_tensors_are_refused(run: Path, tmp_path: Path) -> None:
    opset = helper.make_opsetid("", 18)
    twice = helper.make_function("own", "Twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], [opset])
    proto = onnx.load(str(run / "model.onnx"))
    proto.functions.append(twice)
    onnx.save(proto, str(tmp_path / "m.onnx"))
    with pytest.raises(UserError, match="holds loops, functions or sparse"):
        check_bounded(tmp_path / "m.onnx")
    proto = onnx.load(str(run / "model.onnx"))
    values, indices = constant("few", np.float32([1])), constant("where", np.int64([0]))
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**40]))
    onnx.save(proto, str(tmp_path / "m.onnx"))
    with pytest.raises(UserError, match="holds loops, functions or sparse"):
        check_bounded(tmp_path / "m.onnx")
