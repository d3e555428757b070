"""Which inputs and outputs of a node take the float type of its unit, by the schema of the operator."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from autoprec.graph.schemas import signature_of
from autoprec.precision import Precision

DATA_TYPES = {
    Precision.FP64: ir.DataType.DOUBLE,
    Precision.FP32: ir.DataType.FLOAT,
    Precision.FP16: ir.DataType.FLOAT16,
    Precision.BF16: ir.DataType.BFLOAT16,
}
PRECISIONS = {data_type: precision for precision, data_type in DATA_TYPES.items()}
"""Element type -> the float precision that it is."""
OPSET_QDQ = 13
"""The first opset in which DequantizeLinear has a scale for each channel."""
OPSET_HALF_SCALES = 19
"""The first opset with scales in half precision, and with FP8."""
OPSET_BLOCKS = 21
"""The first opset in which DequantizeLinear has a scale for each block, and codes of 4 bits."""
OPSET_BF16 = 22
"""The first opset with BF16 convolutions and pools."""
# ONNX lets these constants differ in type from the data, but TensorRT does not ("`input` and `grid` must be of same
# type"), and ONNX Runtime has half kernels for one type only.
_OF_ONE_TYPE = frozenset({"GridSample", "Attention"})


def is_tensor(value: ir.Value | None) -> bool:
    """Return whether the value is a tensor, and not a sequence of tensors or an optional one."""
    return value is not None and isinstance(value.type, ir.TensorType)


def following_slots(node: ir.Node, imports: Mapping[str, int], wanted: Precision) -> tuple[set[int], set[int]]:
    """Return the indices of the inputs and of the outputs of a node that take the type `wanted` of its unit.

    A slot takes it if the schema lets its type variable stand for the type. Constants whose variable is not that of a
    result keep their type: the statistics of a normalisation or the scales of a Resize are no data, and cost nothing.
    An output takes it only if it has the type of an input: that of ConstantOfShape is an attribute's.

    Args:
        node: the node.
        imports: domain -> the version of its operators in the model.
        wanted: the float type of the unit.
    """
    signature = signature_of(node, imports)
    if signature is None:
        return set(), set()
    wide = {name for name in signature.admitted if signature.admits(name, DATA_TYPES[wanted])}
    tied = wide & {*signature.inputs[:1], *signature.outputs}

    def follows(index: int) -> bool:
        value, name = node.inputs[index], signature.inputs[index]
        apart = value is not None and value.is_initializer() and node.op_type not in _OF_ONE_TYPE
        return name in tied or (name in wide and not apart)

    inputs = {index for index, value in enumerate(node.inputs) if value is not None and follows(index)}
    made = {signature.inputs[index] for index in inputs}
    outputs = {i for i, name in enumerate(signature.outputs) if name in made and _is_result(node, i)}
    return inputs, outputs


def _is_result(node: ir.Node, index: int) -> bool:
    return node.op_type not in ("Cast", "CastLike") and is_tensor(node.outputs[index])


def require_floats(
    model: ir.Model,
    node_types: Mapping[str, Precision],
    error: type[ir.passes.InvariantError] = ir.passes.PreconditionError,
) -> None:
    """Raise `error` if a listed node makes half-precision values."""
    for node in model.graph:
        if node.name in node_types:
            for value in node.outputs:
                if value.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
                    raise error(f"{node.name!r} gives {PRECISIONS[value.dtype]}; it must give FP32")
