"""The same model under other names, as another exporter would write it."""

from __future__ import annotations

import onnx


def renamed(model: onnx.ModelProto, prefix: str) -> onnx.ModelProto:
    """A copy with every node, inner value, initializer and symbolic dimension renamed; the interface stays."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = {value.name for value in [*model.graph.input, *model.graph.output]} | {""}
    _rename_graph(copy.graph, prefix, kept)
    for value in [*copy.graph.input, *copy.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = f"{prefix}{dim.dim_param}"
    return copy


def _rename_graph(graph: onnx.GraphProto, prefix: str, kept: set[str]) -> None:
    def new(name: str) -> str:
        return name if name in kept else f"{prefix}{name[::-1]}"

    for tensor in graph.initializer:
        tensor.name = new(tensor.name)
    for value in [*graph.input, *graph.output, *graph.value_info]:
        value.name = new(value.name)
    for place, node in enumerate(graph.node):
        node.name = f"{prefix}/{place}" if place % 3 else ""
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename_graph(attribute.g, prefix, kept)
