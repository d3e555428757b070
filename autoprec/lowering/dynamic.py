"""Which products can read activations that are quantised at run time."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from autoprec.backends.scheme import Scheme
from autoprec.graph.topology import Topology, static_shape
from autoprec.lowering.passes.gemm_to_matmul import why_no_product
from autoprec.units.records import Unit


def why_not_dynamic(topology: Topology, unit: Unit, anchors: Sequence[ir.Node], scheme: Scheme) -> str | None:
    """Return why the activations of a unit cannot be quantised at run time, or None if nothing speaks against it.

    What is asked of every 8-bit product, such as constant weights, is not looked at here.

    Args:
        topology: the graph.
        unit: the unit.
        anchors: the nodes that do its arithmetic.
        scheme: how the runtime wants a network quantised.
    """
    if not scheme.dynamic_activations:
        return "this runtime has no kernels that quantise activations at run time"
    if unit.kind != "matmul":
        return f"activations are quantised at run time for matrix products with constant weights, not for {unit.kind}"
    reasons = (_why_no_codes(topology, node) for node in anchors)
    return next((reason for reason in reasons if reason is not None), None)


def _why_no_codes(topology: Topology, node: ir.Node) -> str | None:
    if node.op_type == "Gemm":
        return why_no_product(node)
    if node.op_type != "MatMul":
        return f"{node.op_type} has no form on integers"
    if node.inputs[1] not in topology.constants:
        return "only its second operand may be the weights, since kernels quantise the first one at run time"
    shape = static_shape(node.inputs[1])
    return "its weights must have two dimensions or more" if shape is not None and len(shape) < 2 else None
