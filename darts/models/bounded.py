"""Whether an ONNX file, which is a program, is no more than a network: what it will compute is known before it runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from darts.models.formats.base import needed

BATCH = 64
MOST = 2**28  # numbers that a network may make of one item, all layers together: a gigabyte
FOLDED = 16  # layers of a network at most whose shape is an expression that onnx leaves open


def check_bounded(path: Path) -> None:
    """Refuse an ONNX file with loops or functions, with numbers in other files, or with layers whose sizes are not
    known beforehand, or beyond those of any network for images.

    Raises:
        UserError: onnx is not installed.
        Exception: of onnx's, for a file that it cannot read, and ValueError.
    """
    onnx = needed("onnx", path.name)
    proto = onnx.load(str(path), load_external_data=False)
    graph, kinds = proto.graph, onnx.AttributeProto
    plain = (kinds.FLOAT, kinds.INT, kinds.STRING, kinds.TENSOR, kinds.FLOATS, kinds.INTS, kinds.STRINGS)
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    if proto.functions or graph.sparse_initializer or any(attribute.type not in plain for attribute in attributes):
        raise ValueError("it holds loops, functions or sparse tensors, which no network of darts export does")
    tensors = [*graph.initializer, *(attribute.t for attribute in attributes if attribute.type == kinds.TENSOR)]
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
        raise ValueError("it has weights in other files")
    sizes = _sizes(proto)
    made = [sizes.get(name, [-1]) for node in graph.node for name in node.output if name]
    if any(size < 0 for dims in made for size in dims):
        raise ValueError("it holds layers whose sizes are not known beforehand")
    numbers = sum(math.prod(map(abs, dims)) for dims in (*made, *(tensor.dims for tensor in tensors))) / BATCH
    if numbers > MOST:
        raise ValueError(f"its layers make {numbers:.2g} numbers of one item; at most {MOST:.2g} are read")


def _sizes(proto: Any) -> dict[str, list[int]]:
    """Of everything that is computed from a batch, by name; -1 for a dimension that is not known."""
    import onnx

    graph = proto.graph
    del graph.value_info[:]  # what the file says of them itself
    for value in (*graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                dim.dim_value = BATCH
    for _ in range(FOLDED):
        inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True).graph
        values = {value.name: value for value in (*inferred.input, *inferred.value_info, *inferred.output)}
        sizes = {name: _dims(value) for name, value in values.items()}
        for node in graph.node:
            if node.op_type == "Reshape" and sizes.get(node.output[0], []).count(-1) == 1:
                before, after = sizes.get(node.input[0], [-1]), values[node.output[0]]
                if -1 not in before:  # as many numbers as before
                    place = sizes[node.output[0]].index(-1)
                    others = -math.prod(sizes[node.output[0]])
                    after.type.tensor_type.shape.dim[place].dim_value = math.prod(before) // max(others, 1)
                    graph.value_info.append(after)
                    break
        else:
            return sizes
    return sizes


def _dims(value: Any) -> list[int]:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return [-1]
    return [max(dim.dim_value, -1) if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
