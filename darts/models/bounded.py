"""Whether an ONNX file, which is a program, is no more than a network: what it will compute is known before it runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from darts.models.formats.base import needed
from darts.run.errors import UserError

BATCH = 64  # sizes are those of so many items
MOST = 2**28  # numbers that a network may make of one item, all layers together: a gigabyte
OPEN = 16  # layers at most, one behind the other, whose shape is computed in ways that onnx does not follow
STRING = 8  # of onnx's types of tensors: texts, which may be of any length


def check_bounded(path: Path) -> None:
    """Refuse an ONNX file with loops or functions, with numbers in other files, or with layers whose sizes are not
    known beforehand, or beyond those of any network for images.

    Raises:
        UserError: it is such a file, or onnx is not installed.
        Exception: of onnx's, for a file that it cannot read.
    """
    onnx = needed("onnx", path.name)
    proto = onnx.load(str(path), load_external_data=False)
    if problem := _problem(proto):
        raise UserError(f"model: {path} {problem}; darts predict runs no such file, give the folder of its run")


def _problem(proto: Any) -> str | None:
    from onnx import AttributeProto, TensorProto

    graph = proto.graph
    plain = ("FLOAT", "INT", "STRING", "TENSOR", "FLOATS", "INTS", "STRINGS")
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    nested = any(AttributeProto.AttributeType.Name(attribute.type) not in plain for attribute in attributes)
    if nested or proto.functions or graph.sparse_initializer:
        return "holds loops, functions or sparse tensors"
    tensors = [*graph.initializer, *(one.t for one in attributes if one.type == AttributeProto.TENSOR)]
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors):
        return "has weights in other files"
    sizes = _sizes(proto)
    numbers = sum(math.prod(map(abs, tensor.dims)) for tensor in tensors)
    for node in graph.node:
        for name in filter(None, node.output):
            dims = sizes.get(name, [-1])
            if -1 in dims:
                return f"holds layers of sizes that are not known beforehand (the first is {node.op_type} {name!r})"
            numbers += math.prod(dims)
    most = BATCH * MOST
    return f"makes {numbers / BATCH:.2g} numbers of one item, more than {MOST:.2g}" if numbers > most else None


def _sizes(proto: Any) -> dict[str, list[int]]:
    """Of everything that is computed from a batch, by name; -1 for a dimension that is not known."""
    from onnx.shape_inference import infer_shapes

    graph = proto.graph
    del graph.value_info[:]  # what the file says of them itself
    for value in (*graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                dim.dim_value = BATCH
    for _ in range(OPEN):
        inferred = infer_shapes(proto, strict_mode=True, data_prop=True).graph
        values = {value.name: value for value in (*inferred.input, *inferred.value_info, *inferred.output)}
        sizes = {name: _dims(value) for name, value in values.items()}
        reshaped = [node for node in graph.node if node.op_type == "Reshape" and node.output[0] in values]
        closed = [node for node in reshaped if _close(sizes.get(node.input[0], [-1]), values[node.output[0]])]
        if not closed:
            break
        graph.value_info.extend(values[node.output[0]] for node in closed)
    return sizes


def _close(before: list[int], after: Any) -> bool:
    """Put in the one dimension of a Reshape that inference leaves open: there are as many numbers as before."""
    dims = _dims(after)
    if -1 in before or dims.count(-1) != 1:
        return False
    after.type.tensor_type.shape.dim[dims.index(-1)].dim_value = math.prod(before) // max(-math.prod(dims), 1)
    return True


def _dims(value: Any) -> list[int]:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or tensor.elem_type == STRING:
        return [-1]
    return [max(dim.dim_value, -1) if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
