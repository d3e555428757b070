"""Models in half precision: written in FP32 for all that measures, and given back as they were."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, numpy_helper

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import ORT_CPU, TENSORRT, TENSORRT_8
from autoprec.graph.model import check_model, load_model, to_bytes
from autoprec.graph.topology import FLOAT_TYPES
from autoprec.lowering.lowerer import Lowerer
from autoprec.precision import Precision
from autoprec.units.find import find_units

from ..helpers.lowering_bench import Bench, array_of, node_named, sqnr_db
from ..helpers.networks import write
from ..helpers.onnx_builder import Builder

FP32, FP16, BF16, INT8 = Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8
TYPES = {FP16: (TensorProto.FLOAT16, np.float16), BF16: (TensorProto.BFLOAT16, ml_dtypes.bfloat16)}


def half_model(precision: Precision, *, typed_ends: bool = False) -> onnx.ModelProto:
    """Conv -> relu -> conv in half precision; `typed_ends`: its input and output too, else Casts are at both ends."""
    kind, dtype = TYPES[precision]
    b = Builder()
    x = b.input("x", ["N", 32, 8, 8], kind if typed_ends else TensorProto.FLOAT)
    start = x if typed_ends else b.node("Cast", "enter", [x], to=kind)
    last = b.conv("second", b.node("Relu", "relu", [b.conv("first", start, 32, 32)]), 32, 32)
    end = last if typed_ends else b.node("Cast", "leave", [last], to=TensorProto.FLOAT)
    b.output(end, ["N", 32, 8, 8], kind if typed_ends else TensorProto.FLOAT)
    proto = b.model(check=False)
    proto.opset_import[0].version = 22
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    return proto


@pytest.mark.parametrize("typed_ends", [False, True])
@pytest.mark.parametrize("precision", [FP16, BF16])
def test_units_know_what_they_are_in_the_model(precision: Precision, typed_ends: bool, tmp_path: Path) -> None:
    model = load_model(write(half_model(precision, typed_ends=typed_ends), tmp_path))
    partition = find_units(model.graph)

    assert partition.as_given() == {"first": precision, "second": precision}
    assert {node_named(model.ir, name).outputs[0].dtype for name in ("first", "second")} == {ir.DataType.FLOAT}
    assert model.interface.inputs[0].dtype == (TYPES[precision][1] if typed_ends else np.float32)


@pytest.mark.parametrize("precision", [FP16, BF16])
def test_the_plan_that_changes_nothing_is_the_model_itself(precision: Precision, tmp_path: Path) -> None:
    proto = half_model(precision)
    model = load_model(write(proto, tmp_path))
    partition = find_units(model.graph)
    lowered = Lowerer(model, partition, ORT_CPU, FP32).lower(partition.as_given(), None).ir

    assert to_bytes(lowered) == to_bytes(ir.from_proto(proto))


@pytest.mark.parametrize("scheme", [ORT_CPU, TENSORRT])
@pytest.mark.parametrize("typed_ends", [False, True])
@pytest.mark.parametrize("precision", [FP16, BF16])
def test_what_is_not_changed_keeps_its_type_and_the_bits_of_its_weights(
    precision: Precision, typed_ends: bool, scheme: object
) -> None:
    proto = half_model(precision, typed_ends=typed_ends)
    one = Bench(proto, TENSORRT if scheme is TENSORRT else ORT_CPU, FP32)
    lowered = one.lower({"first": INT8, "second": precision}).ir
    check_model(lowered)
    second = node_named(lowered, "second")
    kind, dtype = TYPES[precision]
    weights = {t.name: numpy_helper.to_array(t).astype(dtype) for t in proto.graph.initializer}

    assert array_of(second.inputs[1]).tobytes() == weights["second.w"].tobytes()
    assert second.outputs[0].dtype == kind
    assert [int(v.dtype) for v in (*lowered.graph.inputs, *lowered.graph.outputs)] == (
        [kind] * 2 if typed_ends else [TensorProto.FLOAT] * 2
    )
    assert [node.op_type for node in lowered.graph].count("QuantizeLinear") >= 1
    assert one.sqnr(lowered) > 25


def test_a_unit_can_be_asked_to_be_wider_than_in_the_model() -> None:
    one = Bench(half_model(FP16), ORT_CPU, FP32)
    lowered = one.lower({"first": FP32, "second": FP16}).ir
    check_model(lowered)

    assert node_named(lowered, "first").outputs[0].dtype == ir.DataType.FLOAT
    assert node_named(lowered, "second").outputs[0].dtype == ir.DataType.FLOAT16


def test_a_weakly_typed_runtime_is_told_of_it_in_the_metadata() -> None:
    one = Bench(half_model(FP16), TENSORRT_8, FP16)
    lowered = one.lower({"first": INT8, "second": FP16}).ir

    assert node_named(lowered, "second").metadata_props["autoprec.precision"] == "fp16"


def test_what_is_not_known_reads_and_gives_what_it_did(tmp_path: Path) -> None:
    """An operator of another domain stays in FP16, and so does the body of an If that reads around it."""
    b = Builder()
    start = b.node("Cast", "enter", [b.input("x", ["N", 32, 8, 8])], to=TensorProto.FLOAT16)
    strange = b.node("Strange", "strange", [start], domain="com.example")
    b.output(strange, ["N", 32, 8, 8], TensorProto.FLOAT16)
    graph = load_model(write(b.model(check=False), tmp_path)).graph
    node = next(node for node in graph if node.name == "strange")

    assert node.inputs[0].dtype == ir.DataType.FLOAT16
    assert graph.outputs[0].dtype in FLOAT_TYPES


def test_bf16_runs_on_the_cpu_by_rounding() -> None:
    proto = half_model(BF16, typed_ends=True)
    wide = half_model(FP16, typed_ends=True)
    x = np.random.default_rng(0).standard_normal((2, 32, 8, 8)).astype(np.float32)
    with (
        OrtBackend(1).build(proto.SerializeToString()) as engine,
        OrtBackend(1).build(wide.SerializeToString()) as other,
    ):
        rounded = engine.run({"x": x.astype(ml_dtypes.bfloat16)})
        exact = other.run({"x": x.astype(np.float16)})
    found = next(iter(rounded.values()))

    assert 25 < sqnr_db({"y": next(iter(exact.values())).astype(np.float32)}, {"y": found}) < 60
    assert (found == found.astype(ml_dtypes.bfloat16).astype(np.float32)).all()
