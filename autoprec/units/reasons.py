"""The reasons why a node is in no unit: what it does cannot, or must not, have a precision of its own."""

from __future__ import annotations

import onnx_ir as ir

from autoprec.graph.topology import (
    CONTROL_FLOW_OPS,
    COPY_OPS,
    RANDOM_OPS,
    RESHAPING_OPS,
    Topology,
    all_nodes,
    bodies,
    is_float,
    main_domain,
)
from autoprec.units.quantized import quantized_nodes

_QUANTIZED = "in 8 bits in the model: it keeps its codes and scales"
_MAKERS = frozenset({"ConstantOfShape", "EyeLike", "OneHot", "Range"})
_CONVERSIONS = frozenset({"Cast", "CastLike"})
_CARRIERS = COPY_OPS | RESHAPING_OPS | _CONVERSIONS


def untunable(topology: Topology) -> dict[str, str]:
    """Return the reason for each node that cannot be tuned by itself, by name.

    The nodes of the bodies of control flow are named "outer/attribute/inner".
    """
    reasons: dict[str, str] = {}
    quantized = quantized_nodes(topology)
    for node in topology.nodes:
        reason = _QUANTIZED if node in quantized else why_untunable(topology, node)
        if reason is not None:
            reasons[str(node.name)] = reason
        for attribute, body in bodies(node):
            text = f"inside the {attribute} of {node.op_type} {node.name!r}: bodies stay in FP32"
            reasons.update({f"{node.name}/{attribute}/{inner.name}": text for inner in all_nodes(body)})
    return reasons


def is_carrier(node: ir.Node) -> bool:
    """Return whether the node only moves or converts values, so that it may belong to the unit around it."""
    return main_domain(node) and node.op_type in _CARRIERS


def why_untunable(topology: Topology, node: ir.Node) -> str | None:
    """Return the reason why a node by itself cannot have a precision, or None if it can."""
    if not main_domain(node):
        return f"operator {node.domain}.{node.op_type}: it is not known which precisions it has"
    if node.op_type in CONTROL_FLOW_OPS:
        return "control flow: it stays in FP32 with its bodies"
    if node.op_type in RANDOM_OPS:
        return "random numbers: its output cannot be compared"
    if all(value in topology.constants for value in node.outputs):
        return "constant: every runtime folds it"
    around = [value for value in (*node.inputs, *node.outputs) if value is not None and value.type is not None]
    if not all(isinstance(value.type, ir.TensorType) for value in around):
        return "sequences and optional values stay as they are"
    if all(value in topology.shape_values for value in node.outputs) and any(map(is_float, node.outputs)):
        return "shape arithmetic in floats: it depends on shapes alone and must stay exact"
    return _why_by_type(node) or _why_by_op(topology, node)


def _why_by_type(node: ir.Node) -> str | None:
    if not any(is_float(value) for value in node.outputs):
        if any(value.dtype is None for value in node.outputs):
            return "its type is not known: an operator before it is not standard"
        return "integer, boolean or shape arithmetic"
    if any(value.dtype == ir.DataType.DOUBLE for value in node.outputs):
        return "FP64 arithmetic stays as it is"
    if any(value.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16) for value in node.outputs):
        return "already in half precision in the model"
    return None


def _why_by_op(topology: Topology, node: ir.Node) -> str | None:
    if node.op_type in _CONVERSIONS:
        return "conversion written in the model"
    if node.op_type == "Gather" and node.inputs[0] in topology.constants:
        return None  # this is an embedding, whose table is worth storing in a smaller type
    if node.op_type in COPY_OPS:
        return "moves data without arithmetic: it takes the type of what it moves"
    if node.op_type in _MAKERS:
        return "makes values without arithmetic"
    return None
