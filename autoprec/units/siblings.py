"""Matrix products that share their input and meet again (Q, K and V; gate and up): one unit."""

from __future__ import annotations

import onnx_ir as ir

from autoprec.graph.topology import COPY_OPS, LINEAR_OPS, RESHAPING_OPS, Topology, main_domain
from autoprec.units.chains import EPILOGUE_OPS

_LINKS = (
    EPILOGUE_OPS
    | COPY_OPS
    | RESHAPING_OPS
    | {
        "Cast",
        "Softmax",
        "LayerNormalization",
        "RMSNormalization",
        "InstanceNormalization",
    }
)
_FARTHEST = 64


def siblings(topology: Topology, node: ir.Node, taken: set[ir.Node]) -> list[ir.Node]:
    """`node` and the products with constant weights that read the same value and whose results meet.

    Products that share their input but serve different places (the keys of each layer of a decoder,
    a step embedding read by every block) keep units of their own.
    """
    source = _shared_source(topology, node)
    if source is None:
        return [node]
    others = [n for n in topology.consumers(source) if n.op_type == node.op_type and n not in taken]
    others = [n for n in others if main_domain(n) and _shared_source(topology, n) is source]
    met = {other: _followers(topology, other) for other in others}
    found = {node}
    while True:
        reach = {follower for member in found for follower in met[member]}
        joined = {other for other in others if met[other] & reach}
        if joined <= found:
            break
        found |= joined
    ordered = [other for other in others if other in found]
    return ordered if topology.is_convex(found) else [node]


def _shared_source(topology: Topology, node: ir.Node) -> ir.Value | None:
    dynamic = topology.dynamic_inputs(node)
    if node.op_type not in ("MatMul", "Gemm") or len(dynamic) != 1 or node.inputs[0] is not dynamic[0]:
        return None
    return dynamic[0]


def _followers(topology: Topology, node: ir.Node) -> set[ir.Node]:
    """Nodes that the result reaches before it enters another weighted product."""
    reached: set[ir.Node] = set()
    front = [node.outputs[0]]
    while front and len(reached) < _FARTHEST:
        for consumer in topology.consumers(front.pop(0)):
            product = consumer.op_type in LINEAR_OPS and len(topology.flowing_inputs(consumer)) == 2
            if consumer not in reached and (consumer.op_type in _LINKS or product):
                reached.add(consumer)
                front += consumer.outputs
    return reached
