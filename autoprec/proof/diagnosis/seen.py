"""Values of a lowered model made visible, and read back as numbers.

A value that its producer quantises is seen as its codes. To return the codes leaves the fusion of an operator with the
pairs around it as it is; to return the numbers in front of them would keep it in float.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from autoprec.errors import PlanError
from autoprec.graph.model import to_bytes
from autoprec.graph.names import Names
from autoprec.graph.topology import RESHAPING_OPS, const_array, is_float
from autoprec.lowering.lowerer import Lowered
from autoprec.precision import Array

_MOVED_OVER = RESHAPING_OPS | {"MaxPool", "Slice"}
"""What ONNX Runtime moves a QuantizeLinear over."""
_CODES = (ir.DataType.INT8, ir.DataType.UINT8)


@dataclass(frozen=True, slots=True)
class Seen:
    """How a value of the model is seen in a lowered one.

    Attributes:
        value: the value of the lowered graph that holds it: codes, or the numbers themselves.
        scale: the step between two codes; None for numbers.
        zero: the code of zero.
        later: the largest step to which the numbers are rounded behind what only moves them, None for none. A runtime
            may round first and move codes.
    """

    value: ir.Value
    scale: float | None = None
    zero: float = 0.0
    later: float | None = None

    def same_form(self, other: Seen) -> bool:
        """Return whether arrays of another value can stand in for those of this one."""
        return (self.scale, self.zero) == (other.scale, other.zero)

    def numbers(self, array: Array) -> Array:
        """Return what the array of `value` stands for, float32 or float64."""
        if self.scale is None:
            return array if array.dtype == np.float64 else array.astype(np.float32, copy=False)
        result: Array = (array.astype(np.float32) - np.float32(self.zero)) * np.float32(self.scale)
        return result


def seen_in(lowered: Lowered, names: Iterable[str]) -> dict[str, Seen]:
    """Return how values of the model, as their readers take them, are seen in a lowered one.

    Args:
        lowered: the lowered model.
        names: the names of the values in the model; those that are no floats, or are gone, are left out.
    """
    found = {}
    for name in names:
        record = lowered.record.values.get(name)
        if record is not None and is_float(record.final):
            found[name] = _as_codes(record.final) or _quantized_by_all(record.final) or _numbers(record.final)
    return found


def _numbers(value: ir.Value) -> Seen:
    """Return a value that is seen as numbers."""
    steps, stack = [], [value]
    while stack:
        for node, index in stack.pop().uses():
            if node.op_type == "QuantizeLinear" and index == 0:
                scale = const_array(node.inputs[1])
                steps.append(0.0 if scale is None else float(scale.max()))
            elif node.op_type in _MOVED_OVER and index == 0:
                stack += node.outputs
    return Seen(value, later=max(steps, default=None))


def _quantized_by_all(value: ir.Value) -> Seen | None:
    """Return the codes that all readers of a value take, if they share one pair."""
    nodes = {node for node, _ in value.uses()}
    if len(nodes) != 1 or value.is_graph_output():
        return None
    (quantize,) = nodes
    readers = [user for user, _ in quantize.outputs[0].uses()] if quantize.op_type == "QuantizeLinear" else []
    return _as_codes(readers[0].outputs[0]) if readers and readers[0].op_type == "DequantizeLinear" else None


def _as_codes(value: ir.Value) -> Seen | None:
    node = value.producer()
    if node is None or node.op_type != "DequantizeLinear" or len(node.inputs) < 3:
        return None
    codes = node.inputs[0]
    scale, zero = const_array(node.inputs[1]), const_array(node.inputs[2])
    if codes is None or codes.dtype not in _CODES or codes.producer() is None or scale is None or zero is None:
        return None
    scales, zeros = np.unique(scale), np.unique(zero)
    return Seen(codes, float(scales[0]), float(zeros[0])) if scales.size == zeros.size == 1 else None


def written_model(path: Path) -> ir.Model:
    """Return a lowered model as it is in its file, names included.

    Raises:
        PlanError: it cannot be read.
    """
    try:
        return ir.load(path)
    except Exception as error:  # protobuf and onnx_ir have no common class of errors
        raise PlanError(f"{path} is not an ONNX model that can be read: {error}") from error


def found_by_name(model: ir.Model, seen: Mapping[str, Seen]) -> dict[str, Seen]:
    """Return how values are seen in a model that was written to a file, which has the same names for them.

    Args:
        model: the model as it was read.
        seen: how the values are seen in the model as it is written now; those that the file lacks are left out.
    """
    values = {str(value.name): value for node in model.graph for value in node.outputs}
    found = {}
    for name, how in seen.items():
        value = values.get(str(how.value.name))
        if value is None:
            continue
        readers = [user.outputs[0] for user, _ in value.uses() if user.op_type == "DequantizeLinear"]
        again = Seen(value) if how.scale is None else _as_codes(readers[0]) if readers else None
        if again is not None:
            found[name] = again
    return found


def returning(model: ir.Model, seen: Mapping[str, Seen]) -> tuple[bytes, dict[str, str]]:
    """Return a lowered model, serialised, that also returns the values, and the name of the output of each.

    Numbers in BF16 are returned in FP32, as NumPy has no such type. The model itself stays as it is.
    """
    graph, names, found = model.graph, Names(model.graph), {}
    outputs, casts = list(graph.outputs), []
    for name, how in seen.items():
        value = how.value
        if value.dtype is ir.DataType.BFLOAT16:
            casts.append(ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)}, name=names.new(f"{name}/shown")))
            value = casts[-1].outputs[0]
            value.name, value.shape = names.new(f"{name}/shown"), how.value.shape
            value.type = ir.TensorType(ir.DataType.FLOAT)
            graph.append(casts[-1])
        if not value.is_graph_output():
            graph.outputs.append(value)
        found[name] = str(value.name)
    try:
        return to_bytes(model), found
    finally:
        graph.outputs.clear()
        graph.outputs.extend(outputs)
        graph.remove(casts)
