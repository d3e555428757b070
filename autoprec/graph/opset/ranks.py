"""The number of axes of values where ONNX's inference of shapes gave up: by what makes them, and what reads them."""

from __future__ import annotations

import onnx_ir as ir

from autoprec.graph.topology import attribute_int, attribute_ints

_DEEPEST = 60
"""So many operators above a value are looked at, at most."""
_LIKE_FIRST = frozenset(
    (
        "Abs",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Ceil",
        "Clip",
        "Conv",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "GlobalAveragePool",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "InstanceNormalization",
        "LayerNormalization",
        "LeakyRelu",
        "Log",
        "LogSoftmax",
        "MaxPool",
        "Neg",
        "PRelu",
        "Pad",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Slice",
        "Softmax",
        "Softplus",
        "Sqrt",
        "Tanh",
    )
)
_BROADCAST = frozenset(["Add", "Div", "Equal", "Max", "Mean", "Min", "Mod", "Mul", "Pow", "Sub", "Sum", "Where"])
_REDUCED = frozenset(["ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"])


def rank_of(value: ir.Value | None, depth: int = 0) -> int | None:
    """Return the number of axes of a value, None where nothing tells it."""
    if value is None or depth > _DEEPEST:
        return None
    if value.shape is not None:
        return len(value.shape)
    if value.const_value is not None:
        return len(value.const_value.shape)
    made = _by_maker(value.producer(), depth + 1)
    return made if made is not None else _by_readers(value)


def _by_readers(value: ir.Value) -> int | None:
    for node in value.consumers():
        if node.op_type == "Transpose" and (perm := attribute_ints(node, "perm")) is not None:
            return len(perm)
    return None


def _by_maker(node: ir.Node | None, depth: int) -> int | None:
    if node is None or not node.inputs:
        return None
    kind, inputs = node.op_type, node.inputs
    if kind == "Transpose" and (perm := attribute_ints(node, "perm")) is not None:
        return len(perm)
    if kind in ("Gemm", "Flatten"):
        return 2
    if kind == "Reshape" and len(inputs) > 1:
        return _length(inputs[1], depth)
    if kind == "Concat":
        return next((rank for value in inputs if (rank := rank_of(value, depth)) is not None), None)
    if kind in _BROADCAST or kind == "MatMul":
        ranks = [rank_of(value, depth) for value in inputs]
        known = [rank for rank in ranks if rank is not None]
        vector = kind == "MatMul" and 1 in known
        return max(known) if len(known) == len(ranks) and not vector else None
    first = rank_of(inputs[0], depth)
    return None if first is None else _from_first(node, first, depth)


def _from_first(node: ir.Node, first: int, depth: int) -> int | None:
    kind = node.op_type
    if kind in _LIKE_FIRST or kind == "Transpose":
        return first
    if kind in _REDUCED and attribute_int(node, "keepdims", 1):
        return first
    if kind in ("Squeeze", "Unsqueeze") and (axes := _count_of_axes(node, depth)) is not None:
        return first - axes if kind == "Squeeze" else first + axes
    return None


def _count_of_axes(node: ir.Node, depth: int) -> int | None:
    """Return how many axes a Squeeze or Unsqueeze is about: an attribute until opset 12, an input since."""
    axes = attribute_ints(node, "axes")
    if axes is not None:
        return len(axes)
    return _length(node.inputs[1], depth) if len(node.inputs) > 1 else None


def _length(value: ir.Value | None, depth: int) -> int | None:
    """Return the length of a list of numbers."""
    if value is None or depth > _DEEPEST:
        return None
    node = value.producer()
    constant = node is not None and node.op_type == "Constant" and "value" in node.attributes
    tensor = node.attributes["value"].as_tensor() if node is not None and constant else value.const_value
    if tensor is not None:
        return int(tensor.size) if len(tensor.shape) == 1 else None
    if value.shape is not None and len(value.shape) == 1 and isinstance(length := value.shape[0], int):
        return length
    if node is not None and node.op_type in ("Cast", "Identity"):
        return _length(node.inputs[0], depth + 1)
    if node is not None and node.op_type == "Concat":
        parts = [_length(part, depth + 1) for part in node.inputs]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None
    return None
