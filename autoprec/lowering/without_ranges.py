"""Which products can run in the formats that need no calibrated ranges: dynamic INT8, and codes of weights alone."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from autoprec.backends.scheme import Scheme
from autoprec.graph.topology import Topology, attribute_int, static_shape
from autoprec.lowering.passes.gemm_to_matmul import why_no_product
from autoprec.precision import Precision
from autoprec.units.records import Unit


def why_not_without_ranges(
    topology: Topology, unit: Unit, anchors: Sequence[ir.Node], precision: Precision, scheme: Scheme
) -> str | None:
    """Return why a unit cannot run in such a format, or None if nothing speaks against it.

    What is asked of every quantised product, such as constant weights, is not looked at here.

    Args:
        topology: the graph.
        unit: the unit.
        anchors: the nodes that do its arithmetic.
        precision: the format.
        scheme: how the runtime wants a network quantised.
    """
    if precision is Precision.INT8_DYNAMIC and not scheme.dynamic_activations:
        return "this runtime has no kernels that quantise activations at run time"
    if precision.weights_only and not scheme.weight_blocks:
        return "this runtime has no kernels for products of weights in codes and activations in float"
    if precision.scaled_block and not scheme.scaled_blocks:
        return f"this runtime has no {precision.value.upper()}"
    if precision.has_zero_points and scheme.symmetric:
        return "this runtime has no zero points"
    if unit.kind == "embedding" and precision.block:
        return _why_no_table(anchors[0], precision, scheme)
    if unit.kind == "embedding" and precision.weights_only:
        return f"a table of embeddings is stored in 8 bits by {Precision.INT8}"
    if unit.kind != "matmul":
        return f"it is for matrix products with constant weights, not for {unit.kind}"
    reasons = (_why_no_codes(topology, node, precision) for node in anchors)
    return next((reason for reason in reasons if reason is not None), None)


def _why_no_table(gather: ir.Node, precision: Precision, scheme: Scheme) -> str | None:
    if not scheme.block_kernels:
        return "this runtime looks nothing up in tables of 4 bits"
    shape = static_shape(gather.inputs[0])
    if shape is None or len(shape) != 2:
        return "a table of embeddings must have two dimensions"
    return None if shape[1] % precision.block == 0 else f"its rows of {shape[1]} are not a multiple of the block"


def _why_no_codes(topology: Topology, node: ir.Node, precision: Precision) -> str | None:
    if node.op_type == "Gemm" and (reason := why_no_product(node)) is not None:
        return reason
    if node.op_type not in ("Gemm", "MatMul"):
        return f"{node.op_type} has no such form"
    if node.inputs[1] not in topology.constants:
        return "only its second operand may be the weights"
    shape = static_shape(node.inputs[1])
    if precision is Precision.INT8_DYNAMIC:
        return "its weights must have two dimensions or more" if shape is not None and len(shape) < 2 else None
    if shape is None or len(shape) != 2:
        return "its weights must be a matrix"
    depth, block = shape[1 if attribute_int(node, "transB", 0) else 0], precision.block or precision.scaled_block or 1
    return None if depth % block == 0 else f"its depth of {depth} is not a multiple of the block"
