"""Fingerprints of graphs and of their weights, and the text of a graph that they are computed from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from autoprec.files.json import fingerprint
from autoprec.graph.topology import all_graphs, all_nodes, bodies, static_shape


def graph_fingerprint(graph: ir.Graph) -> str:
    """Return a fingerprint of operators, attributes, connections, shapes and the interface.

    It does not depend on the weights, nor on the names of nodes, inner values and symbolic dimensions.
    """
    opsets = sorted(f"{domain or 'ai.onnx'}={version}" for domain, version in graph.opset_imports.items())
    interface = [str(value.name) for value in (*graph.inputs, *graph.outputs)]
    return fingerprint([*opsets, *interface, *graph_parts(graph, {})])


def graph_parts(graph: ir.Graph, outer: Mapping[ir.Value, str]) -> Iterator[str]:
    """Yield the graph as texts that contain no names of its own.

    Args:
        graph: the graph.
        outer: value of a surrounding graph -> the text that stands for it.
    """
    names, depth = dict(outer), len(outer)
    for index, value in enumerate(graph.inputs):
        names[value] = f"input {depth}.{index}:{type_text(value)}"
        yield names[value]
    names.update({value: f"weight {type_text(value)}" for value in graph.initializers.values()})
    for number, node in enumerate(graph):
        inputs = ["-" if value is None else names.get(value, "?") for value in node.inputs]
        yield f"{node.domain}:{node.op_type}({','.join(inputs)}) {attribute_texts(node)}"
        names.update({value: f"node {depth}.{number}.{index}" for index, value in enumerate(node.outputs)})
        for attribute, body in bodies(node):
            yield f"{attribute}:"
            yield from graph_parts(body, names)
    yield from (f"-> {names.get(value, '?')}" for value in graph.outputs)


def attribute_texts(node: ir.Node) -> list[str]:
    """Return the attributes of a node as texts, sorted by name; bodies are left out."""
    texts = []
    for attribute in sorted(node.attributes.values(), key=lambda attribute: attribute.name):
        if attribute.type == ir.AttributeType.TENSOR:
            texts.append(f"{attribute.name}={fingerprint([*_tensor_parts(attribute.as_tensor())])}")
        elif attribute.type not in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            texts.append(f"{attribute.name}={attribute.value}")
    return texts


def type_text(value: ir.Value) -> str:
    """Return the element type and the shape of a value as text, with a question mark for each unknown dimension."""
    shape = static_shape(value, -1)
    dims = "any" if shape is None else "x".join("?" if dim < 0 else str(dim) for dim in shape)
    return f"{value.dtype}[{dims}]"


def weights_fingerprint(graph: ir.Graph) -> str:
    """Return a fingerprint of the type, the shape and the bytes of every constant, in the order of its first use."""
    seen: dict[ir.Value, None] = {}
    for node in all_nodes(graph):
        seen.update(dict.fromkeys(value for value in node.inputs if value is not None))
    seen.update(dict.fromkeys(value for each in all_graphs(graph) for value in each.outputs))
    return fingerprint(
        part for value in seen if value.const_value is not None for part in _tensor_parts(value.const_value)
    )


def _tensor_parts(tensor: ir.TensorProtocol) -> Iterator[bytes | memoryview | str]:
    array = np.asarray(tensor.numpy())
    yield f"{tensor.dtype}{array.shape}"
    # Not `tobytes`, which would copy the whole weight.
    yield repr(array.tolist()) if array.dtype == object else np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
