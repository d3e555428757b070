"""Cutting a graph into units: every node in exactly one, or with a reason why not."""

from __future__ import annotations

import onnx_ir as ir

from autoprec.graph import (
    CONTROL_FLOW_OPS, COPY_OPS, LINEAR_OPS, POOL_OPS, Topology, all_nodes, is_float, main_domain,
)  # fmt: skip
from autoprec.units.attention import find_attention
from autoprec.units.chains import EPILOGUE_OPS, escaping, grow_chain
from autoprec.units.measure import edges_between, node_macs, structural_keys, weight_elements
from autoprec.units.records import Partition, Unit

_NORM_OPS = frozenset({
    "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "InstanceNormalization",
    "GroupNormalization", "BatchNormalization", "LRN", "MeanVarianceNormalization", "LpNormalization",
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare",
    "ReduceProd", "ReduceLogSum", "ReduceLogSumExp", "Softmax", "LogSoftmax", "CumSum",
})  # fmt: skip
_POINTWISE_OPS = EPILOGUE_OPS | {
    "Reciprocal", "Log", "Sin", "Cos", "Floor", "Ceil", "Round", "Sign", "Mean", "Sum", "Mod", "Softplus",
}  # fmt: skip
_FUSABLE = _NORM_OPS | _POINTWISE_OPS


def find_units(graph: ir.Graph) -> Partition:
    """The units of a prepared graph and the reasons of what is in none."""
    topology = Topology(graph)
    reasons = _untunable(topology)
    free = {node for node in topology.nodes if node.name not in reasons}
    taken = {node for node in topology.nodes if node not in free}
    groups: list[tuple[str, list[ir.Node], list[ir.Node]]] = []

    def claim(kind: str, members: list[ir.Node], anchors: list[ir.Node]) -> None:
        groups.append((kind, sorted(members, key=topology.index.__getitem__), anchors))
        taken.update(members)

    for node in topology.nodes:
        if node.op_type == "Softmax" and node in free and node not in taken:
            members = find_attention(topology, node)
            if members is not None and not taken.intersection(members) - _copies(members):
                claim("attention", [m for m in members if m in free], [m for m in members if m.op_type == "MatMul"])
    # Longest branch first decides who absorbs an Add, so chains are grown in topological order and
    # `_absorbs` compares branches; a group of siblings is formed where its first member is met.
    for node in topology.nodes:
        if node.op_type in LINEAR_OPS and node not in taken and main_domain(node):
            anchors = _siblings(topology, node, taken)
            kind = "conv" if node.op_type in ("Conv", "ConvTranspose") else "matmul"
            claim(kind, grow_chain(topology, anchors, taken), anchors)
    for kind, members in _leftovers(topology, [node for node in topology.nodes if node not in taken]):
        claim(kind, members, [members[-1]])
    groups.sort(key=lambda group: topology.index[group[1][-1]])
    return _assemble(topology, groups, reasons)


def _copies(members: list[ir.Node]) -> set[ir.Node]:
    return {node for node in members if node.op_type in COPY_OPS}


def _untunable(topology: Topology) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for node in topology.nodes:
        reason = _why_untunable(topology, node)
        if reason is not None:
            reasons[str(node.name)] = reason
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                for number, inner in enumerate(all_nodes(attribute.as_graph())):
                    inner_name = inner.name or f"{inner.op_type}_{number}"
                    reasons[f"{node.name}/{attribute.name}/{inner_name}"] = (
                        f"inside the {attribute.name} of {node.op_type} {node.name!r}: bodies stay in FP32"
                    )
    return reasons


def _why_untunable(topology: Topology, node: ir.Node) -> str | None:
    if not main_domain(node):
        return f"operator {node.domain}.{node.op_type}: what precisions it has is not known"
    if node.op_type in CONTROL_FLOW_OPS:
        return "control flow: it stays in FP32 with its bodies"
    if node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial"):
        return "random numbers: its output cannot be compared"
    if all(value in topology.constants for value in node.outputs):
        return "constant: every runtime folds it"
    if not any(is_float(value) for value in node.outputs):
        return "integer, boolean or shape arithmetic"
    if any(value.dtype == ir.DataType.DOUBLE for value in node.outputs):
        return "FP64 arithmetic stays as it is"
    if any(value.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16) for value in node.outputs):
        return "already in half precision in the model"
    if node.op_type in ("Cast", "CastLike"):
        return "conversion written in the model"
    if node.op_type == "Gather" and node.inputs[0] in topology.constants:
        return None  # an embedding: the table is worth storing in a smaller type
    if node.op_type in COPY_OPS:
        return "moves data without arithmetic: it takes the type of what it moves"
    return None


def _siblings(topology: Topology, node: ir.Node, taken: set[ir.Node]) -> list[ir.Node]:
    """`node` and the matrix products with constant weights that read the same value (Q, K and V; gate and up)."""
    if node.op_type not in ("MatMul", "Gemm") or len(topology.dynamic_inputs(node)) != 1:
        return [node]
    source = topology.dynamic_inputs(node)[0]
    found = [
        other
        for other in topology.consumers(source)
        if other.op_type == node.op_type
        and other not in taken
        and other.inputs[0] is source
        and len(topology.dynamic_inputs(other)) == 1
    ]
    if len(found) < 2 or not topology.is_convex(set(found)):
        return [node]
    return found


def _leftovers(topology: Topology, nodes: list[ir.Node]) -> list[tuple[str, list[ir.Node]]]:
    """Float nodes around no linear op: neighbours that fuse are merged, the rest stand alone."""
    groups: list[list[ir.Node]] = []
    home: dict[ir.Node, list[ir.Node]] = {}
    for node in nodes:
        if node.op_type in _FUSABLE and _why_alone(topology, node) is None:
            merged = _merge_into_producers(topology, node, home)
            if merged is not None:
                home[node] = merged
                continue
        group = [node]
        groups.append(group)
        if node.op_type in _FUSABLE and _why_alone(topology, node) is None:
            home[node] = group
    return [(_kind(topology, group), group) for group in groups]


def _why_alone(topology: Topology, node: ir.Node) -> str | None:
    """An Add or Mul of two branches can be quantised by itself, so it is not merged."""
    return "two branches" if _is_branch_op(topology, node) else None


def _is_branch_op(topology: Topology, node: ir.Node) -> bool:
    if node.op_type not in ("Add", "Mul"):
        return False
    dynamic = set(topology.dynamic_inputs(node))
    producers = {value.producer() for value in dynamic}
    heavy = LINEAR_OPS | POOL_OPS
    behind = [p for p in producers if p is not None and (p.op_type in heavy or p.op_type in EPILOGUE_OPS)]
    return len(dynamic) == 2 and any(_after_conv(topology, p) for p in behind)


def _after_conv(topology: Topology, node: ir.Node) -> bool:
    for _ in range(6):
        if node.op_type in ("Conv", "ConvTranspose") or node.op_type in POOL_OPS:
            return True
        dynamic = set(topology.dynamic_inputs(node))
        if len(dynamic) != 1 or node.op_type not in EPILOGUE_OPS:
            return False
        producer = next(iter(dynamic)).producer()
        if producer is None or producer not in topology.index:
            return False
        node = producer
    return False


def _merge_into_producers(
    topology: Topology, node: ir.Node, home: dict[ir.Node, list[ir.Node]]
) -> list[ir.Node] | None:
    for value in topology.dynamic_inputs(node):
        producer = value.producer()
        if producer is None or producer not in home:
            continue
        group = home[producer]
        if len(group) < 32 and topology.is_convex({*group, node}):
            group.append(node)
            return group
    return None


def _kind(topology: Topology, group: list[ir.Node]) -> str:
    node = group[-1]
    if any(member.op_type in _NORM_OPS for member in group):
        return "norm"
    if len(group) == 1 and node.op_type == "Gather":
        return "embedding"
    if len(group) == 1 and node.op_type in POOL_OPS:
        return "pool"
    if len(group) == 1 and node.op_type in ("Resize", "Upsample"):
        return "resize"
    if len(group) == 1 and _is_branch_op(topology, node):
        return "add"
    return "pointwise" if all(member.op_type in _POINTWISE_OPS for member in group) else "other"


def _assemble(
    topology: Topology, groups: list[tuple[str, list[ir.Node], list[ir.Node]]], reasons: dict[str, str]
) -> Partition:
    keys = structural_keys(topology, [members for _, members, _ in groups])
    units = []
    for (kind, members, anchors), key in zip(groups, keys, strict=True):
        inside = set(members)
        made = {value for node in members for value in node.outputs}
        inputs = dict.fromkeys(
            str(v.name) for node in members for v in topology.dependencies(node)
            if v not in made and v not in topology.constants
        )  # fmt: skip
        units.append(
            Unit(
                name=str(anchors[-1].name),
                kind=kind,
                nodes=tuple(str(node.name) for node in members),
                anchors=tuple(str(node.name) for node in anchors),
                inputs=tuple(inputs),
                outputs=tuple(str(value.name) for value in escaping(topology, inside)),
                macs=sum(node_macs(topology, node) for node in members),
                weights=weight_elements(topology, members),
                key=key,
            )
        )
    return Partition(tuple(units), reasons, edges_between(topology, units))
