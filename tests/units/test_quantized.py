"""Parts of a model that are in 8 bits already."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from autoprec.backends.scheme import ORT_CPU, TENSORRT, TENSORRT_8, Scheme
from autoprec.graph.model import check_model
from autoprec.precision import Precision

from ..helpers.lowering_bench import Bench, array_of, node_named
from ..helpers.onnx_builder import Builder

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8
SCALE = 0.037


def trained_with_pairs() -> onnx.ModelProto:
    """Q/DQ -> first (its weights are codes) -> relu -> Q/DQ -> second, which is a float convolution."""
    b = Builder()
    step, zero = b.const("step", SCALE), b.const("zero", 0, np.int8)
    codes = b.const("codes", np.random.default_rng(0).integers(-127, 128, (32, 32, 3, 3)), np.int8)

    def pair(name: str, value: str) -> str:
        quantized = b.node("QuantizeLinear", f"{name}.q", [value, step, zero])
        return b.node("DequantizeLinear", f"{name}.dq", [quantized, step, zero])

    weights = b.node("DequantizeLinear", "weights", [codes, b.const("fine", 0.001), zero])
    first = b.node("Conv", "first", [pair("entry", b.image()), weights], pads=[1] * 4)
    second = b.conv("second", pair("middle", b.node("Relu", "relu", [first])), 32, 32)
    b.output(second, ["N", 32, 8, 8])
    return b.model()


def test_only_the_float_part_is_tuned() -> None:
    partition = Bench(trained_with_pairs(), ORT_CPU, FP32).partition

    assert [unit.name for unit in partition.units] == ["second"]
    assert {partition.reasons[name] for name in ("first", "relu", "entry.q", "middle.dq", "weights")} == {
        "in 8 bits in the model: it keeps its codes and scales"
    }


@pytest.mark.parametrize(("scheme", "carrier"), [(ORT_CPU, FP32), (TENSORRT, FP16)])
@pytest.mark.parametrize("precision", [FP16, INT8])
def test_its_codes_and_scales_stay_bit_for_bit(scheme: Scheme, carrier: Precision, precision: Precision) -> None:
    one = Bench(trained_with_pairs(), scheme, carrier)
    lowered = one.lower({"second": precision}).ir
    check_model(lowered)
    given = {node.name: node for node in one.model.graph}

    for name in ("entry.q", "entry.dq", "middle.q", "weights"):  # a float op may get a DequantizeLinear of its own
        for index in range(len(given[name].inputs)):
            if (old := given[name].inputs[index]).const_value is not None:
                new = array_of(node_named(lowered, name).inputs[index])
                assert new.dtype == array_of(old).dtype
                assert new.tobytes() == array_of(old).tobytes()
    assert one.sqnr(lowered) > 25


def test_tensorrt_8_gets_the_weights_in_float() -> None:
    lowered = Bench(trained_with_pairs(), TENSORRT_8, FP16).lower({"second": INT8}).ir
    check_model(lowered)

    assert node_named(lowered, "weights").inputs[0].producer().op_type == "QuantizeLinear"
