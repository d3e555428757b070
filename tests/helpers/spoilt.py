"""What a retrain that went wrong does to the tiny model."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import numpy_helper


def spoil(model: Path) -> None:
    """Turn the rows of the classifier round, so that it names other classes."""
    proto = onnx.load(model)
    for tensor in proto.graph.initializer:
        if tensor.name.startswith("head."):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[::-1].copy(), tensor.name))
    onnx.save(proto, model)
