"""Where branches meet: the skip input of a residual Add, and Concats whose inputs share one scale."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from autoprec.graph.topology import COPY_OPS, Topology, elements
from autoprec.units.chains import backbone

SMALLEST_ELEMENTS = 8
"""Values with fewer elements than this are never quantised."""


def residual_skips(topology: Topology, members: Collection[ir.Node]) -> list[tuple[ir.Node, int]]:
    """The (Add, input index) through which a skip enters the unit of `members`.

    The other input is the branch that ends in the unit's own convolution, which absorbs the Add and hands
    its result over in higher precision; only the skip is worth a pair.
    """
    found = []
    for node in members:
        if node.op_type != "Add" or len(set(topology.dynamic_inputs(node))) != 2:
            continue
        for index, value in enumerate(node.inputs):
            if value is None or value.producer() in members:
                continue
            own = node.inputs[1 - index]
            big_enough = not 0 < elements(value) < SMALLEST_ELEMENTS or has_free_dimension(value)
            if own is not None and own.producer() in members and big_enough and is_residual(topology, own, value):
                found.append((node, index))
    return found


def is_residual(topology: Topology, own: ir.Value, skip: ir.Value) -> bool:
    """Whether `own` ends in a linear op that can absorb the Add of `own` and `skip`.

    Not where both come from one linear op, and not where the branches part at the very result of the one
    behind `skip` (ConvNeXt): that result stays in higher precision for the Add.
    """
    mine, theirs = backbone(topology, own), backbone(topology, skip)
    if mine is None or mine is theirs:
        return False
    if theirs is None:
        return True
    fork = _common_ancestor(topology, own, skip)
    if fork is not None and fork.op_type == "BatchNormalization" and fork.inputs[0] is theirs.outputs[0]:
        fork = theirs  # whether the normalisation is folded already must make no difference
    return fork is not theirs and fork is not mine


def has_free_dimension(value: ir.Value) -> bool:
    """Whether some dimension is known only at run time, so that the size says nothing."""
    return value.shape is None or any(not isinstance(dim, int) for dim in value.shape)


def _common_ancestor(topology: Topology, first: ir.Value, second: ir.Value) -> ir.Node | None:
    """The last node that both values depend on, their producers included."""
    common = _reach(topology, first) & _reach(topology, second)
    return topology.nodes[common.bit_length() - 1] if common else None


def _reach(topology: Topology, value: ir.Value) -> int:
    producer = value.producer()
    if producer is None or producer not in topology.index:
        return 0
    number = topology.index[producer]
    return topology.ancestors[number] | (1 << number)


def concat_groups(topology: Topology, quantized: Collection[ir.Value]) -> tuple[frozenset[str], ...]:
    """Groups of quantised values that must share one scale, so that a Concat needs no requantisation.

    The inputs and the output of each Concat whose output reaches a quantised value through ops that only
    move data; chained Concats join into one group. Values that are not in `quantized` need no scale.
    """
    parent: dict[ir.Value, ir.Value] = {}

    def find(value: ir.Value) -> ir.Value:
        while parent.setdefault(value, value) is not value:
            value = parent[value]
        return value

    for node in topology.nodes:
        if node.op_type != "Concat":
            continue
        moved = _moved(topology, node.outputs[0])
        if not moved.isdisjoint(quantized):
            for value in {*topology.dynamic_inputs(node), *moved}:
                parent[find(value)] = find(node.outputs[0])
    groups: dict[ir.Value, set[str]] = {}
    for value in parent:
        if value in quantized:
            groups.setdefault(find(value), set()).add(str(value.name))
    return tuple(frozenset(group) for group in groups.values() if len(group) > 1)


def _moved(topology: Topology, value: ir.Value) -> set[ir.Value]:
    """`value` and what ops that only move data make of it."""
    found, stack = {value}, [value]
    while stack:
        for node in topology.consumers(stack.pop()):
            fresh = [v for v in node.outputs if v not in found] if node.op_type in COPY_OPS else []
            found.update(fresh)
            stack += fresh
    return found
