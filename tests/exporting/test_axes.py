"""Axes of an exported model get names that people can give lengths to."""

from __future__ import annotations

import onnx_ir as ir

from autoprec.exporting.axes import name_axes


def value(name: str, *dims: int | str) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(dims))


def shape(value: ir.Value) -> list[int | str | None]:
    assert value.shape is not None
    return [dim if isinstance(dim, int) else dim.value for dim in value.shape]


def test_symbols_are_named_wherever_they_stand() -> None:
    ids, mask, keys = value("ids", "batch", "s7"), value("mask", "batch", "s53"), value("keys", "batch", 2, "s0", 16)
    node = ir.node("Concat", [keys, keys], {"axis": 2})
    node.outputs[0].shape = ir.Shape(["batch", 2, "s0 + s7", 16])
    model = ir.Model(ir.Graph([ids, mask, keys], node.outputs, nodes=[node], opset_imports={"": 18}), ir_version=9)

    name_axes(model, {"ids": {1: "length"}, "mask": {1: "past + length"}, "keys": {2: "past"}, "absent": {0: "n"}})

    assert [shape(v) for v in (ids, mask, keys, node.outputs[0])] == [
        ["batch", "length"],
        ["batch", "past + length"],
        ["batch", 2, "past", 16],
        ["batch", 2, "past + length", 16],
    ]


def test_a_fixed_axis_keeps_its_length() -> None:
    ids = value("ids", "batch", 8)
    name_axes(ir.Model(ir.Graph([ids], [], nodes=[], opset_imports={"": 18}), ir_version=9), {"ids": {1: "length"}})

    assert shape(ids) == ["batch", 8]
