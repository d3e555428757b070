"""Copies of a model in several opsets: what is folded, and what is stored once."""

from __future__ import annotations

import onnx

from autoprec.backends.scheme import ORT_CPU
from autoprec.lowering.lowerer import Lowerer
from autoprec.precision import Precision
from autoprec.units.find import find_units

from ..helpers.lowering_bench import loaded
from ..helpers.onnx_builder import Builder

FP32, FP16 = Precision.FP32, Precision.FP16


def test_a_table_that_is_also_the_last_layer_is_stored_once_in_each_type() -> None:
    b = Builder()
    table = b.weight("table", 128, 64)
    rows = b.node("Gather", "rows", [table, b.input("ids", ["N", 2], onnx.TensorProto.INT64)])
    b.node("MatMul", "head", [rows, b.node("Transpose", "turned", [table], perm=[1, 0])])
    b.output("head_out", ["N", 2, 128])
    model = loaded(b.model())
    lowerer = Lowerer(model, find_units(model.graph), ORT_CPU, FP32)

    def stored(head: Precision) -> int:
        weights = lowerer.lower({"rows": FP16, "head": head}, None).ir.graph.initializers.values()
        return sum(value.const_value.nbytes for value in weights if value.const_value is not None)

    assert stored(FP16) == 2 * 128 * 64
    assert stored(FP32) == (2 + 4) * 128 * 64
