"""Sparse weights of a model as ordinary ones, since nothing that comes later knows sparse tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from autoprec.errors import ModelError
from autoprec.graph.onnx_file import PROTOBUF_LIMIT_BYTES
from autoprec.precision import Array


def densify(proto: onnx.ModelProto, file: Path) -> None:
    """Write every sparse tensor of the model as an ordinary one, in place; runtimes do the same when they load it.

    Args:
        proto: the model, with the weights that lie beside it.
        file: the path of the model, for messages.

    Raises:
        ModelError: a sparse weight is damaged, lies in a file of its own, or is too large as an ordinary one.
    """
    budget = PROTOBUF_LIMIT_BYTES
    for graph in _graphs(proto):
        for sparse in graph.sparse_initializer:
            tensor = _dense(sparse, file, budget)
            budget -= len(tensor.raw_data)
            graph.initializer.append(tensor)
        graph.ClearField("sparse_initializer")
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.SPARSE_TENSOR:
                    _densify_constant(attribute, file, budget)


def _densify_constant(attribute: onnx.AttributeProto, file: Path, budget: int) -> None:
    """Let a Constant hold an ordinary tensor."""
    attribute.t.CopyFrom(_dense(attribute.sparse_tensor, file, budget))
    attribute.ClearField("sparse_tensor")
    attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    waiting = [proto.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs


def _dense(sparse: onnx.SparseTensorProto, file: Path, budget: int) -> onnx.TensorProto:
    name, shape = sparse.values.name, tuple(sparse.dims)
    text = f"sparse weight {name!r} of {file}"
    if onnx.TensorProto.EXTERNAL in (sparse.values.data_location, sparse.indices.data_location):
        raise ModelError(f"{text} lies in a file of its own, which is not read for sparse weights; export it dense")
    values, where = _numbers(sparse.values), _numbers(sparse.indices)
    if min(shape, default=0) < 1 or math.prod(shape) * values.itemsize > budget:
        raise ModelError(
            f"{text} has shape {shape}, which is too large or too small to store it dense; export it dense"
        )
    try:
        dense = np.zeros(math.prod(shape), values.dtype)
        flat = np.ravel_multi_index(tuple(where.T), shape) if where.ndim == 2 else where
        if flat.min(initial=0) < 0:
            raise ValueError("an index is negative")
        dense[flat] = values
    except (ValueError, IndexError) as error:
        raise ModelError(f"{text} is damaged: {error}; export the model again") from error
    proto: onnx.TensorProto = ir.to_proto(ir.tensor(dense.reshape(shape), name=name))
    return proto


def _numbers(tensor: onnx.TensorProto) -> Array:
    return np.asarray(ir.serde.deserialize_tensor(tensor).numpy())
