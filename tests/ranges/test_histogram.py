"""What a streaming histogram keeps: exact totals, exact bins at the final width, bounded memory."""

from __future__ import annotations

import json
import math
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from autoprec.errors import DataError, UsageError
from autoprec.ranges.bins import Range
from autoprec.ranges.histogram import DEFAULT_BINS, Histogram

HUGE = float(np.float32(3.4e38))
finite = st.floats(-HUGE, HUGE, width=32) | st.floats(-8, 8, width=32) | st.just(0.0)
arrays = hnp.arrays(np.float32, st.integers(1, 60), elements=finite)
chunks = st.lists(arrays, min_size=1, max_size=6)


def histogram_of(*parts, bins=DEFAULT_BINS):
    histogram = Histogram(bins)
    for part in parts:
        histogram.update(np.asarray(part))
    return histogram


def state(histogram):
    """Everything but the float sums, whose last digits depend on the order of addition."""
    record = histogram.to_record()
    return {key: value for key, value in record.items() if key not in ("sum", "squares")}


class TestTotals:
    @given(chunks)
    def test_count_zeros_extremes_and_sums_are_those_of_all_values(self, parts):
        values = np.concatenate(parts)
        histogram = histogram_of(*parts, bins=64)
        assert histogram.count == values.size
        assert histogram.zeros == np.count_nonzero(values == 0)
        assert histogram.low == values.min()
        assert histogram.high == values.max()
        doubles = [float(v) for v in values]
        size = math.fsum(map(abs, doubles))
        assert histogram.total == pytest.approx(math.fsum(doubles), abs=1e-13 * size)
        assert histogram.squares == pytest.approx(math.fsum(v * v for v in doubles), rel=1e-13)
        assert histogram.mean == pytest.approx(math.fsum(doubles) / values.size, abs=1e-13 * size)

    def test_variance_is_that_of_numpy(self):
        values = np.random.default_rng(0).normal(3, 2, 10_000).astype(np.float32)
        assert histogram_of(values).variance == pytest.approx(values.astype(np.float64).var(), rel=1e-10)


class TestBins:
    @given(chunks, st.sampled_from([16, 64, 1000]))
    def test_growth_loses_no_value_and_every_value_is_in_the_bin_of_the_final_width(self, parts, limit):
        values = np.concatenate(parts).astype(np.float64)
        bins = histogram_of(*parts, bins=limit).bins()
        assert len(bins.counts) <= limit
        assert bins.counts.sum() + bins.zeros == values.size
        index = np.floor(values[values != 0] / bins.width) - bins.first
        expected = np.bincount(index.astype(int), minlength=len(bins.counts))
        assert bins.counts.tolist() == expected.tolist()

    @given(chunks)
    def test_the_edges_are_ascending_within_one_bin_of_each_other_and_end_at_the_extremes(self, parts):
        histogram = histogram_of(*parts, bins=64)
        for bins in (histogram.bins(), histogram.folded()):
            widths = np.diff(bins.edges)
            assert (widths >= 0).all()
            assert (widths <= bins.width).all()
        assert histogram.bins().edges[[0, -1]].tolist() == [histogram.low, histogram.high]

    @given(arrays)
    def test_the_width_is_a_power_of_two_that_uses_more_than_half_of_the_bins(self, values):
        histogram = histogram_of(values, bins=64)
        span, mantissa = histogram.high - histogram.low, histogram.magnitude * 2.0**-23
        assert math.frexp(histogram.bin_width)[0] == 0.5
        assert histogram.bin_width <= max(span * 2 / 62, mantissa, 2.0**-126)

    @given(chunks, st.randoms(use_true_random=False))
    def test_the_order_of_updates_does_not_matter(self, parts, random):
        shuffled = list(np.concatenate(parts))
        random.shuffle(shuffled)
        assert state(histogram_of(*parts, bins=64)) == state(histogram_of(np.array(shuffled), bins=64))

    def test_starting_with_zeros_makes_no_later_bin_coarser(self):
        tiny = np.array([1e-20, 2e-20], np.float32)
        assert state(histogram_of(np.zeros(2, np.float32), tiny)) == state(histogram_of(tiny, [0.0, 0.0]))

    @given(arrays)
    def test_folding_gives_the_bins_of_the_absolute_values(self, values):
        folded = histogram_of(values, bins=64).folded()
        steps = values[values != 0].astype(np.float64) / folded.width
        # A negative value on an edge belongs to the bin on the side of zero.
        index = np.where(steps < 0, np.ceil(-steps) - 1, np.floor(steps))
        expected = np.bincount((index - folded.first).astype(int), minlength=len(folded.counts))
        assert folded.counts.tolist() == expected.tolist()
        assert folded.edges[-1] == np.abs(values).max()

    def test_the_spike_of_relu_is_not_smeared(self):
        values = np.maximum(np.random.default_rng(1).normal(size=10_000), 0).astype(np.float32)
        bins = histogram_of(values, -np.zeros(7, np.float32)).bins()
        assert bins.zeros == np.count_nonzero(values == 0) + 7
        assert bins.counts.sum() == np.count_nonzero(values)
        assert bins.counts[0] == np.count_nonzero((values > 0) & (values < bins.width))

    def test_the_spike_of_relu6_at_its_upper_end_is_a_point(self):
        bins = histogram_of(np.array([0.5, 6, 6, 6], np.float32)).bins()
        assert bins.edges[-2:].tolist() == [6.0, 6.0]
        assert bins.counts[-1] == 3


class TestQuantile:
    @given(chunks, st.integers(0, 64))
    def test_it_is_within_a_bin_of_the_order_statistic(self, parts, numerator):
        values = np.concatenate(parts).astype(np.float64)
        histogram = histogram_of(*parts, bins=64)
        fraction = numerator / 64
        for bins, data in ((histogram.bins(), values), (histogram.folded(), np.abs(values))):
            expected = np.quantile(data, fraction, method="inverted_cdf")
            assert abs(bins.quantile(fraction) - expected) <= bins.width

    def test_on_dense_data_it_is_within_a_bin_of_the_percentile(self):
        values = np.random.default_rng(2).normal(size=200_000).astype(np.float32)
        bins = histogram_of(*np.split(values, 10)).bins()
        for percent in (1, 10, 50, 90, 99):
            assert abs(bins.quantile(percent / 100) - np.percentile(values, percent)) <= bins.width

    @given(arrays)
    def test_its_ends_are_the_extremes(self, values):
        bins = histogram_of(values).bins()
        assert (bins.quantile(0.0), bins.quantile(1.0)) == (values.min(), values.max())


class TestMerge:
    @given(arrays, arrays)
    def test_it_equals_counting_everything_in_one(self, left, right):
        merged = histogram_of(left, bins=64)
        merged.merge(histogram_of(right, bins=64))
        assert state(merged) == state(histogram_of(left, right, bins=64))

    def test_with_itself_doubles_every_count(self):
        histogram, once = histogram_of([-1.0, 0.0, 2.5]), histogram_of([-1.0, 0.0, 2.5])
        histogram.merge(histogram)
        assert (histogram.count, histogram.zeros, histogram.total) == (6, 2, 3.0)
        assert histogram.bins().counts.tolist() == (2 * once.bins().counts).tolist()

    def test_with_an_empty_one_changes_nothing_and_into_an_empty_one_copies(self):
        full, empty = histogram_of([-1.0, 0.0, 2.5]), Histogram()
        before = full.to_record()
        full.merge(empty)
        empty.merge(full)
        assert before == full.to_record() == empty.to_record()

    def test_of_different_sizes_is_refused(self):
        with pytest.raises(UsageError, match="same number of bins, got 64 and 8192"):
            Histogram(64).merge(Histogram())


class TestRecord:
    @given(chunks)
    def test_it_survives_json(self, parts):
        histogram = histogram_of(*parts, bins=64)
        record = json.loads(json.dumps(histogram.to_record(), allow_nan=False))
        assert Histogram.from_record(record).to_record() == histogram.to_record()

    def test_an_empty_one_survives_and_goes_on_counting(self):
        restored = Histogram.from_record(json.loads(json.dumps(Histogram().to_record(), allow_nan=False)))
        restored.update(np.array([3.0], np.float32))
        assert restored.to_record() == histogram_of([3.0]).to_record()

    @pytest.mark.parametrize(
        "change",
        [
            {"counts": "####"},
            {"counts": "AAAA"},
            {"count": 2},
            {"zeros": -1},
            {"first": 12345},
            {"bins": 3},
            {"high": "x"},
            {"low": math.inf},
            {"counts": None},
        ],
        ids=str,
    )
    def test_a_damaged_one_is_refused(self, change):
        record = histogram_of([1.0, 2.0, 0.0]).to_record() | change
        with pytest.raises(DataError, match=r"histogram's record must .* calibrate again"):
            Histogram.from_record(record)

    def test_one_with_a_key_missing_is_refused(self):
        record = histogram_of([1.0]).to_record()
        del record["squares"]
        with pytest.raises(DataError, match="squares"):
            Histogram.from_record(record)

    def test_a_small_text_cannot_unpack_to_more_than_the_bins(self):
        record = histogram_of([1.0]).to_record() | {"bins": 16}
        with pytest.raises(DataError, match="16 counts"):
            Histogram.from_record(record)


class TestInput:
    @pytest.mark.parametrize(
        ("bad", "words"),
        [
            ([1.0, np.nan, np.inf], "got NaN among 2 of 3"),
            ([1.0, -np.inf], "got infinity among 1 of 2"),
            (np.array([1e300]), "got infinity among 1 of 1"),
        ],
    )
    def test_values_that_are_not_finite_are_refused_and_change_nothing(self, bad, words):
        histogram = histogram_of([1.0, 2.0])
        before = histogram.to_record()
        with pytest.raises(DataError, match=words):
            histogram.update(np.asarray(bad))
        assert histogram.to_record() == before

    @pytest.mark.parametrize("bad", [np.array(["a"]), np.array([1j]), np.array([None]), np.zeros(2, "f4,f4")])
    def test_values_that_are_no_real_numbers_are_refused(self, bad):
        with pytest.raises(DataError, match="must be real numbers"):
            Histogram().update(bad)

    @pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, np.int8, np.uint8, np.int64, bool])
    def test_every_real_type_counts_as_its_float32_values(self, dtype):
        values = np.arange(-3, 120).astype(dtype)
        assert histogram_of(values).to_record() == histogram_of(values.astype(np.float32)).to_record()

    def test_shape_and_strides_do_not_matter(self):
        values = np.random.default_rng(3).normal(size=(6, 50, 70)).astype(np.float32)
        expected = state(histogram_of(values.ravel()))
        assert state(histogram_of(values.transpose(2, 0, 1))) == expected
        assert state(histogram_of(values[:, ::2], values[:, 1::2])) == expected
        assert state(histogram_of(values[..., ::-1])) == expected

    def test_an_array_without_elements_changes_nothing(self):
        assert histogram_of(np.zeros((0, 3), np.float32)).to_record() == Histogram().to_record()

    def test_arrays_larger_than_a_chunk_are_counted_whole(self):
        values = np.random.default_rng(4).normal(size=300_001).astype(np.float32)
        bins = histogram_of(values).bins()
        index = np.floor(values.astype(np.float64) / bins.width) - bins.first
        assert bins.counts.tolist() == np.bincount(index.astype(int)).tolist()

    def test_a_negative_value_that_underflows_beside_a_huge_one_is_still_counted(self):
        histogram = histogram_of(np.array([-3e38, -1e-45], np.float32))
        assert histogram.bins().counts.sum() == 2

    def test_an_empty_histogram_has_no_bins(self):
        with pytest.raises(DataError, match="at least one value, got none"):
            Histogram().bins()

    def test_too_few_bins_are_refused(self):
        with pytest.raises(UsageError, match="at least 16 bins, got 4"):
            Histogram(4)


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (math.nan, 1.0), (0.0, math.inf)])
def test_a_range_that_is_none_is_refused(low, high):
    with pytest.raises(DataError, match="finite ends with low <= high"):
        Range(low, high)


def peak_bytes(batches):
    rng = np.random.default_rng(5)
    batch = rng.normal(size=(8, 50, 64)).astype(np.float32)
    histogram = Histogram()
    tracemalloc.start()
    try:
        for step in range(batches):
            histogram.update(batch)
            batch *= np.float32(1.0 + 0.1 * (step % 2))  # the range grows on and on
        return tracemalloc.get_traced_memory()[1], histogram
    finally:
        tracemalloc.stop()


def test_peak_memory_is_the_same_for_ten_times_the_samples():
    """Streaming 10 N samples peaks where N did, far below what was streamed, and the state is as large."""
    peak_bytes(1)  # whatever the libraries allocate once
    short, few = peak_bytes(20)
    long, many = peak_bytes(200)
    assert many.count == 10 * few.count
    assert long <= short + 16_384
    assert long < 200 * 8 * 50 * 64 * 4 / 20
    assert few.nbytes == many.nbytes == Histogram().nbytes == 8 * DEFAULT_BINS
