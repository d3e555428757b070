"""What a serialised ONNX model asks of the builder: the shapes of its inputs, and what its metadata says of types."""

from __future__ import annotations

import json
from typing import Any

from autoprec.errors import BackendError
from autoprec.precision import LIMITS_KEY, PRECISION_KEY


def input_shapes(model: bytes) -> dict[str, tuple[int | None, ...]]:
    """Input -> its dimensions, None where any length may be fed.

    Raises:
        BackendError: the bytes are no ONNX model.
    """
    graph = _graph(model)
    constants = {tensor.name for tensor in graph.initializer}
    return {
        value.name: tuple(d.dim_value if d.dim_value > 0 else None for d in value.type.tensor_type.shape.dim)
        for value in graph.input
        if value.name not in constants
    }


def _graph(model: bytes) -> Any:
    return _message(model).graph


def _message(model: bytes) -> Any:
    import onnx

    try:
        return onnx.load_from_string(model)
    except Exception as error:  # google.protobuf's DecodeError, whose module depends on the version
        raise BackendError(
            f"the ONNX model cannot be read, it is damaged or cut short; export it again ({error})"
        ) from error


def requested_precisions(model: bytes) -> dict[str, str]:
    """ONNX node -> the precision in its metadata, "" where there is none; bodies of control flow included.

    Raises:
        BackendError: the bytes are no ONNX model.
    """
    found: dict[str, str] = {}
    graphs = [_graph(model)]
    while graphs:
        for node in graphs.pop().node:
            props = {entry.key: entry.value for entry in node.metadata_props}
            # The parser calls a node without a name by its first output.
            found[node.name or next(iter(node.output), "")] = props.get(PRECISION_KEY, "")
            graphs += [body for attribute in node.attribute for body in (attribute.g, *attribute.graphs) if body.node]
    return found


def is_left_to_builder(model: bytes) -> bool:
    """Whether the model's metadata leaves precisions to the builder.

    Raises:
        BackendError: the bytes are no ONNX model, or its metadata is damaged.
    """
    return LIMITS_KEY.encode() in model and requested_limits(model) is not None  # most models need not be read for it


def requested_limits(model: bytes) -> dict[str, float] | None:
    """Value -> its largest magnitude, where the model's metadata leaves precisions to the builder; else None.

    Raises:
        BackendError: the bytes are no ONNX model, or its metadata is damaged.
    """
    text = next((entry.value for entry in _message(model).metadata_props if entry.key == LIMITS_KEY), None)
    if text is None:
        return None
    try:
        return {str(name): float(limit) for name, limit in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise BackendError(f"the limits in the model's metadata are damaged ({error}); lower the plan again") from error
