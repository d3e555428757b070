"""Edges between units: where a change of precision would cost a conversion."""

from __future__ import annotations

import onnx_ir as ir

from autoprec.graph.topology import Topology, elements, is_float
from autoprec.units.reasons import is_carrier
from autoprec.units.records import Edge, Unit


def edges_between(topology: Topology, units: list[Unit]) -> tuple[Edge, ...]:
    """Return one edge for each value that passes from one unit to another, perhaps through ops that only move data.

    An edge has no unit on one side if the value enters or leaves the graph there, or comes from or goes to a float
    node that is in no unit, such as an operator of another domain.
    """
    maker: dict[str, str] = {name: unit.name for unit in units for name in unit.outputs}
    reader: dict[str, set[str]] = {}
    for unit in units:
        for name in unit.inputs:
            reader.setdefault(name, set()).add(unit.name)
    owned = {name for unit in units for name in unit.nodes}
    outside = [n for n in topology.nodes if n.name not in owned and not is_carrier(n)]
    foreign = {value for node in outside for value in node.outputs if value not in topology.shape_values}
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
    """Return the names of the units that read the value, perhaps through carriers; "" is what is in no unit."""
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
