"""Sizes of units, the edges between them, and structural keys that survive renaming."""

from __future__ import annotations

import math

import onnx_ir as ir

from autoprec.files.json import fingerprint
from autoprec.graph.fingerprints import attribute_texts, graph_parts, type_text
from autoprec.graph.topology import Topology, attribute_int, bodies, const_array, elements, is_float, static_shape
from autoprec.units.reasons import is_carrier
from autoprec.units.records import Edge, Unit


def node_macs(node: ir.Node) -> int:
    """Multiply-accumulates of one node for one sample; 0 for ops that are no sum of products."""
    if node.op_type == "Conv":
        weight = static_shape(node.inputs[1])
        return elements(node.outputs[0]) * math.prod(weight[1:]) if weight else 0
    if node.op_type == "ConvTranspose":
        weight = static_shape(node.inputs[1])
        return elements(node.inputs[0]) * math.prod(weight[1:]) if weight else 0
    shape = static_shape(node.inputs[0]) if node.inputs else None
    if node.op_type in ("Gemm", "MatMul") and shape:
        return elements(node.outputs[0]) * shape[0 if attribute_int(node, "transA", 0) else -1]
    if node.op_type in ("LSTM", "GRU", "RNN") and shape:
        steps = shape[0] * shape[1]
        return steps * (elements(node.inputs[1]) + elements(node.inputs[2]))
    return 0


def weight_elements(topology: Topology, members: list[ir.Node]) -> int:
    """Elements of the float constants that the nodes read, each constant once."""
    values = {v for node in members for v in node.inputs if v is not None and v in topology.constants and is_float(v)}
    return sum(elements(value) for value in values)


def edges_between(topology: Topology, units: list[Unit]) -> tuple[Edge, ...]:
    """One edge for each pair of units and value that passes between them, ops that move data looked through.

    What comes from or goes to a float node outside all units, such as an operator of another domain,
    has no unit on that side, like what enters or leaves the graph.
    """
    maker: dict[str, str] = {name: unit.name for unit in units for name in unit.outputs}
    reader: dict[str, set[str]] = {}
    for unit in units:
        for name in unit.inputs:
            reader.setdefault(name, set()).add(unit.name)
    owned = {name for unit in units for name in unit.nodes}
    strange = [n for n in topology.nodes if n.name not in owned and not is_carrier(n)]
    foreign = {value for node in strange for value in node.outputs if value not in topology.shape_values}
    edges: dict[tuple[str, str, str], Edge] = {}
    for value in [*topology.graph.inputs, *(value for node in topology.nodes for value in node.outputs)]:
        name = str(value.name)
        starts = name in maker or value.is_graph_input() or value in foreign - topology.constants
        if not is_float(value) or not starts:
            continue
        for consumer in _readers(topology, value, reader, owned):
            edge = Edge(maker.get(name, ""), consumer, name, elements(value))
            edges[(edge.producer, edge.consumer, edge.tensor)] = edge
    return tuple(edge for edge in edges.values() if edge.producer or edge.consumer)


def _readers(topology: Topology, value: ir.Value, reader: dict[str, set[str]], owned: set[str]) -> list[str]:
    found: dict[str, None] = {}
    stack, seen = [value], {value}
    while stack:
        current = stack.pop()
        found.update(dict.fromkeys(sorted(reader.get(str(current.name), ()))))
        if topology.escapes(current):
            found[""] = None
        for node in topology.consumers(current):
            if node.name in owned:
                continue
            if not is_carrier(node):
                found.update({"": None} if any(map(is_float, node.outputs)) else {})
                continue
            for output in node.outputs:
                if output not in seen and is_float(output):
                    seen.add(output)
                    stack.append(output)
    return list(found)


def structural_keys(topology: Topology, groups: list[list[ir.Node]]) -> list[str]:
    """A key for each group from its operators, attributes, constants' shapes and everything upstream of it.

    Equal groups at equal places get an ordinal, so keys are unique within a graph.
    """
    hashes = _node_hashes(topology)
    return _numbered([fingerprint([hashes[node] for node in members]) for members in groups])


def value_keys(topology: Topology) -> dict[str, str]:
    """Name -> key of each graph input and each value that a node makes: equal after a re-export that only renames."""
    hashes = _node_hashes(topology)
    names = [str(value.name) for value in topology.graph.inputs]
    keys = [f"input {index}" for index in range(len(names))]
    for node in topology.nodes:
        names += [str(value.name) for value in node.outputs]
        keys += [f"{hashes[node]}.{index}" for index in range(len(node.outputs))]
    return dict(zip(names, _numbered(keys), strict=True))


def _numbered(keys: list[str]) -> list[str]:
    """The keys, with an ordinal from the second of equal ones on."""
    seen: dict[str, int] = {}
    result = []
    for key in keys:
        seen[key] = seen.get(key, 0) + 1
        result.append(key if seen[key] == 1 else f"{key}-{seen[key]}")
    return result


def _node_hashes(topology: Topology) -> dict[ir.Node, str]:
    """A hash of each node's operator, attributes, constants' shapes and everything upstream of it."""
    indices = {value: f"input {place}" for place, value in enumerate(topology.graph.inputs)}
    node_hash: dict[ir.Node, str] = {}
    for node in topology.nodes:
        inputs = []
        for value in [*node.inputs, *topology.captured_by(node)]:
            producer = value.producer() if value is not None else None
            if value is None:
                inputs.append("-")
            elif producer is not None and producer in node_hash:
                inputs.append(f"{node_hash[producer]}.{value.index()}")
            else:
                inputs.append(f"{indices.get(value, '')}{type_text(value)}{_small_constant(value)}")
        inner = [text for _, body in bodies(node) for text in graph_parts(body, {})]
        node_hash[node] = fingerprint([node.domain, node.op_type, *inputs, "|", *attribute_texts(node), *inner])
    return node_hash


def _small_constant(value: ir.Value) -> str:
    array = const_array(value) if value.const_value is not None and elements(value) <= 16 else None
    return "" if array is None or array.dtype.kind == "f" else str(array.tolist())
