"""Places where branches meet: the skip input of a residual Add, and Concats whose inputs must share one scale."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from autoprec.graph.topology import COPY_OPS, Topology, elements
from autoprec.units.chains import backbone

SMALLEST_ELEMENTS = 8
"""Values with fewer elements than this are never quantised: a pair would cost more than the small value saves."""


def residual_skips(topology: Topology, members: Collection[ir.Node]) -> list[tuple[ir.Node, int]]:
    """Return each (Add, index of the input) through which a skip connection enters the unit of `members`.

    The other input of the Add is the branch that ends in the unit's own convolution. The kernel of the convolution
    absorbs the Add and passes its result on in higher precision, so only the skip needs a QuantizeLinear and
    DequantizeLinear pair.
    """
    skips = []
    for node in members:
        if node.op_type != "Add" or len(set(topology.dynamic_inputs(node))) != 2:
            continue
        for index, value in enumerate(node.inputs):
            if value is None or value.producer() in members:
                continue
            own = node.inputs[1 - index]
            big_enough = not 0 < elements(value) < SMALLEST_ELEMENTS or has_free_dimension(value)
            if own is not None and own.producer() in members and big_enough and is_residual(topology, own, value):
                skips.append((node, index))
    return skips


def is_residual(topology: Topology, own: ir.Value, skip: ir.Value) -> bool:
    """Return whether the linear op that `own` comes from can absorb the Add of `own` and `skip`.

    It cannot if both come from the same linear op. It cannot either if the branches fork at the result of the linear
    op that `skip` comes from, as in ConvNeXt: that result stays in higher precision for the Add.
    """
    mine, theirs = backbone(topology, own), backbone(topology, skip)
    if mine is None or mine is theirs:
        return False
    if theirs is None:
        return True
    fork = _common_ancestor(topology, own, skip)
    if fork is not None and fork.op_type == "BatchNormalization" and fork.inputs[0] is theirs.outputs[0]:
        fork = theirs  # the answer must not depend on whether the normalisation is folded already
    return fork is not theirs and fork is not mine


def has_free_dimension(value: ir.Value) -> bool:
    """Return whether some dimension is known only at run time, so that the number of elements is unknown."""
    return value.shape is None or any(not isinstance(dim, int) for dim in value.shape)


def _common_ancestor(topology: Topology, first: ir.Value, second: ir.Value) -> ir.Node | None:
    """Return the last node that both values depend on, which may be the producer of one of them."""
    common = _reach(topology, first) & _reach(topology, second)
    return topology.nodes[common.bit_length() - 1] if common else None  # the highest bit is the last node


def _reach(topology: Topology, value: ir.Value) -> int:
    """Return the set of the nodes that the value depends on, as a number with a bit for each node."""
    producer = value.producer()
    if producer is None or producer not in topology.index:
        return 0
    number = topology.index[producer]
    return topology.ancestors[number] | (1 << number)


def concat_groups(topology: Topology, quantized: Collection[ir.Value]) -> tuple[frozenset[str], ...]:
    """Return groups of names of quantised values that must share one scale, so that a Concat need not requantise.

    A group holds the inputs and the output of a Concat whose output reaches a quantised value through ops that only
    move data. Concats that feed each other make one group.

    Args:
        topology: the graph.
        quantized: the values that get a scale; other values are left out of the groups.
    """
    parent: dict[ir.Value, ir.Value] = {}

    # The groups are merged as in a union-find structure: values with the same root are in one group.
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
    """Return `value` and the values that ops which only move data make of it."""
    reached, stack = {value}, [value]
    while stack:
        for node in topology.consumers(stack.pop()):
            fresh = [v for v in node.outputs if v not in reached] if node.op_type in COPY_OPS else []
            reached.update(fresh)
            stack += fresh
    return reached
