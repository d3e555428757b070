"""Scales of weights and their stored codes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from autoprec.errors import ModelError, UsageError
from autoprec.precision import Precision
from autoprec.ranges.affine import QuantParams, quantize
from autoprec.ranges.weights import dequantize_weight, quantize_weight, weight_scales

INT8, FP8 = Precision.INT8, Precision.FP8
quantized = pytest.mark.parametrize("precision", [INT8, FP8])
weights = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=4, max_side=5),
    elements=st.floats(-1e4, 1e4, width=32) | st.just(0.0),
)


def restored_error(weight, axis, precision, method):
    scales = weight_scales(weight, axis, precision, method=method)
    restored = dequantize_weight(quantize_weight(weight, scales, axis, precision), scales, axis)
    others = tuple(i for i in range(weight.ndim) if i != axis)
    return np.square((restored - weight).astype(np.float64)).sum(axis=others)


class TestScales:
    @quantized
    @given(weights, st.data())
    def test_each_channel_has_its_largest_magnitude_over_the_largest_code(self, precision, weight, data):
        axis = data.draw(st.integers(-weight.ndim, weight.ndim - 1))
        scales = weight_scales(weight, axis, precision)
        channels = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
        assert scales.dtype == np.float32
        for scale, channel in zip(scales, channels, strict=True):
            largest = float(np.abs(channel).max())
            expected = max(largest / precision.largest, 2.0**-64) if largest else 2.0**-20
            assert scale == np.float32(expected)

    @quantized
    def test_without_axis_there_is_one_scale(self, precision):
        scales = weight_scales(np.array([[1.0, -8.0], [2.0, 0.0]], np.float32), None, precision)
        assert scales.shape == ()
        assert scales == np.float32(8 / precision.largest)

    @given(weights)
    def test_scales_for_half_are_positive_float16_values(self, weight):
        scales = weight_scales(weight, 0, INT8, for_half=True)
        assert scales.dtype == np.float32
        assert (scales == scales.astype(np.float16)).all()
        assert (scales >= 2.0**-20).all()

    @quantized
    def test_a_channel_of_zeros_has_a_positive_scale_and_codes_of_zero(self, precision):
        weight = np.array([[0.0, 0.0], [1.0, -1.0]], np.float32)
        scales = weight_scales(weight, 0, precision)
        assert scales[0] == 2.0**-20
        codes = quantize_weight(weight, scales, 0, precision)
        assert codes[0].astype(np.float32).tolist() == [0, 0]

    def test_a_weight_without_elements_has_scales(self):
        assert weight_scales(np.zeros((3, 0), np.float32), 0, INT8).tolist() == [2.0**-20] * 3

    @quantized
    @given(weights)
    def test_mse_is_never_worse_than_max_in_any_channel(self, precision, weight):
        clipped = restored_error(weight, 0, precision, "mse")
        assert (clipped <= restored_error(weight, 0, precision, "max") * (1 + 1e-6)).all()

    def test_mse_clips_the_outlier_of_a_channel_where_calculus_says_and_leaves_the_others(self):
        """The error (1.3 - t)**2 / n + (t / 127)**2 / 12 is least at t = 1.3 / (1 + n / (12 * 127**2))."""
        rng = np.random.default_rng(0)
        weight = rng.uniform(-1, 1, (2, 20_000)).astype(np.float32)
        weight[0, 0] = 1.3
        largest, best = (weight_scales(weight, 0, INT8, method=method) for method in ("max", "mse"))
        assert best[0] * 127 == pytest.approx(1.3 / (1 + 20_000 / (12 * 127**2)), rel=0.015)
        assert best[1] > 0.98 * largest[1]


class TestCodes:
    @given(weights)
    def test_int8_codes_are_those_of_quantize_linear(self, weight):
        scales = weight_scales(weight, 0, INT8)
        codes = quantize_weight(weight, scales, 0, INT8)
        assert codes.dtype == np.int8
        for channel, scale, code in zip(weight, scales, codes, strict=True):
            expected = quantize(channel, QuantParams(float(scale), 0, signed=True))
            assert code.tolist() == expected.tolist()

    @given(weights, st.data())
    def test_unclipped_weights_come_back_within_half_a_step(self, weight, data):
        axis = data.draw(st.none() | st.integers(-weight.ndim, weight.ndim - 1))
        scales = weight_scales(weight, axis, INT8)
        restored = dequantize_weight(quantize_weight(weight, scales, axis, INT8), scales, axis)
        step = scales if axis is None else np.moveaxis(np.ones_like(weight), axis, -1) * scales
        step = step if axis is None else np.moveaxis(step, -1, axis)
        assert (np.abs(restored - weight) <= 0.50001 * step).all()

    def test_codes_stay_symmetric(self):
        weight = np.array([-10.0, 10.0], np.float32)
        assert quantize_weight(weight, np.float32(0.01), None, INT8).tolist() == [-127, 127]

    @given(weights)
    def test_fp8_codes_are_the_cast_of_the_scaled_weights(self, weight):
        scales = weight_scales(weight, 0, FP8)
        codes = quantize_weight(weight, scales, 0, FP8)
        scaled = weight / scales.reshape(-1, *[1] * (weight.ndim - 1))
        assert codes.dtype == ml_dtypes.float8_e4m3fn
        expected = np.clip(scaled, -448, 448).astype(ml_dtypes.float8_e4m3fn)
        assert codes.tobytes() == expected.tobytes()

    def test_fp8_saturates(self):
        codes = quantize_weight(np.array([-1e9, 1e9], np.float32), np.float32(1), None, FP8)
        assert codes.astype(np.float32).tolist() == [-448, 448]


class TestMistakes:
    def test_a_float_precision_is_refused(self):
        with pytest.raises(UsageError, match="int8 and fp8 only, got fp16"):
            weight_scales(np.ones((2, 2), np.float32), 0, Precision.FP16)

    def test_an_unknown_method_is_refused(self):
        with pytest.raises(UsageError, match="max or mse, got 'kl'"):
            weight_scales(np.ones((2, 2), np.float32), 0, INT8, method="kl")

    @pytest.mark.parametrize("axis", [2, -3])
    def test_an_axis_outside_is_refused(self, axis):
        with pytest.raises(UsageError, match=f"2 axes, got {axis}"):
            weight_scales(np.ones((2, 2), np.float32), axis, INT8)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_weights_that_are_not_finite_are_refused(self, bad):
        with pytest.raises(ModelError, match="weights must be finite"):
            weight_scales(np.array([[1.0, bad]], np.float32), 0, INT8)

    def test_scales_of_the_wrong_shape_are_refused(self):
        with pytest.raises(UsageError, match=r"shape \(2,\), got \(3,\)"):
            quantize_weight(np.ones((2, 3), np.float32), np.ones(3, np.float32), 0, INT8)
