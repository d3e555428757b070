"""Checks that a graph is a float model with finite weights, the only kind that can be tuned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from autoprec.errors import ModelError
from autoprec.graph.topology import FLOAT_TYPES, all_graphs, all_nodes, const_array

# The operators of ONNX, of ONNX Runtime and of TensorRT's exporters that appear in quantised models only.
_QUANTIZED_OPS = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "ConvInteger",
        "MatMulInteger",
        "MatMulNBits",
        "MatMulBnb4",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "DynamicQuantizeLSTM",
        "GatherBlockQuantized",
        "QAttention",
        "QGemm",
        "QMoE",
        "QEmbedLayerNormalization",
        "TRT_FP8QuantizeLinear",
        "TRT_INT8QuantizeLinear",
    }
)

# The operators for which an infinite constant is a mask or an open bound, not a broken weight.
_TAKES_INFINITY = frozenset(
    {
        "Add",
        "Where",
        "Clip",
        "Min",
        "Max",
        "Expand",
        "Pad",
        "Slice",
        "Concat",
        "Gather",
        "Trilu",
        "Equal",
        "Less",
        "Greater",
        "LessOrEqual",
        "GreaterOrEqual",
        "ScatterND",
        "Identity",
        "Reshape",
        "Unsqueeze",
    }
)


def refuse_quantized(model: ir.Model, file: Path) -> None:
    """Check that no node is quantised.

    Raises:
        ModelError: a node is; the message names it.
    """
    for node in all_nodes(model.graph):
        if node.op_type in _QUANTIZED_OPS or node.op_type.startswith("QLinear"):
            raise ModelError(
                f"{file} must be a float model, but node {node.name!r} is {node.op_type}: it is quantised already; "
                f"give the model from before quantisation"
            )


def check_weights(model: ir.Model, file: Path) -> None:
    """Check that every float weight is finite.

    Raises:
        ModelError: a weight holds NaN, or an infinity that is not a mask or a bound; the message names it.
    """
    weights = [value for graph in all_graphs(model.graph) for value in graph.initializers.values()]
    for value in weights:
        array = const_array(value) if value.dtype in FLOAT_TYPES else None
        if array is None or np.isfinite(array).all():
            continue
        readers = {node.op_type for node in value.consumers()}
        if np.isnan(array).any() or not readers <= _TAKES_INFINITY:
            raise ModelError(f"weight {value.name!r} of {file} holds NaN or infinity; train or export the model again")
