"""Which range each calibrator chooses, and the expected error it is judged by."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from autoprec.errors import DataError, UsageError
from autoprec.ranges.affine import asymmetric_params, fake_quantize, symmetric_params
from autoprec.ranges.bins import Range
from autoprec.ranges.calibrators import METHODS, calibrate, calibrate_fp8, quantization_error
from autoprec.ranges.entropy import Divergence
from autoprec.ranges.histogram import Histogram

every_method = pytest.mark.parametrize("method", METHODS)
both_schemes = pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
HUGE = float(np.float32(3.4e38))
finite = st.floats(-HUGE, HUGE, width=32) | st.floats(-8, 8, width=32) | st.just(0.0)
arrays = hnp.arrays(np.float32, st.integers(1, 200), elements=finite)
moderate = hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-50, 50, width=32) | st.just(0.0))


def histogram_of(values):
    histogram = Histogram()
    histogram.update(np.asarray(values, np.float32))
    return histogram


def true_error(values, span, symmetric):
    """Mean squared and largest error of the true values."""
    params = symmetric_params(span) if symmetric else asymmetric_params(span)
    error = fake_quantize(values, params).astype(np.float64) - values
    return float(np.square(error).mean()), float(np.abs(error).max())


def drawn(kind, size=200_000):
    rng = np.random.default_rng(0)
    normal = rng.normal(size=size)
    return {
        "normal": normal,
        "relu": np.maximum(normal, 0),
        "relu6": np.clip(3 * normal, 0, 6),
        "laplace": rng.laplace(size=size),
        "silu": normal / (1 + np.exp(-normal)),
        "far from zero": normal + 100,
        "negative": -np.abs(normal) - 3,
    }[kind].astype(np.float32)


KINDS = ("normal", "relu", "relu6", "laplace", "silu", "far from zero", "negative")


class TestEveryMethod:
    @settings(max_examples=60)
    @given(arrays, st.sampled_from(METHODS), st.booleans(), st.sampled_from([4, 8]))
    def test_the_range_is_valid_and_no_wider_than_needed(self, values, method, symmetric, bits):
        span = calibrate(histogram_of(values), method, symmetric=symmetric, bits=bits)
        reach = float(np.abs(values).max()) or 1.0
        assert span.low < span.high
        if symmetric:
            assert -span.low == span.high <= reach
        else:
            assert min(values.min(), 0) <= span.low <= 0
            assert 0 <= span.high <= (max(values.max(), 0) if values.any() else 1)

    @settings(max_examples=20)
    @given(arrays, st.sampled_from(METHODS), st.booleans())
    def test_the_order_of_the_values_does_not_matter(self, values, method, symmetric):
        expected = calibrate(histogram_of(values), method, symmetric=symmetric)
        assert calibrate(histogram_of(values[::-1]), method, symmetric=symmetric) == expected

    @every_method
    @both_schemes
    def test_all_zeros_give_a_range_of_one(self, method, symmetric):
        span = calibrate(histogram_of(np.zeros(9)), method, symmetric=symmetric)
        assert span == Range(-1.0 if symmetric else 0.0, 1.0)

    @every_method
    @both_schemes
    @pytest.mark.parametrize("value", [5.0, -5.0, 1e-30, 3e38])
    def test_a_constant_is_kept_whole(self, method, symmetric, value):
        span = calibrate(histogram_of(np.full(1000, value)), method, symmetric=symmetric)
        value = float(np.float32(value))
        expected = Range(-abs(value), abs(value)) if symmetric else Range(min(value, 0.0), max(value, 0.0))
        assert span == expected

    @every_method
    @both_schemes
    def test_a_scaled_tensor_gets_the_scaled_range(self, method, symmetric):
        plain = calibrate(histogram_of(drawn("silu")), method, symmetric=symmetric)
        scaled = calibrate(histogram_of(drawn("silu") / 4), method, symmetric=symmetric)
        assert scaled == Range(plain.low / 4, plain.high / 4)

    @every_method
    @both_schemes
    def test_the_spike_of_relu6_is_kept(self, method, symmetric):
        span = calibrate(histogram_of(drawn("relu6")), method, symmetric=symmetric)
        assert span.high == 6

    @every_method
    def test_an_empty_histogram_is_refused(self, method):
        with pytest.raises(DataError, match="at least one value, got none"):
            calibrate(Histogram(), method, symmetric=True)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"method": "kl"}, "minmax, percentile, entropy, mse, got 'kl'"),
            ({"bits": 1}, "2 to 16 bits, got 1"),
            ({"percentile": 50}, "above 50 and at most 100, got 50"),
            ({"percentile": 100.1}, "above 50 and at most 100, got 100.1"),
        ],
    )
    def test_mistakes_are_named(self, change, words):
        arguments = {"method": "minmax", "symmetric": True} | change
        with pytest.raises(UsageError, match=words):
            calibrate(histogram_of([1.0]), **arguments)


class TestMinMaxAndPercentile:
    @given(arrays)
    def test_minmax_is_the_extremes(self, values):
        histogram, reach = histogram_of(values), float(np.abs(values).max()) or 1.0
        assert calibrate(histogram, "minmax", symmetric=True) == Range(-reach, reach)
        if values.any():
            expected = Range(min(float(values.min()), 0.0), max(float(values.max()), 0.0))
            assert calibrate(histogram, "minmax", symmetric=False) == expected
        assert calibrate_fp8(histogram) == Range(-reach, reach)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("kept", [99.0, 99.9, 99.99])
    def test_the_percentile_is_within_a_bin_of_numpy(self, kind, kept):
        values = drawn(kind).astype(np.float64)  # NumPy 2.2 loses the place of a quantile in float32
        histogram = histogram_of(values.astype(np.float32))
        width = histogram.bin_width
        reach = np.percentile(np.abs(values), kept, method="inverted_cdf")
        assert abs(calibrate(histogram, "percentile", symmetric=True, percentile=kept).high - reach) <= width
        span = calibrate(histogram, "percentile", symmetric=False, percentile=kept)
        tail = (100 - kept) / 2
        low, high = np.percentile(values, [tail, 100 - tail], method="inverted_cdf")
        assert abs(span.low - min(low, 0)) <= width
        assert abs(span.high - max(high, 0)) <= width

    @given(arrays, st.booleans())
    def test_the_hundredth_percentile_is_minmax(self, values, symmetric):
        histogram = histogram_of(values)
        expected = calibrate(histogram, "minmax", symmetric=symmetric)
        assert calibrate(histogram, "percentile", symmetric=symmetric, percentile=100) == expected

    @both_schemes
    def test_where_nearly_all_is_zero_the_rest_is_kept(self, symmetric):
        values = np.zeros(1_000_000, np.float32)
        values[:3] = 7
        assert calibrate(histogram_of(values), "percentile", symmetric=symmetric).high == 7


class TestQuantizationError:
    @both_schemes
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
    def test_it_is_the_mean_squared_error_of_the_true_values(self, kind, share, symmetric):
        values = drawn(kind)
        span = Range(min(values.min() * share, 0.0), max(values.max() * share, 0.0))
        expected, _ = true_error(values, span, symmetric)
        assert quantization_error(histogram_of(values), span, symmetric) == pytest.approx(expected, rel=0.01)

    @settings(max_examples=60)
    @given(moderate, st.tuples(st.floats(-60, 0), st.floats(0.1, 60)), st.booleans())
    def test_it_is_within_what_moving_each_value_inside_its_bin_can_change(self, values, ends, symmetric):
        histogram, span = histogram_of(values), Range(*ends)
        expected, largest = true_error(values, span, symmetric)
        # The squared error has slope 2 |error|, and no value moves further than a bin.
        width = histogram.bin_width
        bound = 2 * width * (largest + width) + 1e-5 * largest
        assert abs(quantization_error(histogram, span, symmetric) - expected) <= bound

    def test_of_a_uniform_density_it_is_a_twelfth_of_the_squared_step(self):
        values = (np.arange(2_550_000) + 0.5) / 2_550_000 * 255
        error = quantization_error(histogram_of(values), Range(0.0, 255.0), symmetric=False)
        assert error == pytest.approx(1 / 12, rel=1e-4)

    def test_clipping_of_a_uniform_density_is_integrated_exactly(self):
        values = (np.arange(2_000_000) + 0.5) / 1_000_000  # 0 to 2, clipped at 1
        error = quantization_error(histogram_of(values), Range(0.0, 1.0), symmetric=False)
        assert error == pytest.approx((1 / 255**2 / 12 + 1 / 3) / 2, rel=1e-5)

    def test_zeros_cost_nothing_and_dilute_the_error(self):
        values = drawn("normal")
        diluted = np.concatenate([values, np.zeros_like(values)])
        before, after = (quantization_error(histogram_of(v), Range(-3, 3), True) for v in (values, diluted))
        assert after == pytest.approx(before / 2, rel=1e-9)

    def test_points_at_the_ends_are_exact(self):
        clipped = quantization_error(histogram_of([10.0]), Range(-7, 7), symmetric=True)
        assert clipped == pytest.approx(9, rel=1e-6)
        assert quantization_error(histogram_of([-10.0]), Range(-127, 127), symmetric=True) == 0


class TestMse:
    @settings(max_examples=60)
    @given(moderate, st.booleans())
    def test_on_the_true_values_it_is_never_worse_than_minmax_beyond_a_bin(self, values, symmetric):
        histogram = histogram_of(values)
        widest, best = (calibrate(histogram, method, symmetric=symmetric) for method in ("minmax", "mse"))
        (before, most), (after, largest) = (true_error(values, span, symmetric) for span in (widest, best))
        width = histogram.bin_width
        assert after <= before + 2 * width * (most + largest + 2 * width) + 1e-5 * (most + largest)

    @both_schemes
    @pytest.mark.parametrize("kind", KINDS)
    def test_no_range_on_a_fine_grid_is_better_by_more_than_two_percent(self, kind, symmetric):
        histogram = histogram_of(drawn(kind))
        span = calibrate(histogram, "mse", symmetric=symmetric)
        found = quantization_error(histogram, span, symmetric)
        widest = calibrate(histogram, "minmax", symmetric=symmetric)
        shares = np.linspace(0.3, 1.0, 36)
        pairs = zip(shares, shares, strict=True) if symmetric else itertools.product(shares, shares)
        spans = {Range(low * widest.low, high * widest.high) for low, high in pairs}
        assert found <= 1.02 * min(quantization_error(histogram, span, symmetric) for span in spans)

    @both_schemes
    def test_it_clips_a_long_tail_and_gains(self, symmetric):
        values = drawn("laplace")
        widest, best = (calibrate(histogram_of(values), m, symmetric=symmetric) for m in ("minmax", "mse"))
        assert best.high < 0.9 * widest.high
        assert true_error(values, best, symmetric)[0] < 0.85 * true_error(values, widest, symmetric)[0]

    def test_of_a_gaussian_at_four_bits_it_is_the_known_optimum(self):
        """2.5 to 2.8 standard deviations at 15 or 16 levels (Banner et al. 2019: 2.55)."""
        span = calibrate(histogram_of(drawn("normal", 1_000_000)), "mse", symmetric=True, bits=4)
        assert 2.3 < span.high < 2.8


class TestEntropy:
    @both_schemes
    @pytest.mark.parametrize("outlier", [50.0, 500.0])
    def test_on_a_gaussian_with_an_outlier_it_clips_the_outlier(self, outlier, symmetric):
        values = np.append(drawn("normal"), np.float32(outlier))
        span = calibrate(histogram_of(values), "entropy", symmetric=symmetric)
        assert span.high < 0.25 * outlier
        assert span.high > 3

    @both_schemes
    def test_the_number_of_zeros_changes_nothing(self, symmetric):
        values = drawn("relu")
        expected = calibrate(histogram_of(values), "entropy", symmetric=symmetric)
        more = histogram_of(np.concatenate([values, np.zeros(5_000_000, np.float32)]))
        assert calibrate(more, "entropy", symmetric=symmetric) == expected

    @both_schemes
    def test_a_uniform_tensor_is_not_clipped(self, symmetric):
        values = np.random.default_rng(1).uniform(-1, 1, 1_000_000)
        span = calibrate(histogram_of(values), "entropy", symmetric=symmetric)
        assert span.high > 0.97
        assert span.low < -0.97

    def test_the_two_sides_are_clipped_apart(self):
        rng = np.random.default_rng(2)
        values = np.concatenate([-rng.uniform(0, 2, 100_000), np.abs(rng.normal(size=100_000)), [60.0]])
        span = calibrate(histogram_of(values), "entropy", symmetric=False)
        assert span.low < -1.8
        assert span.high < 20

    def test_at_sixteen_bits_there_are_no_bins_to_lose(self):
        histogram = histogram_of(drawn("laplace"))
        expected = calibrate(histogram, "minmax", symmetric=True)
        assert calibrate(histogram, "entropy", symmetric=True, bits=16) == expected

    @settings(max_examples=60)
    @given(hnp.arrays(np.int64, st.integers(12, 40), elements=st.integers(0, 9)), st.data())
    def test_the_divergence_by_prefix_sums_is_that_by_the_definition(self, counts, data):
        levels = 4
        start = data.draw(st.integers(0, len(counts) - levels))
        stop = data.draw(st.integers(start + levels, len(counts)))
        fast = Divergence.of(counts.astype(float), levels)(np.array([start]), np.array([stop]))[0]
        assert fast == pytest.approx(slow_divergence(counts, start, stop, levels), abs=1e-8)


def slow_divergence(counts, start, stop, levels):
    """KL(P || Q) step by step as the method's talk has it; a level that only outliers fill holds 1/2."""
    kept = counts[start:stop].astype(float)
    if not kept.sum():
        return math.inf
    wanted = kept.copy()
    wanted[0] += counts[:start].sum()
    wanted[-1] += counts[stop:].sum()
    spread = np.zeros_like(kept)
    bounds = np.floor(np.arange(levels + 1) * len(kept) / levels + 0.5).astype(int)
    for left, right in itertools.pairwise(bounds):
        occupied = wanted[left:right] > 0
        if occupied.any():
            spread[left:right] = occupied * max(kept[left:right].sum(), 0.5) / occupied.sum()
    wanted, spread = wanted / wanted.sum(), spread / kept.sum()
    terms = wanted > 0
    return max(float((wanted[terms] * np.log(wanted[terms] / spread[terms])).sum()), 0.0)
