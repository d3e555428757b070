"""Models in types that ONNX Runtime has no CPU kernels for, computed in FP32 instead.

BF16 is computed as its hardware does it: in FP32, with each result rounded. FP64 without a kernel is computed in FP32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes

from autoprec.files.onnx_message import ROOT

_EMULATED = {ir.DataType.BFLOAT16, ir.DataType.DOUBLE}
_TYPE_ATTRIBUTES = ("to", "dtype", "output_datatype", "output_dtype")


def computed_in_fp32(model: bytes | str) -> bytes:
    """Return a model that computes in FP32 what `model` computes in BF16 or FP64; its inputs and outputs are FP32 too.

    Nodes and values keep their names; what a node makes before it is rounded is called "/exact".
    """
    loaded = ir.from_proto(onnx.load(model) if isinstance(model, str) else onnx.load_from_string(model))
    ir.external_data.set_base_dir(loaded.graph, ROOT)
    passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(loaded)
    names = _Names(loaded.graph)
    for graph in _graphs(loaded.graph):
        wide = [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]
        for node in list(graph):
            _widen_attributes(node)
            for value in node.outputs:
                if value.dtype is ir.DataType.BFLOAT16:
                    _round(graph, node, value, names)
        for value in wide:
            if value.dtype in _EMULATED:
                value.type = ir.TensorType(ir.DataType.FLOAT)
                if value.const_value is not None:
                    value.const_value = _in_fp32(value.const_value)
    return bytes(ir.to_proto(loaded).SerializeToString())


class _Names:
    """Gives names that nothing in the graph has; backends know no more of graphs than they must."""

    def __init__(self, graph: ir.Graph) -> None:
        nodes = list(ir.traversal.RecursiveGraphIterator(graph))
        self._taken = {
            str(value.name) for node in nodes for value in (*node.inputs, *node.outputs) if value is not None
        }
        self._taken.update(str(node.name) for node in nodes)

    def new(self, wish: str) -> str:
        name, count = wish, 1
        while name in self._taken:
            name, count = f"{wish}#{count}", count + 1
        self._taken.add(name)
        return name


def _graphs(graph: ir.Graph) -> Iterator[ir.Graph]:
    """Yield the graph and every body inside it."""
    yield graph
    for node in graph:
        for attribute in node.attributes.values():
            inner = [attribute.as_graph()] if attribute.type == ir.AttributeType.GRAPH else []
            inner += attribute.as_graphs() if attribute.type == ir.AttributeType.GRAPHS else []
            for body in inner:
                yield from _graphs(body)


def has_odd_types(session: Any) -> bool:
    """Return whether a session takes or gives BF16, which NumPy has no type for."""
    return any(value.type == "tensor(bfloat16)" for value in (*session.get_inputs(), *session.get_outputs()))


def _in_fp32(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor(np.asarray(tensor.numpy()).astype(np.float32), name=tensor.name)


def _widen_attributes(node: ir.Node) -> None:
    for name in _TYPE_ATTRIBUTES:
        found = node.attributes.get(name)
        if found is not None and found.type == ir.AttributeType.INT and found.as_int() in map(int, _EMULATED):
            node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))
    found = node.attributes.get("value")
    if found is not None and found.type == ir.AttributeType.TENSOR and found.as_tensor().dtype in _EMULATED:
        node.attributes["value"] = ir.AttrTensor("value", _in_fp32(found.as_tensor()))


def _round(graph: ir.Graph, node: ir.Node, value: ir.Value, names: _Names) -> None:
    """Let all readers of a result take it rounded to BF16."""
    small = ir.Value(name=names.new(f"{value.name}/bf16"), type=ir.TensorType(ir.DataType.BFLOAT16), shape=value.shape)
    rounded = ir.Value(type=ir.TensorType(ir.DataType.FLOAT), shape=value.shape)
    ir.convenience.replace_all_uses_with(value, rounded, replace_graph_outputs=True)
    rounded.name, value.name = value.name, names.new(f"{value.name}/exact")
    down = ir.node(
        "Cast", [value], {"to": int(ir.DataType.BFLOAT16)}, outputs=[small], name=names.new(f"{node.name}/down")
    )
    up = ir.node("Cast", [small], {"to": int(ir.DataType.FLOAT)}, outputs=[rounded], name=names.new(f"{node.name}/up"))
    graph.insert_after(node, [down, up])
