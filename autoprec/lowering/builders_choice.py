"""Models whose precisions are left to the builder of the runtime, and what the builder chose."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import onnx_ir as ir

from autoprec.graph.topology import Topology, all_nodes
from autoprec.lowering.lowerer import Lowered, Lowerer
from autoprec.lowering.placement import range_root
from autoprec.plan import Plan
from autoprec.precision import LIMITS_KEY, PRECISION_KEY, Precision
from autoprec.ranges.table import RangeTable


class BuildersChoice(dict[str, Precision]):
    """The precisions in which units ran where a builder chose them by itself.

    It is an assignment like any other, but it does not say what the builder is to do: the engine is built from the
    model with the ranges of its values, and may run single nodes of a unit in other precisions.

    Args:
        ran: unit -> the precision that it ran in, as far as the runtime says it.
        ranges: the ranges of all values that the builder may quantise.
        pinned: unit -> the float type that the user fixed.
    """

    def __init__(
        self, ran: Mapping[str, Precision], ranges: RangeTable, pinned: Mapping[str, Precision] | None = None
    ) -> None:
        super().__init__(ran)
        self.ranges, self.pinned = ranges, dict(pinned or {})


def leave_to_builder(lowerer: Lowerer, ranges: RangeTable, pinned: Mapping[str, Precision]) -> Lowered:
    """Write a float model that leaves the precisions of all units but the pinned ones to the builder.

    Args:
        lowerer: the lowerer of the model.
        ranges: the ranges of its values; a value without a range stays in a float type.
        pinned: unit -> its float type. Only weakly typed runtimes can be told of it.
    """
    units = lowerer.partition.units
    freely = {} if lowerer.scheme.strongly_typed else {u.name: pinned.get(u.name, Precision.FP16) for u in units}
    lowered = lowerer.lower(freely, None)
    held = {node for unit in units if unit.name in pinned for node in unit.nodes}
    for node in all_nodes(lowered.ir.graph):
        if node.name not in held:
            node.metadata_props.pop(PRECISION_KEY, None)
    lowered.ir.metadata_props[LIMITS_KEY] = json.dumps(_limits(lowered.ir.graph, ranges))
    return lowered


def lower_plan(lowerer: Lowerer, plan: Plan, precisions: Mapping[str, Precision], ranges: RangeTable | None) -> Lowered:
    """Write the model of a plan file, which may have left precisions to the builder."""
    if plan.left_to_builder and ranges is not None:
        pinned = {name: choice.precision for name, choice in plan.units.items() if choice.pinned}
        return leave_to_builder(lowerer, ranges, pinned)
    return lowerer.lower(precisions, ranges)


def float_values(graph: ir.Graph) -> Iterable[str]:
    """The names of the inputs and of all results of a graph that hold FP32 numbers, or whose type is not known."""
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    return [str(v.name) for v in values if v.name and v.dtype in (None, ir.DataType.FLOAT)]


def _limits(graph: ir.Graph, ranges: RangeTable) -> dict[str, float]:
    """Value -> its largest magnitude, which symmetric scales are made of; values that hold nothing but 0 have none."""
    topology = Topology(graph)
    values = {str(v.name): v for node in topology.nodes for v in node.outputs} | {str(v.name): v for v in graph.inputs}
    found = {}
    for name in float_values(graph):
        root = str(range_root(topology, values[name]).name) if name in values else name
        span = ranges.clipped.get(name) or ranges.clipped.get(root)
        if span is not None and span.magnitude > 0:
            found[name] = span.magnitude
    return found
