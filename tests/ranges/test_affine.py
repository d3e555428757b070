"""Scales and zero points, and the arithmetic against ONNX Runtime's own operators."""

from __future__ import annotations

from functools import cache

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper

from autoprec.ranges.affine import (
    QuantParams,
    asymmetric_params,
    dequantize,
    fake_quantize,
    fake_quantize_fp8,
    fp8_scale,
    quantize,
    quantize_fp8,
    symmetric_params,
)
from autoprec.ranges.bins import Range

HUGE = float(np.float32(3.4e38))
finite = st.floats(-HUGE, HUGE, width=32)
moderate = st.floats(-1000, 1000, width=32)
ranges = st.tuples(finite | moderate, finite | moderate).map(lambda ends: Range(min(ends), max(ends)))
useful = st.tuples(st.floats(-100, -0.01), st.floats(0.01, 100)).map(lambda ends: Range(*ends))


@cache
def operators(kind: int) -> ort.InferenceSession:
    """QuantizeLinear, and DequantizeLinear of its output, with scale and zero point as inputs."""
    fp8 = kind == TensorProto.FLOAT8E4M3FN
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["restored"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("scale", TensorProto.FLOAT, []),
    ]
    zeros = [helper.make_tensor("zero", kind, [], [0.0])] if fp8 else []
    if not fp8:
        inputs.append(helper.make_tensor_value_info("zero", kind, []))
    outputs = [helper.make_tensor_value_info("restored", TensorProto.FLOAT, ["n"])]
    if not fp8:
        outputs.append(helper.make_tensor_value_info("codes", kind, ["n"]))
    graph = helper.make_graph(nodes, "qdq", inputs, outputs, zeros)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def assert_as_onnxruntime(values, params):
    session = operators(TensorProto.INT8 if params.signed else TensorProto.UINT8)
    scale, zero = np.array(params.scale, np.float32), np.array(params.zero_point, params.dtype)
    feeds = {"x": values, "scale": scale, "zero": zero}
    restored, codes = session.run(["restored", "codes"], feeds)
    ours = quantize(values, params)
    assert ours.dtype == codes.dtype
    assert ours.tobytes() == codes.tobytes()
    assert dequantize(ours, params).tobytes() == restored.tobytes()
    assert fake_quantize(values, params).tobytes() == restored.tobytes()


class TestAgainstOnnxRuntime:
    @given(ranges, hnp.arrays(np.float32, 40, elements=finite | moderate), st.booleans())
    def test_codes_and_values_are_equal_bit_for_bit(self, span, values, symmetric):
        params = symmetric_params(span) if symmetric else asymmetric_params(span)
        assert_as_onnxruntime(values, params)

    @pytest.mark.parametrize("symmetric", [True, False])
    def test_they_are_equal_on_many_random_values_and_on_every_tie(self, symmetric):
        rng = np.random.default_rng(0)
        for span in (Range(-3.7, 2.1), Range(0.0, 6.0), Range(-0.278, 11.0), Range(-1e-6, 1e-7)):
            params = symmetric_params(span) if symmetric else asymmetric_params(span)
            spread = rng.normal(0, span.magnitude, 50_000)
            ties = (np.arange(-300, 300) + 0.5) * params.scale
            assert_as_onnxruntime(np.concatenate([spread, ties]).astype(np.float32), params)

    @given(st.floats(2**-20, 100), hnp.arrays(np.float32, 40, elements=st.floats(-1e6, 1e6, width=32)))
    def test_fp8_values_are_equal(self, reach, values):
        scale = fp8_scale(Range(-reach, reach))
        feeds = {"x": values, "scale": np.array(scale, np.float32)}
        (restored,) = operators(TensorProto.FLOAT8E4M3FN).run(["restored"], feeds)
        assert fake_quantize_fp8(values, scale).tolist() == restored.tolist()


class TestFp8:
    @given(hnp.arrays(np.float32, 40, elements=moderate))
    def test_codes_are_the_nearest_of_all_with_ties_to_even(self, values):
        patterns = np.arange(127, dtype=np.uint8)  # every finite value that is not negative, ascending
        table = patterns.view(ml_dtypes.float8_e4m3fn).astype(np.float64)
        gaps = np.abs(np.minimum(np.abs(values), 448)[:, None] - table)
        nearest = gaps == gaps.min(axis=1, keepdims=True)
        tied = nearest.sum(axis=1, keepdims=True) == 2
        expected = np.where(tied, nearest & (patterns % 2 == 0), nearest).argmax(axis=1)
        assert (quantize_fp8(values, 1.0).view(np.uint8) & 127).tolist() == expected.tolist()

    @given(hnp.arrays(np.float32, 40, elements=finite), st.floats(2**-10, 2**10, width=32))
    def test_it_is_the_cast_of_ml_dtypes_where_that_does_not_overflow_and_saturates_where_it_does(self, values, scale):
        with np.errstate(over="ignore"):
            scaled = values / np.float32(scale)
        inside = np.abs(scaled) <= 448
        codes = quantize_fp8(values, scale)
        assert codes[inside].tobytes() == scaled[inside].astype(ml_dtypes.float8_e4m3fn).tobytes()
        assert codes[~inside].astype(np.float32).tolist() == (448 * np.sign(values[~inside])).tolist()

    def test_infinities_saturate(self):
        assert quantize_fp8(np.array([np.inf, -np.inf]), 0.5).astype(np.float32).tolist() == [448, -448]

    def test_the_largest_magnitude_becomes_448(self):
        assert fp8_scale(Range(-2.0, 1.0)) == pytest.approx(2.0 / 448, rel=1e-7)


class TestParams:
    @given(ranges, st.booleans(), st.booleans(), st.sampled_from([4, 8, 16]))
    def test_scales_are_positive_normal_and_finite_and_the_codes_stay_within_float32(self, span, symmetric, half, bits):
        make = symmetric_params if symmetric else asymmetric_params
        params = make(span, bits=bits, for_half=half)
        assert params.scale == float(np.float32(params.scale))
        assert 2.0**-126 <= params.scale < np.inf
        assert params.lowest <= params.zero_point <= params.highest
        if half:
            assert params.scale == float(np.float16(params.scale))
            assert 2.0**-20 <= params.scale <= 65504
        if bits == 8:
            ends = dequantize(np.array([params.lowest, params.highest], params.dtype), params)
            assert np.isfinite(ends).all()

    @given(useful)
    def test_symmetric_scale_is_the_magnitude_over_127(self, span):
        params = symmetric_params(span)
        assert params.scale == float(np.float32(span.magnitude / 127))
        assert (params.zero_point, params.dtype) == (0, np.int8)

    @given(ranges, st.booleans())
    def test_zero_is_exact(self, span, symmetric):
        params = symmetric_params(span) if symmetric else asymmetric_params(span)
        assert fake_quantize(np.zeros(1, np.float32), params)[0] == 0

    @given(useful)
    def test_asymmetric_ends_move_by_at_most_half_a_step(self, span):
        params = asymmetric_params(span)
        assert params.dtype == np.uint8
        assert abs(params.covered.low - span.low) <= 0.5001 * params.scale
        assert abs(params.covered.high - span.high) <= 0.5001 * params.scale

    @pytest.mark.parametrize(
        ("span", "zero_point", "high"),
        [(Range(0, 6), 0, 6), (Range(2, 6), 0, 6), (Range(-6, 0), 255, 0), (Range(-6, -2), 255, 0)],
    )
    def test_one_sided_ranges_are_widened_to_zero(self, span, zero_point, high):
        params = asymmetric_params(span)
        assert params.zero_point == zero_point
        assert params.scale == pytest.approx(6 / 255)
        assert params.covered.high == pytest.approx(high)

    @given(useful, hnp.arrays(np.float32, 40, elements=moderate))
    def test_inside_the_range_the_error_is_at_most_half_a_step(self, span, values):
        for params in (symmetric_params(span), asymmetric_params(span)):
            inside = np.clip(values, params.covered.low, params.covered.high)
            error = np.abs(fake_quantize(inside, params) - inside)
            assert (error <= 0.5001 * params.scale + 1e-6 * np.abs(inside)).all()

    def test_infinities_saturate(self):
        params = QuantParams(0.5, 3, signed=False)
        assert quantize(np.array([-np.inf, np.inf]), params).tolist() == [0, 255]

    def test_an_empty_range_still_has_a_positive_scale(self):
        nothing = Range(0.0, 0.0)
        assert symmetric_params(nothing).scale == asymmetric_params(nothing).scale == 2.0**-64
        assert symmetric_params(nothing, for_half=True).scale == fp8_scale(nothing, for_half=True) == 2.0**-20
