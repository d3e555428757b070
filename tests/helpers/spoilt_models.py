"""What a retrain that went wrong does to the tiny model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper


def turn_classes(proto: onnx.ModelProto) -> None:
    """Turn the rows of the classifier round, so that it names other classes."""
    for tensor in proto.graph.initializer:
        if tensor.name.startswith("head."):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[::-1].copy(), tensor.name))


def turn_classes_of(model: Path) -> None:
    """The same in a file."""
    proto = onnx.load(model)
    turn_classes(proto)
    onnx.save(proto, model)


def scale_weight(proto: onnx.ModelProto, name: str, factor: float) -> None:
    """Multiply one weight."""
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), name))
