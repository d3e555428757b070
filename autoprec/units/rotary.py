"""Rotary position embeddings: queries and keys that are rotated before their product belong to their attention.

A rotation is x * cos + rotated(x) * sin, where rotated(x) swaps the halves of x, or its even and odd columns, and
changes the sign of one of them (Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding, 2021).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from autoprec.graph.topology import COPY_OPS, Topology, main_domain

_MOVERS = COPY_OPS | {"Neg", "Cast"}
_MOST = 32  # the most nodes that a rotation, with the copies around it, may have


@dataclass
class _Trace:
    """What lies before a value: the nodes that move data, and the values at which the way back ended.

    Attributes:
        nodes: the movers in the order in which they were met.
        values: all values that were met, the one at the start too.
        ends: the values that no mover made.
    """

    nodes: list[ir.Node] = field(default_factory=list)
    values: set[ir.Value] = field(default_factory=set)
    ends: list[ir.Value] = field(default_factory=list)


def find_rotation(topology: Topology, value: ir.Value | None) -> list[ir.Node]:
    """Return the nodes of the rotation that makes `value`, and the copies in between; none if there is none.

    Args:
        topology: the graph.
        value: an operand of the product of queries and keys.
    """
    if value is None:
        return []
    behind = _trace(topology, value, None)
    sums = [node for node in (end.producer() for end in behind.ends) if node is not None and _is_sum(topology, node)]
    products = [_producer(topology, v) for node in sums for v in node.inputs]
    if not sums or any(node is None for node in products):
        return []
    source = _source(topology, [node for node in products if node is not None])
    if source is None:
        return []
    members = {*sums, *(node for node in products if node is not None)}
    turned = set()
    for operand in [value, *(v for node in products if node is not None for v in node.inputs)]:
        trace = _trace(topology, operand, source) if operand is not None else _Trace()
        if source in trace.values:
            members.update(trace.nodes)
            turned.update(trace.nodes)
        elif operand is value:
            members.update(trace.nodes)
    if not any(node.op_type in ("Slice", "Split", "Gather") for node in turned) or len(members) > _MOST:
        return []
    return sorted(members, key=topology.index.__getitem__)


def _is_sum(topology: Topology, node: ir.Node) -> bool:
    """Return whether the node adds or subtracts two products."""
    products = [_producer(topology, value) for value in node.inputs]
    return node.op_type in ("Add", "Sub") and main_domain(node) and all(p and p.op_type == "Mul" for p in products)


def _producer(topology: Topology, value: ir.Value | None) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node in topology.index else None


def _source(topology: Topology, products: list[ir.Node]) -> ir.Value | None:
    """Return the value that is rotated: the last one from which one operand of every product is moved."""
    common: set[ir.Value] | None = None
    for node in products:
        reached = {v for operand in node.inputs if operand is not None for v in _trace(topology, operand, None).values}
        common = reached if common is None else common & reached
    made = [value for value in common or () if _producer(topology, value) is not None or value.is_graph_input()]
    flowing = [value for value in made if value not in topology.constants and value not in topology.shape_values]

    def place(value: ir.Value) -> int:
        node = _producer(topology, value)
        return -1 if node is None else topology.index[node]

    return max(flowing, key=place, default=None)


def _trace(topology: Topology, value: ir.Value, stop: ir.Value | None) -> _Trace:
    """Return what lies before a value, back to `stop` and to the values that are computed."""
    trace, front = _Trace(), [value]
    while front and len(trace.nodes) <= _MOST:
        current = front.pop(0)
        if current in trace.values:
            continue
        trace.values.add(current)
        node = _producer(topology, current)
        if current is stop:
            continue
        if node is None or node.op_type not in _MOVERS or not main_domain(node):
            trace.ends.append(current)
            continue
        trace.nodes.append(node)
        front += topology.flowing_inputs(node)
    trace.nodes = list(dict.fromkeys(trace.nodes))
    return trace
