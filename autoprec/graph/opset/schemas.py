"""What the schemas of ONNX say about one operator in two opsets."""

from __future__ import annotations

import onnx
import onnx_ir as ir

Schema = onnx.defs.OpSchema


def schema_at(op_type: str, opset: int) -> Schema | None:
    """Return the schema of a standard operator in an opset, or None if it does not exist there."""
    try:
        found = onnx.defs.get_schema(op_type, opset)
    except onnx.defs.SchemaError:
        return None
    return None if found.deprecated else found


def versions_between(op_type: str, low: int, high: int) -> list[int]:
    """Return the opsets above `low`, up to `high`, in which the operator changed, in ascending order."""
    found = set()
    opset = high
    while opset > low:
        try:
            since = onnx.defs.get_schema(op_type, opset).since_version
        except onnx.defs.SchemaError:
            break
        if since > low:
            found.add(since)
        opset = since - 1
    return sorted(found)


def why_unfit(node: ir.Node, schema: Schema) -> str | None:
    """Return why a node cannot be written by an older schema of its operator, as one clause, or None if it can.

    An attribute that the schema does not have counts only where it is not the default of a newer one: see
    `drop_defaults`.
    """
    formal = list(schema.inputs)
    many = bool(formal) and formal[-1].option == Schema.FormalParameterOption.Variadic
    given = [index for index, value in enumerate(node.inputs) if value is not None]
    if given and given[-1] >= len(formal) and not many:
        return f"it has {given[-1] + 1} inputs, of which only {len(formal)} are known there"
    used = [index for index, value in enumerate(node.outputs) if value.uses() or value.is_graph_output()]
    outputs = list(schema.outputs)
    many_out = bool(outputs) and outputs[-1].option == Schema.FormalParameterOption.Variadic
    if used and used[-1] >= len(outputs) and not many_out:
        return f"its output {used[-1]} is not known there"
    for name in node.attributes:
        if name not in schema.attributes:
            return f"its attribute {name} is not known there"
    return _why_unfit_types(node, schema)


def _why_unfit_types(node: ir.Node, schema: Schema) -> str | None:
    allowed = {each.type_param_str: set(each.allowed_type_strs) for each in schema.type_constraints}
    formal = list(schema.inputs)
    for index, value in enumerate(node.inputs):
        if value is None or value.dtype is None or not isinstance(value.type, ir.TensorType) or not formal:
            continue
        text = formal[min(index, len(formal) - 1)].type_str
        if f"tensor({value.dtype.name.lower()})" not in allowed.get(text, {text}):
            return f"it takes no {value.dtype.name} there"
    return None


def drop_defaults(node: ir.Node, newer: Schema, older: Schema) -> None:
    """Take away the attributes that only the newer schema has, where they say its default."""
    for name, attribute in list(node.attributes.items()):
        if name in older.attributes or name not in newer.attributes:
            continue
        default = newer.attributes[name].default_value
        if default.type and ir.serde.deserialize_attribute(default).value == attribute.value:
            del node.attributes[name]
