"""Which unit can run in which precision, and why not."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx_ir as ir

from autoprec.backends.scheme import Scheme
from autoprec.errors import PlanError
from autoprec.graph.constants import is_foldable
from autoprec.graph.schemas import opset_of, signature_of
from autoprec.graph.topology import (
    RESHAPING_OPS,
    Topology,
    attribute_int,
    is_float,
    static_shape,
)
from autoprec.lowering.passes.type_slots import DATA_TYPES, OPSET_BF16, OPSET_QDQ
from autoprec.lowering.without_ranges import why_not_without_ranges
from autoprec.plan import Plan
from autoprec.precision import FLOATS, Precision
from autoprec.units.branches import SMALLEST_ELEMENTS
from autoprec.units.chains import backbone
from autoprec.units.homes import homes_of
from autoprec.units.records import Partition, Unit
from autoprec.units.sizes import NO_SHAPES, Shapes

Possible = Mapping[str, Mapping[Precision, str | None]]
"""Unit name -> precision -> why the unit cannot run in it, None where it can; precisions not offered are missing."""


def uniform(
    partition: Partition, precision: Precision, possible: Possible, fallback: Precision
) -> dict[str, Precision]:
    """Return an assignment with one precision everywhere; a unit that cannot run in it takes `fallback`.

    Args:
        partition: the units.
        precision: the precision that each unit is asked for.
        possible: what each unit can run in.
        fallback: the float type of units that cannot; a unit that cannot run in that either takes FP32.
    """

    def first(unit: str) -> Precision:
        found = possible[unit]
        return next((p for p in (precision, fallback) if found.get(p, "not offered") is None), Precision.FP32)

    return {unit.name: first(unit.name) for unit in partition.units}


def usable_precisions(plan: Plan, partition: Partition, topology: Topology, scheme: Scheme) -> dict[str, Precision]:
    """Check that a plan can be lowered as it stands, and return unit name -> precision.

    Raises:
        PlanError: a unit is unknown, missing, or cannot run in its precision; plans may be edited by hand.
    """
    homes = homes_of(partition, {name: choice.key for name, choice in plan.units.items()})
    nodes = {node for unit in partition.units for node in unit.nodes}
    # An earlier version may have cut the graph finer, where the node that named a unit is now in another one.
    strange = sorted(set(plan.units) - set(homes.values()) - nodes)
    if strange:
        raise PlanError(f"the plan has unit {strange[0]!r}, which the model does not; `autoprec units` lists them")
    absent = [unit.name for unit in partition.units if unit.name not in homes]
    if absent:
        raise PlanError(f"the plan has no precision for unit {absent[0]!r}; add it, or tune the model again")
    precisions = {unit.name: plan.units[homes[unit.name]].precision for unit in partition.units}
    for unit in () if plan.left_to_builder else partition.units:  # the builder's choices are not ours to write
        reason = why_not(topology, unit, precisions[unit.name], scheme)
        if reason is not None:
            raise PlanError(f"unit {unit.name!r} cannot run in {precisions[unit.name]}: {reason}; change the plan")
    return precisions


_BETWEEN = RESHAPING_OPS | {"Add", "Sub", "Mul", "Div", "Where", "Cast", "Clip"}
_ATTENTION_DEPTH = 6
_OLDEST_OPSETS = {Precision.FP16: OPSET_QDQ, Precision.BF16: OPSET_BF16}  # a model of an older one is raised


def why_not(
    topology: Topology, unit: Unit, precision: Precision, scheme: Scheme, shapes: Shapes = NO_SHAPES
) -> str | None:
    """Return why `unit` cannot run in `precision` under `scheme`, or None if it can.

    Args:
        topology: the graph.
        unit: the unit.
        precision: the precision.
        scheme: how the runtime wants a network quantised.
        shapes: the shapes that values have in a run of one sample, where the graph leaves them open.
    """
    nodes = {str(node.name): node for node in topology.nodes}
    members = [nodes[name] for name in unit.nodes if name in nodes]
    if precision in scheme.absent:
        return scheme.absent[precision]
    if precision is unit.source:
        return None
    if precision in FLOATS:
        return _why_not_float(members, precision, scheme)
    anchors = [nodes[name] for name in unit.anchors if name in nodes]
    if not precision.needs_ranges:
        reason = why_not_without_ranges(topology, unit, anchors, precision, scheme)
        if reason is not None:
            return reason
    if unit.kind in ("conv", "matmul"):
        reasons = [_why_not_linear(topology, node, precision, scheme, shapes) for node in anchors]
        return next((reason for reason in reasons if reason is not None), None)
    if unit.kind == "attention":
        return _why_not_attention(members, anchors, precision, shapes)
    if precision is Precision.FP8:
        return f"FP8 kernels exist for convolutions, matrix products and attention, not for {unit.kind}"
    return _why_not_light(topology, unit, anchors[0], scheme, shapes)


def _why_not_float(members: list[ir.Node], precision: Precision, scheme: Scheme) -> str | None:
    if precision is Precision.FP32:
        return None
    if precision is Precision.FP64:
        return "FP64 is kept where the model has it, and given to nothing else"
    for node in members:
        if precision is Precision.BF16 and node.op_type == "ConvTranspose" and scheme.tensor_core_limits:
            return "TensorRT has no BF16 ConvTranspose"
        if not has_type(node, precision):
            return f"{node.op_type} has no {precision} form in ONNX"
    return None


def has_type(node: ir.Node, precision: Precision) -> bool:
    """Return whether the operator has a form in a float precision, in the opset that such a plan is written in."""
    imports = node.graph.opset_imports if node.graph is not None else {}
    opset = max(opset_of(imports), _OLDEST_OPSETS.get(precision, 1))
    signature = signature_of(node, {**imports, "": opset})
    if signature is None:
        return False
    makes_floats = any(map(is_float, node.outputs))
    names = signature.outputs if makes_floats else signature.inputs
    floats = [n for v, n in zip(node.outputs if makes_floats else node.inputs, names, strict=True) if is_float(v)]
    return any(signature.admits(name, DATA_TYPES[precision]) for name in floats)


def _why_not_linear(
    topology: Topology, node: ir.Node, precision: Precision, scheme: Scheme, shapes: Shapes
) -> str | None:
    weights = [value for value in node.inputs[:2] if value in topology.constants]
    if any(_is_tiny(value, shapes) for value in node.inputs[:2] if value not in topology.constants):
        return f"its input has fewer than {SMALLEST_ELEMENTS} elements"
    if node.op_type != "MatMul" and node.inputs[1] not in weights:
        return "its weights are computed at run time"
    if len(weights) == 2:
        return "it reads constants alone"
    if weights and not is_foldable(weights[0]):
        return "its weights are computed from constants by other nodes; fold constants in the export"
    if precision is Precision.INT8 and node.op_type in scheme.float_ops:
        return scheme.float_ops[node.op_type]
    if not weights and not scheme.dynamic_products:
        return "both operands change at run time"
    if not scheme.tensor_core_limits or precision.weights_only:
        return None
    if node.op_type in ("Conv", "ConvTranspose"):
        return _why_not_conv(topology, node, weights[0], precision)
    if not weights and precision is Precision.INT8 and _meets_softmax(topology, node):
        return "a product before or behind a softmax loses too much in INT8"
    return _why_not_matmul(node, bool(weights), shapes)


def _is_tiny(value: ir.Value | None, shapes: Shapes) -> bool:
    """Return whether a float value is too small for 8-bit kernels; where nothing tells its size, it is not."""
    shape = _shape(value, shapes) if value is not None and is_float(value) else None
    return shape is not None and 0 not in shape and math.prod(shape) < SMALLEST_ELEMENTS


def _shape(value: ir.Value | None, shapes: Shapes) -> tuple[int, ...] | None:
    """Return the shape of a value, 0 for a length that is not known, or None if not even the rank is.

    A free dimension of length 1 in the run of one sample may be the number of samples, so it stays unknown.
    """
    known, seen = static_shape(value, 0), shapes.get(str(value.name)) if value is not None else None
    if seen is None or (known is not None and len(known) != len(seen)):
        return known
    return tuple(
        static or (size if size > 1 else 0) for static, size in zip(known or [0] * len(seen), seen, strict=True)
    )


def _meets_softmax(topology: Topology, node: ir.Node) -> bool:
    """Return whether a product of two activations makes the scores of a softmax or reads its result."""

    def reaches(start: ir.Node, forward: bool) -> bool:
        front, seen = [start], {start}
        for _ in range(_ATTENTION_DEPTH):
            nodes = [value for n in front for value in (n.outputs if forward else topology.dynamic_inputs(n))]
            around = [n for v in nodes for n in (topology.consumers(v) if forward else [v.producer()])]
            if any(n is not None and n.op_type == "Softmax" for n in around):
                return True
            front = [n for n in around if n is not None and n not in seen and n.op_type in _BETWEEN]
            seen.update(front)
        return False

    return reaches(node, True) or reaches(node, False)


def _why_not_conv(topology: Topology, node: ir.Node, weight: ir.Value, precision: Precision) -> str | None:
    shape = static_shape(weight)
    if shape is None:
        return "the shape of its weights is not known"
    groups = attribute_int(node, "group", 1)
    transposed = node.op_type == "ConvTranspose"
    c_out = shape[1] * groups if transposed else shape[0]
    c_in = shape[0] // groups if transposed else shape[1]
    kernel = shape[2:]
    if precision is Precision.FP8:
        if transposed:
            return "FP8 kernels exist for Conv, not for ConvTranspose"
        if c_in <= 16 or c_out <= 16 or math.prod(kernel) > 32:
            return (
                f"FP8 convolutions need more than 16 input channels per group, more than 16 output channels and "
                f"a kernel of at most 32 elements; this has {c_in}, {c_out} and {math.prod(kernel)}"
            )
        return None
    if c_out >= 16 and c_in >= 16:
        return None
    if groups == 1:
        first = any(value in topology.graph.inputs for value in node.inputs)
        fits = (c_out % 8 == 0 or c_in % 8 == 0) and (first or c_out >= 16 or c_in >= 16) and len(set(kernel)) == 1
    else:
        fits = c_out % 8 == 0 and all(size >= 3 for size in kernel)
    if fits:
        return None
    text = "x".join(map(str, kernel))
    return f"too small for INT8 kernels: {c_in} input channels per group, {c_out} output channels, kernel {text}"


def _why_not_matmul(node: ir.Node, has_weights: bool, shapes: Shapes) -> str | None:
    left, right = _shape(node.inputs[0], shapes), _shape(node.inputs[1], shapes)
    if left is None or right is None:
        return "the shape of its operands is not known"
    k = left[0 if attribute_int(node, "transA", 0) else -1] or (right[-2] if len(right) > 1 else 0)
    n = right[-2 if attribute_int(node, "transB", 0) else -1] if len(right) > 1 else 1
    m = left[-1 if attribute_int(node, "transA", 0) else -2] if len(left) > 1 else 1
    if n == 1 or m == 1:
        return "a matrix-vector product: reading the weights costs more than the arithmetic"
    if (0 < k < 16) or (0 < n < 16):
        return f"too small for 8-bit kernels: K={k}, N={n}, both must be at least 16"
    if not has_weights and (m > 512 or n > 512):
        return f"both operands change at run time and the product is longer than 512 ({m}x{n})"
    return None


def _why_not_attention(
    members: list[ir.Node], anchors: list[ir.Node], precision: Precision, shapes: Shapes
) -> str | None:
    if precision is Precision.INT8:
        return "the attention core loses too much in INT8 and has no fused kernel there"
    if len(anchors) != 2 or any(node.op_type == "Where" for node in members):
        return "FP8 attention needs MatMul, optional Mul or Div, optional Add, Softmax and MatMul"
    shape = _shape(anchors[0].inputs[0], shapes)
    size = shape[-1] if shape else 0
    if not 8 < size <= 256:
        return f"FP8 attention needs a head size above 8 and at most 256, this has {size or 'an unknown one'}"
    return None


def _why_not_light(topology: Topology, unit: Unit, node: ir.Node, scheme: Scheme, shapes: Shapes) -> str | None:
    if unit.kind == "embedding":
        table = node.inputs[0]
        shape = static_shape(table)
        if table is None or table.const_value is None or shape is None or len(shape) != 2:
            return "an embedding table must be a constant of two dimensions to be stored in INT8"
        return None if attribute_int(node, "axis", 0) == 0 else "the table is not indexed by rows"
    if any(_is_tiny(value, shapes) for value in topology.dynamic_inputs(node)):
        return f"an input has fewer than {SMALLEST_ELEMENTS} elements"
    if any(value in topology.outputs for value in node.outputs):
        return "its result leaves the network, so it stays float"
    if unit.kind == "pool":
        return scheme.float_ops.get(node.op_type)
    if unit.kind in ("add", "se_product"):
        return None if len(unit.nodes) == 1 else "part of a longer pointwise chain"
    if unit.kind == "resize":
        source = node.inputs[0]
        behind = backbone(topology, source) if source is not None else None
        return None if behind is not None and behind.op_type.startswith("Conv") else "it does not follow a convolution"
    if unit.kind == "norm" and scheme.tensor_core_limits and len(unit.nodes) == 1:
        source = node.inputs[0]
        behind = backbone(topology, source) if source is not None else None
        if node.op_type == "LayerNormalization" and behind is not None and behind.op_type.startswith("Conv"):
            return None  # the pair becomes the convolution's INT8 output
    return f"8-bit kernels exist for convolutions and matrix products, not for {unit.kind} work"


def carrier_of(members: list[ir.Node], carrier: Precision, scheme: Scheme) -> Precision:
    """Return the float type around the 8-bit arithmetic of a unit: `carrier`, or FP32 if an op has no such form."""
    transposed = any(node.op_type == "ConvTranspose" for node in members)
    return Precision.FP32 if transposed and carrier is Precision.BF16 and scheme.tensor_core_limits else carrier
