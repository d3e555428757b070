"""What a model has in 8 bits already: its pairs, and the nodes that a runtime computes on their codes."""

from __future__ import annotations

import onnx_ir as ir

from autoprec.graph.topology import LINEAR_OPS, RESHAPING_OPS, Topology, main_domain
from autoprec.units.chains import EPILOGUE_OPS

_PAIR_OPS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"})
_FARTHEST_CODES = 4  # the most nodes between an 8-bit product and the QuantizeLinear of its result


def quantized_nodes(topology: Topology) -> set[ir.Node]:
    """Return the nodes that belong to what the model has in 8 bits.

    They are its Q/DQ pairs and integer operators, the products whose weights are codes, and the float nodes between
    such a product or a pair and the next pair, which a runtime fuses with them.
    """
    found: set[ir.Node] = set()
    for node in topology.nodes:
        if main_domain(node) and (_works_on_codes(node) or _reads_codes(topology, node, found)):
            found.add(node)
    return found


def _works_on_codes(node: ir.Node) -> bool:
    return node.op_type in _PAIR_OPS or node.op_type.startswith("QLinear")


def _reads_codes(topology: Topology, node: ir.Node, found: set[ir.Node]) -> bool:
    """Return whether the node computes on codes, when all nodes before it are known."""
    constant = [value for value in node.inputs[:2] if value in topology.constants]
    if node.op_type in LINEAR_OPS or node.op_type == "Gather":
        constant = constant[:1] if node.op_type == "Gather" else constant
        operands = constant or topology.flowing_inputs(node)
        table = node.op_type != "Gather" or node.inputs[0] in constant
        return table and bool(operands) and all(map(_from_codes, operands))
    flowing = topology.flowing_inputs(node)
    known = all(_from_codes(value) or value.producer() in found for value in flowing)
    return bool(flowing) and known and all(_ends_in_codes(topology, value) for value in node.outputs)


def _from_codes(value: ir.Value | None) -> bool:
    """Return whether a DequantizeLinear makes the value, perhaps in another shape."""
    maker = None if value is None else value.producer()
    while maker is not None and maker.op_type in RESHAPING_OPS:
        source = maker.inputs[0]
        maker = None if source is None else source.producer()
    return maker is not None and maker.op_type == "DequantizeLinear"


def _ends_in_codes(topology: Topology, value: ir.Value, depth: int = _FARTHEST_CODES) -> bool:
    """Return whether every reader of the value is a QuantizeLinear, perhaps behind a few simple nodes."""
    readers = topology.consumers(value)
    if not readers or topology.escapes(value):
        return False
    between = EPILOGUE_OPS | RESHAPING_OPS
    return all(
        reader.op_type == "QuantizeLinear"
        or (depth > 0 and reader.op_type in between and _ends_in_codes(topology, reader.outputs[0], depth - 1))
        for reader in readers
    )
