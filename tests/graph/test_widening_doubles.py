"""Models that compute in FP64 alone: what is not changed keeps every digit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, numpy_helper

from autoprec.backends.scheme import ORT_CPU, TENSORRT
from autoprec.errors import UsageError
from autoprec.graph.model import check_model, load_model, to_bytes
from autoprec.graph.topology import const_array
from autoprec.precision import Precision
from autoprec.run.settings import Settings
from autoprec.run.task import prepare_subject
from autoprec.testing import FakeBackend
from autoprec.units.find import find_units

from ..helpers.lowering_bench import Bench, run
from ..helpers.networks import write
from ..helpers.onnx_builder import Builder

FP32, FP64, INT8 = Precision.FP32, Precision.FP64, Precision.INT8


def _model(*, mixed: bool = False) -> onnx.ModelProto:
    """Three products in FP64; `mixed`: the last of them reads FP32."""
    b = Builder()
    x = b.input("x", ["N", 32], TensorProto.DOUBLE)
    x = b.node("Relu", "relu", [b.node("Add", "bias", [b.node("MatMul", "a", [x, b.weight("a.w", 32, 32)]), "a.b"])])
    b.const("a.b", np.linspace(-0.1, 0.1, 32) / 3)
    x = b.node("Tanh", "tanh", [b.node("Gemm", "b", [x, b.weight("b.w", 32, 32)], transB=1)])
    x = b.node("Cast", "cast", [x], to=TensorProto.FLOAT) if mixed else x
    b.output(b.node("MatMul", "c", [x, b.weight("c.w", 32, 16)]), ["N", 16], TensorProto.FLOAT if mixed else 11)
    proto, rng = b.model(check=False), np.random.default_rng(0)
    for tensor in proto.graph.initializer:
        if not (mixed and tensor.name == "c.w"):
            exact = numpy_helper.to_array(tensor) + 1e-9 * rng.normal(size=tuple(tensor.dims))  # no FP32 numbers
            tensor.CopyFrom(numpy_helper.from_array(exact.astype(np.float64), tensor.name))
    return proto


@pytest.fixture(name="bench", scope="module")
def _bench() -> Bench:
    return Bench(_model(), ORT_CPU, FP32)


def test_units_are_in_fp64_and_the_interface_stays(bench: Bench) -> None:
    assert bench.partition.as_given() == dict.fromkeys(["a", "b", "c"], FP64)
    assert bench.model.interface.inputs[0].dtype == np.float64


def test_the_plan_that_changes_nothing_is_the_model_itself(bench: Bench) -> None:
    assert to_bytes(bench.lower(dict.fromkeys("abc", FP64)).ir) == to_bytes(bench.model.original)


@pytest.mark.parametrize(("precision", "most"), [(FP32, 1e-6), (INT8, 0.05)])
def test_a_changed_unit_leaves_the_digits_of_the_others(bench: Bench, precision: Precision, most: float) -> None:
    lowered = bench.lower({"a": FP64, "b": precision, "c": FP64}).ir
    check_model(lowered)
    wanted = {"a.w", "a.b", "c.w"}
    given = {t.name: numpy_helper.to_array(t) for t in bench.proto.graph.initializer if t.name in wanted}
    kept = [const_array(v) for v in lowered.graph.initializers.values() if v.dtype is ir.DataType.DOUBLE]
    exact = run(bench.model.original, bench.feed)
    got = run(lowered, bench.feed)

    for array in given.values():
        assert any(other is not None and np.array_equal(array, other) for other in kept)
    for name in exact:
        assert got[name].dtype == np.float64
        assert 1e-12 < np.abs(got[name] - exact[name]).max() / np.abs(exact[name]).max() < most


def test_fp64_beside_other_types_stays_as_it_is(tmp_path: Path) -> None:
    partition = find_units(load_model(write(_model(mixed=True), tmp_path)).graph)

    assert partition.as_given() == {"c": FP32}
    assert partition.reasons["a"] == "FP64 arithmetic stays as it is"


def test_no_unit_in_another_type_is_given_fp64(tmp_path: Path) -> None:
    path = write(_model(mixed=True), tmp_path)

    with pytest.raises(UsageError, match="'c' cannot be pinned to fp64: FP64 is kept where the model has it"):
        prepare_subject(Settings(model=path, pins=("c=fp64",)), FakeBackend())


def test_a_runtime_without_fp64_says_so() -> None:
    assert TENSORRT.absent[FP64] == "TensorRT has no FP64"
