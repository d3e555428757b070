"""Siblings: matrix products that share their input and whose results meet again are one unit.

Examples are the projections Q, K and V of attention, and the gate and up projections of a gated MLP. TensorRT can
compute them as one wider product.
"""

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
_FARTHEST = 64  # the number of nodes after which the search for a meeting point ends, which bounds its time


def siblings(topology: Topology, node: ir.Node, taken: set[ir.Node]) -> list[ir.Node]:
    """Return `node` and the products with constant weights that read the same value and whose results meet again.

    Products that share their input but serve different parts of the network keep units of their own. Examples are the
    keys of each layer of a decoder, and a time embedding that every block reads.
    """
    source = _shared_source(topology, node)
    if source is None:
        return [node]
    others = [n for n in topology.consumers(source) if n.op_type == node.op_type and n not in taken]
    others = [n for n in others if main_domain(n) and _shared_source(topology, n) is source]
    met = {other: _followers(topology, other) for other in others}
    family = {node}
    while True:  # a product may meet only one that has joined in the round before
        reach = {follower for member in family for follower in met[member]}
        joined = {other for other in others if met[other] & reach}
        if joined <= family:
            break
        family |= joined
    ordered = [other for other in others if other in family]
    return ordered if topology.is_convex(family) else [node]


def _shared_source(topology: Topology, node: ir.Node) -> ir.Value | None:
    """Return the value that a product multiplies by constant weights, or None if it is not such a product."""
    dynamic = topology.dynamic_inputs(node)
    if node.op_type not in ("MatMul", "Gemm") or len(dynamic) != 1 or node.inputs[0] is not dynamic[0]:
        return None
    return dynamic[0]


def _followers(topology: Topology, node: ir.Node) -> set[ir.Node]:
    """Return the nodes that the result reaches before it enters another product with weights."""
    reached: set[ir.Node] = set()
    front = [node.outputs[0]]
    while front and len(reached) < _FARTHEST:
        for consumer in topology.consumers(front.pop(0)):
            product = consumer.op_type in LINEAR_OPS and len(topology.flowing_inputs(consumer)) == 2
            if consumer not in reached and (consumer.op_type in _LINKS or product):
                reached.add(consumer)
                front += consumer.outputs
    return reached
