"""What follows an 8-bit product is written so that ONNX Runtime leaves the product in 8 bits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import ORT_CPU
from autoprec.graph.model import check_model, to_bytes
from autoprec.lowering.passes.keep_products import transposes_before_products
from autoprec.precision import Precision

from ...helpers.lowering_bench import Bench, loaded, ops, run
from ...helpers.onnx_builder import Builder

FP32, INT8, FP16 = Precision.FP32, Precision.INT8, Precision.FP16
WIDTH = 48


def product(then: Callable[[Builder, str, str], str]) -> onnx.ModelProto:
    """A product "first", what follows it, and a product "last"."""
    b = Builder()
    x = b.input("x", ["N", WIDTH])
    value = then(b, x, b.node("MatMul", "first", [x, b.weight("w0", WIDTH, WIDTH)]))
    b.output(b.node("MatMul", "last", [value, b.weight("w1", WIDTH, WIDTH)]), ["N", WIDTH])
    return b.model()


def bias(b: Builder, x: str, value: str) -> str:
    return b.node("Add", "after", [b.const("b", b.random.normal(0, 0.1, (1, WIDTH))), value])


def skip(b: Builder, x: str, value: str) -> str:
    return b.node("Add", "after", [value, x])


def relu(b: Builder, x: str, value: str) -> str:
    return b.node("Relu", "after", [value])


def relu6(b: Builder, x: str, value: str) -> str:
    return b.node("Clip", "after", [value, b.const("low", 0.0), b.const("high", 6.0)])


def below(b: Builder, x: str, value: str) -> str:
    return b.node("Clip", "after", [value, "", b.const("high", 0.5)])


@pytest.mark.parametrize("then", [bias, skip, relu, relu6, below])
def test_the_product_runs_in_8_bits_and_what_follows_computes_the_same(then: Callable[..., str]) -> None:
    one = Bench(product(then), ORT_CPU, FP32)
    plan = {"first": INT8, "last": FP32}
    lowered = one.lower(plan)
    check_model(lowered.ir)
    ran = OrtBackend(threads=1).inspect(to_bytes(lowered.ir), ["first", "last"])

    assert ran["first"].quantized
    assert not ran["last"].quantized
    assert one.sqnr(lowered.ir) > 33
    assert [str(node.name) for node in lowered.record.nodes["after"]][-1] == "after"


def test_a_relu_that_becomes_part_of_the_8_bit_kernel_is_left_there() -> None:
    one = Bench(product(relu), ORT_CPU, FP32)

    assert [node.name for node in ops(one.lower(one.uniform(INT8)).ir, "Relu")] == ["after"]


def test_a_transpose_before_a_product_in_fp16_is_written_in_fp32_and_loads() -> None:
    """ONNX Runtime 1.32 ends the process where LayerNormalization, Transpose and MatMul are all in FP16."""
    b = Builder()
    parameters = [b.const("gamma", np.ones(64)), b.const("beta", np.zeros(64))]
    norm = b.node("LayerNormalization", "norm", [b.input("x", ["N", 8, 64]), *parameters], axis=-1)
    value = b.node("MatMul", "fc", [b.node("Transpose", "turn", [norm], perm=[1, 0, 2]), b.weight("w", 64, 64)])
    b.output(value, [8, "N", 64])
    one = Bench(b.model(), ORT_CPU, FP32)
    lowered = one.lower({"norm": FP16, "fc": FP16}).ir

    assert transposes_before_products(one.model.graph) == ["turn"]
    with OrtBackend(threads=1).build(to_bytes(lowered)) as engine:
        outputs = engine.run(one.feed)
    np.testing.assert_allclose(outputs["fc_out"], run(loaded(one.proto).ir, one.feed)["fc_out"], rtol=0.02, atol=0.02)
