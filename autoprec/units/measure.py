"""Sizes of units, the edges between them, and structural keys that survive renaming."""

from __future__ import annotations

import math

import onnx_ir as ir

from autoprec.graph import Topology, attribute_int, const_array, elements, is_float, static_shape
from autoprec.records import fingerprint
from autoprec.units.records import Edge, Unit


def node_macs(topology: Topology, node: ir.Node) -> int:
    """Multiply-accumulates of one node for one sample; 0 for ops that are not linear."""
    if node.op_type == "Conv":
        weight = static_shape(node.inputs[1])
        return elements(node.outputs[0]) * math.prod(weight[1:]) if weight else 0
    if node.op_type == "ConvTranspose":
        weight = static_shape(node.inputs[1])
        return elements(node.inputs[0]) * math.prod(weight[1:]) if weight else 0
    if node.op_type == "Gemm":
        shape = static_shape(node.inputs[0])
        if not shape:
            return 0
        return elements(node.outputs[0]) * shape[0 if attribute_int(node, "transA", 0) else -1]
    if node.op_type == "MatMul":
        shape = static_shape(node.inputs[0])
        return elements(node.outputs[0]) * shape[-1] if shape else 0
    return 0


def weight_elements(topology: Topology, members: list[ir.Node]) -> int:
    """Elements of the float constants that the nodes read, each constant once."""
    values = {v for node in members for v in node.inputs if v is not None and v in topology.constants and is_float(v)}
    return sum(elements(value) for value in values)


def edges_between(topology: Topology, units: list[Unit]) -> tuple[Edge, ...]:
    """One edge for each pair of units and value that passes between them, ops that move data looked through."""
    maker: dict[str, str] = {name: unit.name for unit in units for name in unit.outputs}
    reader: dict[str, set[str]] = {}
    for unit in units:
        for name in unit.inputs:
            reader.setdefault(name, set()).add(unit.name)
    owned = {name for unit in units for name in unit.nodes}
    edges: dict[tuple[str, str, str], Edge] = {}
    sources = [*topology.graph.inputs, *(value for node in topology.nodes for value in node.outputs)]
    for value in sources:
        name = str(value.name)
        if not is_float(value) or (name not in maker and not value.is_graph_input()):
            continue
        for consumer in _readers(topology, value, reader, owned):
            edge = Edge(maker.get(name, ""), consumer, name, elements(value))
            edges[(edge.producer, edge.consumer, edge.tensor)] = edge
    return tuple(edges.values())


def _readers(topology: Topology, value: ir.Value, reader: dict[str, set[str]], owned: set[str]) -> list[str]:
    found: dict[str, None] = {}
    stack, seen = [value], {value}
    while stack:
        current = stack.pop()
        found.update(dict.fromkeys(sorted(reader.get(str(current.name), ()))))
        if current in topology.outputs:
            found[""] = None
        for node in topology.consumers(current):
            if node.name in owned:
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
    node_hash: dict[ir.Node, str] = {}
    for node in topology.nodes:
        inputs = []
        for value in topology.dependencies(node):
            producer = value.producer()
            if producer is not None and producer in node_hash:
                inputs.append(f"{node_hash[producer]}.{value.index()}")
            else:
                inputs.append(f"{value.dtype}{value.shape}{_small_constant(value)}")
        attributes = sorted(f"{a.name}={a.value}" for a in node.attributes.values() if a.type != ir.AttributeType.GRAPH)
        node_hash[node] = fingerprint([node.op_type, *inputs, *attributes])
    seen: dict[str, int] = {}
    keys = []
    for members in groups:
        key = fingerprint([node_hash[node] for node in members])
        seen[key] = seen.get(key, 0) + 1
        keys.append(key if seen[key] == 1 else f"{key}-{seen[key]}")
    return keys


def _small_constant(value: ir.Value) -> str:
    array = const_array(value) if value.const_value is not None and elements(value) <= 16 else None
    return "" if array is None or array.dtype.kind == "f" else str(array.tolist())
