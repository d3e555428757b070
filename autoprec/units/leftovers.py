"""Leftovers: float nodes that belong to no linear op. Neighbours that fuse make one unit, others one each."""

from __future__ import annotations

import onnx_ir as ir

from autoprec.graph.topology import LINEAR_OPS, POOL_OPS, RESHAPING_OPS, Topology
from autoprec.units.chains import EPILOGUE_OPS
from autoprec.units.groups import Groups
from autoprec.units.records import UnitKind

_FARTHEST_CONV = 6  # the most nodes between a convolution and an Add of its branch
_NORM_OPS = frozenset(
    {
        "LayerNormalization",
        "RMSNormalization",
        "SimplifiedLayerNormalization",
        "InstanceNormalization",
        "GroupNormalization",
        "BatchNormalization",
        "LRN",
        "MeanVarianceNormalization",
        "LpNormalization",
        "ReduceMean",
        "ReduceSum",
        "ReduceMax",
        "ReduceMin",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
        "ReduceProd",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "Softmax",
        "LogSoftmax",
        "CumSum",
    }
)
_POINTWISE_OPS = EPILOGUE_OPS | {
    "Reciprocal",
    "Log",
    "Sin",
    "Cos",
    "Floor",
    "Ceil",
    "Round",
    "Sign",
    "Mean",
    "Sum",
    "Mod",
}
_RECURRENT = {"LSTM": UnitKind.LSTM, "GRU": UnitKind.GRU, "RNN": UnitKind.RNN}
_SQUEEZES = frozenset({"GlobalAveragePool", "GlobalMaxPool", "AveragePool", "ReduceMean", "ReduceMax"})
_GATE_OPS = EPILOGUE_OPS | LINEAR_OPS | RESHAPING_OPS
_FARTHEST_SQUEEZE = 24  # the most values between a gate and the pooling that it is computed from
_FUSABLE = _NORM_OPS | _POINTWISE_OPS
_LARGEST = 32  # the most nodes of a merged unit, so that a long run of such nodes still has several units


def merge_leftovers(topology: Topology, nodes: list[ir.Node], groups: Groups) -> list[tuple[UnitKind, list[ir.Node]]]:
    """Form units of `nodes`, and return the kind and the members of each.

    Args:
        topology: the graph.
        nodes: the nodes that are in no unit yet, in topological order.
        groups: the units that were formed before; the new ones are added.
    """
    made: list[list[ir.Node]] = []
    home: dict[ir.Node, list[ir.Node]] = {}
    for node in nodes:
        fusable = node.op_type in _FUSABLE and not _is_branch_op(topology, node)
        group = _group_before(topology, node, home, groups) if fusable else None
        if group is None:
            group = [node]
            made.append(group)
            groups.add(group)
        else:
            groups.join(group, node)
        if fusable:
            home[node] = group
    return [(_kind(topology, group), group) for group in made]


def _group_before(
    topology: Topology, node: ir.Node, home: dict[ir.Node, list[ir.Node]], groups: Groups
) -> list[ir.Node] | None:
    """Return the group of a node that feeds this one if the two can be one kernel, otherwise None."""
    for value in topology.flowing_inputs(node):
        producer = value.producer()
        group = home.get(producer) if producer is not None else None
        if group is not None and len(group) < _LARGEST and groups.fits({*group, node}):
            return group
    return None


def _is_branch_op(topology: Topology, node: ir.Node) -> bool:
    """Return whether the node is an Add or Mul of two branches of which one comes from a convolution.

    Such a node can be quantised by itself, so it is not merged with others.
    """
    if node.op_type not in ("Add", "Mul"):
        return False
    flowing = set(topology.flowing_inputs(node))
    producers = {value.producer() for value in flowing}
    heavy = LINEAR_OPS | POOL_OPS
    behind = [p for p in producers if p is not None and (p.op_type in heavy or p.op_type in EPILOGUE_OPS)]
    return len(flowing) == 2 and any(_after_conv(topology, p) for p in behind)


def _after_conv(topology: Topology, node: ir.Node) -> bool:
    """Return whether the node is a convolution or pooling, or an activation or the like shortly after one."""
    for _ in range(_FARTHEST_CONV):
        if node.op_type in ("Conv", "ConvTranspose") or node.op_type in POOL_OPS:
            return True
        flowing = set(topology.flowing_inputs(node))
        if len(flowing) != 1 or node.op_type not in EPILOGUE_OPS:
            return False
        producer = next(iter(flowing)).producer()
        if producer is None or producer not in topology.index:
            return False
        node = producer
    return False


def _is_excitation(topology: Topology, node: ir.Node) -> bool:
    """Return whether the node multiplies features by a gate that is computed from their own mean.

    The way back from the gate leads through small products and activations to a pooling of the features (Hu, Shen and
    Sun, Squeeze-and-Excitation Networks, 2018).
    """
    features = set(topology.flowing_inputs(node))
    for gate in features:
        front, seen = [gate], {gate}
        while front and len(seen) < _FARTHEST_SQUEEZE:
            maker = front.pop(0).producer()
            if maker is None or maker not in topology.index:
                continue
            before = topology.flowing_inputs(maker)
            if maker.op_type in _SQUEEZES and not (features - {gate}).isdisjoint(before):
                return True
            if maker.op_type in _GATE_OPS:
                front += [value for value in before if value not in seen]
                seen.update(before)
    return False


def _kind(topology: Topology, group: list[ir.Node]) -> UnitKind:
    node = group[-1]
    if any(member.op_type in _NORM_OPS for member in group):
        return UnitKind.NORM
    if len(group) == 1 and node.op_type == "Gather":
        return UnitKind.EMBEDDING
    if len(group) == 1 and node.op_type in POOL_OPS:
        return UnitKind.POOL
    if len(group) == 1 and node.op_type in ("Resize", "Upsample"):
        return UnitKind.RESIZE
    if len(group) == 1 and node.op_type in _RECURRENT:
        return _RECURRENT[node.op_type]
    if len(group) == 1 and node.op_type == "Mul" and _is_excitation(topology, node):
        return UnitKind.SE_PRODUCT
    if len(group) == 1 and _is_branch_op(topology, node):
        return UnitKind.ADD
    return UnitKind.POINTWISE if all(member.op_type in _POINTWISE_OPS for member in group) else UnitKind.OTHER
