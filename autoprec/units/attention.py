"""Attention cores: MatMul -> scale -> (mask) -> Softmax -> MatMul is one unit.

TensorRT runs such a core as one fused kernel, so its nodes cannot have precisions of their own.
"""

from __future__ import annotations

import onnx_ir as ir

from autoprec.graph.topology import RESHAPING_OPS, Topology
from autoprec.units.rotary import find_rotation

_BETWEEN = frozenset({"Add", "Sub", "Mul", "Div", "Where", "Cast", "Min", "Max", "Clip"}) | RESHAPING_OPS

# How many nodes the search follows before it gives up. It only has to get past masks, scales and copies, and it must
# stay short in graphs that hold no attention.
_MOST_BEFORE = 12
_MOST_AFTER = 6
_MOST_TO_PRODUCT = 8


def find_attention(topology: Topology, softmax: ir.Node) -> list[ir.Node] | None:
    """Return the nodes of the attention core around `softmax`, or None if there is no attention.

    Both products must have two inputs that are known only at run time; a mask may be constant or not. Some exporters
    scale the queries and keys instead of their product; these scales belong to the core too.
    """
    before = _backward(topology, softmax)
    after = _forward(topology, softmax)
    if before is None or after is None:
        return None
    members = {*before, softmax, *after, *_scales(topology, before[-1])}
    return sorted(members, key=topology.index.__getitem__) if topology.is_convex(members) else None


def find_rotations(topology: Topology, core: list[ir.Node]) -> list[ir.Node]:
    """Return the nodes that rotate the queries and keys of an attention core by their positions, if any do."""
    product = next(node for node in core if _is_bmm(topology, node))
    inside = set(core)
    found: dict[ir.Node, None] = {}
    for value in product.inputs:
        while (node := value.producer() if value is not None else None) in inside:
            value = topology.flowing_inputs(node)[0] if node is not None else None  # a scale before the product
        found.update(dict.fromkeys(find_rotation(topology, value)))
    return list(found)


def _scales(topology: Topology, product: ir.Node) -> list[ir.Node]:
    """Return the nodes that scale an input of `product` by one number and feed nothing else."""
    scales = []
    for value in product.inputs:
        node = value.producer() if value is not None else None
        if value is None or node is None or node not in topology.index or node.op_type not in ("Mul", "Div"):
            continue
        flowing = topology.flowing_inputs(node)
        factors = [v for v in node.inputs if v is not None and v not in flowing]
        alone = len(topology.consumers(value)) == 1 and not topology.escapes(value)
        if alone and len(flowing) == 1 and flowing[0] is node.inputs[0] and all(map(_is_scalar, factors)):
            scales.append(node)
    return scales


def _is_scalar(value: ir.Value) -> bool:
    return value.shape is not None and all(dim == 1 for dim in value.shape)


def _is_bmm(topology: Topology, node: ir.Node | None) -> bool:
    """Return whether the node is a batched matrix product of two values that are known only at run time."""
    return node is not None and node.op_type == "MatMul" and len(topology.flowing_inputs(node)) == 2


def _backward(topology: Topology, softmax: ir.Node) -> list[ir.Node] | None:
    """Return the nodes from the softmax back to the product of queries and keys, which comes last, or None."""
    path: list[ir.Node] = []
    value = softmax.inputs[0]
    while value is not None and len(path) < _MOST_BEFORE:
        node = value.producer()
        if node is None or node not in topology.index:
            return None
        if len(topology.consumers(value)) != 1 or topology.escapes(value):
            return None
        path.append(node)
        if _is_bmm(topology, node):
            return path
        if node.op_type not in _BETWEEN:
            return None
        value = _score_input(topology, node)
    return None


def _score_input(topology: Topology, node: ir.Node) -> ir.Value | None:
    """Return the input that comes from the scores and not from a mask: the one with a product close before it."""
    flowing = topology.flowing_inputs(node)
    if len(flowing) == 1:
        return flowing[0]
    for value in flowing:
        current: ir.Value | None = value
        for _ in range(_MOST_TO_PRODUCT):
            producer = current.producer() if current is not None else None
            if producer is None:
                break
            if _is_bmm(topology, producer):
                return value
            inner = topology.flowing_inputs(producer)
            current = inner[0] if producer.op_type in _BETWEEN and len(inner) == 1 else None
    return None


def _forward(topology: Topology, softmax: ir.Node) -> list[ir.Node] | None:
    """Return the nodes from the softmax on to the product with the values, which comes last, or None."""
    path: list[ir.Node] = []
    value = softmax.outputs[0]
    for _ in range(_MOST_AFTER):
        consumers = topology.consumers(value)
        if topology.escapes(value):
            return None
        if _is_guard(topology, consumers) or len(consumers) == 1:
            path += consumers
        else:
            return None
        node = path[-1]
        if _is_bmm(topology, node):
            return path
        if node.op_type not in RESHAPING_OPS | {"Cast", "Where"}:
            return None
        value = node.outputs[0]
    return None


def _is_guard(topology: Topology, consumers: list[ir.Node]) -> bool:
    """Return whether the consumers are an IsNaN and the Where that it feeds.

    Exporters write these two to turn the NaN of a row whose elements are all masked into zeros.
    """
    if [node.op_type for node in consumers] != ["IsNaN", "Where"]:
        return False
    test = consumers[0].outputs[0]
    return topology.consumers(test) == [consumers[1]] and not topology.escapes(test)
